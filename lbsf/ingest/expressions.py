"""The expressions of a mapping: which functions they may use, and how they read times.

An expression computes a column of a row from that row alone. Spark's analysed plan is checked against a list of allowed
functions. All else is refused: reflection, subqueries, functions of the current user or time, random numbers,
aggregates, generators, user-defined functions, functions that raise errors. The same walk makes each cast from text to
a time accept only full dates, and each to_utc_timestamp accept only local times that existed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.column import _to_seq  # type: ignore[attr-defined]

from lbsf.ingest.times import Clock, holds_time, is_full, is_full_text, literal_fault, pattern_fault, reads_offset

_PACKAGE = "org.apache.spark.sql.catalyst.expressions."
# Catalyst's classes of all functions and operators that a mapping may use. Each is deterministic and depends on its
# arguments alone.
_FUNCTIONS = """
    Alias AttributeReference Literal TypedNullLiteral Cast TryEval LambdaFunction NamedLambdaVariable
    GetStructField GetArrayItem GetArrayStructFields GetMapValue

    And Or Not EqualTo EqualNullSafe EqualNull LessThan LessThanOrEqual GreaterThan GreaterThanOrEqual In IsNull
    IsNotNull IsNaN Like ILike RLike LikeAll LikeAny NotLikeAll NotLikeAny
    Coalesce If CaseWhen Nvl Nvl2 NullIf NaNvl Greatest Least

    Add Subtract Multiply Divide IntegralDivide Remainder Pmod UnaryMinus UnaryPositive TryAdd TrySubtract TryMultiply
    TryDivide CheckOverflow Abs Signum Round BRound RoundCeil RoundFloor Ceil Floor Rint Sqrt Cbrt Exp Expm1 Log Log1p
    Log2 Log10 Logarithm Pow Hypot Conv Bin Hex Unhex WidthBucket
    BitwiseAnd BitwiseOr BitwiseXor BitwiseNot BitwiseCount BitwiseGet ShiftLeft ShiftRight ShiftRightUnsigned

    Concat ConcatWs Lower Upper InitCap Length BitLength OctetLength StringTrim StringTrimBoth StringTrimLeft
    StringTrimRight StringLPad StringRPad StringRepeat StringReplace StringSpace StringSplit StringSplitSQL SplitPart
    StringTranslate StringInstr StringLocate Substring SubstringIndex Left Right Overlay Reverse Ascii Chr Elt
    FindInSet Contains StartsWith EndsWith Levenshtein SoundEx Luhncheck Mask FormatNumber FormatString
    RegExpReplace RegExpExtract RegExpExtractAll RegExpCount RegExpInStr RegExpSubStr
    Base64 UnBase64 Encode Decode StringDecode ToBinary TryToBinary ToCharacter ToNumber TryToNumber
    UrlEncode UrlDecode ParseUrl Crc32 Md5 Sha1 Sha2 Murmur3Hash XxHash64

    ParseToTimestamp ParseToDate GetTimestamp UnixTimestamp ToUnixTimestamp FromUnixTime DateFormatClass
    ToUTCTimestamp FromUTCTimestamp SecondsToTimestamp MillisToTimestamp MicrosToTimestamp UnixSeconds UnixMillis
    UnixMicros UnixDate DateFromUnixDate MakeDate MakeTimestamp MakeInterval MakeDTInterval MakeYMInterval
    Year Quarter Month WeekOfYear WeekDay DayOfMonth DayOfWeek DayOfYear Hour Minute Second SecondWithFraction
    YearOfWeek Extract DatePart LastDay NextDay AddMonths MonthsBetween DateAdd DateSub DateDiff TruncDate
    TruncTimestamp TimeAdd TimestampAdd TimestampDiff TimestampAddYMInterval DateAddInterval DateAddYMInterval
    DatetimeSub SubtractDates SubtractTimestamps

    CreateArray ArrayAppend ArrayCompact ArrayContains ArrayDistinct ArrayExcept ArrayInsert ArrayIntersect ArrayJoin
    ArrayMax ArrayMin ArrayPosition ArrayPrepend ArrayRemove ArrayUnion ArraysOverlap ArraysZip ArraySize Size Flatten
    Get Slice SortArray ArraySort ArrayAggregate ArrayExists ArrayFilter ArrayForAll ArrayTransform ZipWith
    ElementAt TryElementAt CreateMap MapConcat MapContainsKey MapEntries MapFilter MapFromArrays MapFromEntries MapKeys
    MapValues MapZipWith StringToMap TransformKeys TransformValues CreateNamedStruct
    JsonToStructs StructsToJson GetJsonObject LengthOfJsonArray JsonObjectKeys CsvToStructs StructsToCsv
"""
_ALLOWED = frozenset(_FUNCTIONS.split())
# Some of the allowed functions are implemented as a call of one of Spark's own static methods.
_STATIC_INVOKE = f"{_PACKAGE}objects.StaticInvoke"
_SUBQUERIES = ("ScalarSubquery", "Exists", "InSubquery", "ListQuery", "LateralSubquery")
_NUMBERS = ("TINYINT", "SMALLINT", "INT", "BIGINT", "FLOAT", "DOUBLE", "BOOLEAN", "DECIMAL")
_TIMES = ("DATE", "TIMESTAMP", "TIMESTAMP_NTZ")


class ExpressionRefusedError(Exception):
    """Raised where an expression does what a mapping may not. The message continues after the expression's text."""


@dataclass
class Computed:
    """An expression over a source.

    Attributes:
        column: value of the expression.
        twice: for each to_utc_timestamp, whether its local time occurred twice, because clocks went back.
        never: for each to_utc_timestamp, whether its local time never occurred, because clocks went forward.
    """

    column: Column
    twice: list[Column] = field(default_factory=list)
    never: list[Column] = field(default_factory=list)


def compute(source: DataFrame, expression: str, to: str | None = None) -> Computed:
    """Return the checked expression over the rows of the source.

    Args:
        source: rows as they were read.
        expression: Spark SQL.
        to: type that the value is cast to, where given; text that cannot be cast becomes null.

    Raises:
        ExpressionRefusedError: the expression does what a mapping may not.
        AnalysisException: the expression is not valid SQL or does not fit the source's columns.
    """
    if fault := literal_fault(expression):
        raise ExpressionRefusedError(f"cannot be used: {fault}")
    column = F.expr(expression)
    plan = source.select(column if to is None else column.cast(to))._jdf.queryExecution().analyzed()
    if plan.getClass().getSimpleName() != "Project":
        raise ExpressionRefusedError("reads other rows than its own, which a mapping may not")
    walk = _Walk(source)
    expressions = _listed(plan.projectList())
    if len(expressions) != 1:
        raise ExpressionRefusedError(f"gives {len(expressions)} columns, not one")
    rebuilt = walk.rebuilt(expressions[0])
    return Computed(walk.column(rebuilt), walk.twice, walk.never)


class _Walk:
    """Walks through an analysed expression, refuses what is not allowed, and rebuilds it with checked times."""

    def __init__(self, source: DataFrame):
        self._context = source.sparkSession.sparkContext
        self._jvm: Any = cast(Any, source.sparkSession._jvm)
        self._replaceable = self._jvm.java.lang.Class.forName(f"{_PACKAGE}RuntimeReplaceable")
        output = source._jdf.queryExecution().analyzed().output()
        self._columns = {attribute.exprId().toString() for attribute in _listed(output)}
        self._in_lambda = False
        self.twice: list[Column] = []
        self.never: list[Column] = []

    def column(self, node: Any) -> Column:
        """Return a Catalyst node as a column."""
        return Column(self._jvm.org.apache.spark.sql.Column(node))

    def rebuilt(self, node: Any, clock: Clock = Clock.ANY) -> Any:
        """Return the node rebuilt so that it reads text as a time only if it is a full date of the kind `clock`."""
        name = self._allowed_class(node)
        if self._replaceable.isInstance(node):
            # The casts are in the replacement, not among the node's children; the optimizer replaces the node too.
            return self.rebuilt(node.replacement(), clock)
        special = {
            "Cast": self._cast,
            "GetTimestamp": self._parsed,
            "UnixTimestamp": self._parsed,
            "ToUnixTimestamp": self._parsed,
            "ToUTCTimestamp": self._to_utc,
            "MakeTimestamp": self._made,
            "JsonToStructs": self._structs,
            "CsvToStructs": self._structs,
            "LambdaFunction": self._lambda,
        }.get(name)
        return self._with_children(node, clock) if special is None else special(node, clock)

    def _allowed_class(self, node: Any) -> str:
        full = str(node.getClass().getName())
        name = full.removeprefix(_PACKAGE)
        if name in _ALLOWED:
            if name == "AttributeReference" and not self._of_the_row(node):
                raise ExpressionRefusedError("makes rows, or reads other rows than its own, which a mapping may not")
            return name
        if full == _STATIC_INVOKE and str(node.staticObject().getName()).startswith("org.apache.spark.sql.catalyst."):
            return name
        if name in _SUBQUERIES:
            raise ExpressionRefusedError("reads other rows than its own by a subquery, which a mapping may not")
        raise ExpressionRefusedError(
            f"uses {node.prettyName()}, which a mapping may not: it computes a value from its row alone"
        )

    def _of_the_row(self, attribute: Any) -> bool:
        return attribute.exprId().toString() in self._columns or attribute.name() == "_metadata"

    def _with_children(self, node: Any, clock: Clock) -> Any:
        before = _listed(node.children())
        after = [self.rebuilt(child, clock) for child in before]
        if all(new is old for new, old in zip(after, before, strict=True)):
            return node
        return node.withNewChildren(_to_seq(self._context, after))

    def _lambda(self, node: Any, clock: Clock) -> Any:
        outside, self._in_lambda = self._in_lambda, True
        rebuilt = self._with_children(node, clock)
        self._in_lambda = outside
        return rebuilt

    def _cast(self, node: Any, clock: Clock) -> Any:
        """Rebuild a cast so that text other than a full date of the kind `clock` is null, not today or 1 January."""
        to, child = node.dataType().sql(), node.child()
        origin = child.dataType().sql()
        if holds_time(to):
            raise ExpressionRefusedError(f"casts to {to}: cast each element by itself")
        if to in _TIMES and origin.split("(")[0] in _NUMBERS:
            raise ExpressionRefusedError(
                "takes a number for a time: say its unit with timestamp_seconds(...) or timestamp_millis(...)"
            )
        rebuilt = self._with_children(node, clock)
        if to not in _TIMES or origin != "STRING":
            return rebuilt
        if (text := _literal(child)) is not None and not is_full_text(text, to):
            raise ExpressionRefusedError(f"takes {text!r} for a time, which is no full date")
        return F.when(is_full(self.column(rebuilt.child()), to, clock), self.column(rebuilt))._jc.expr()  # type: ignore[operator]

    def _parsed(self, node: Any, clock: Clock) -> Any:
        left, right = _listed(node.children())
        if left.dataType().sql() == "STRING":
            pattern = _literal(right)
            if pattern is None:
                raise ExpressionRefusedError("takes a time's pattern from the row: write it as text")
            if fault := pattern_fault(pattern):
                raise ExpressionRefusedError(f"cannot be used: {fault}")
            if clock is not Clock.ANY and reads_offset(pattern):
                raise ExpressionRefusedError(
                    f"cannot be used: pattern {pattern!r} reads an offset, which to_utc_timestamp would apply again: "
                    "leave to_utc_timestamp out"
                )
            if clock is Clock.INSTANT:
                return F.lit(None).cast(node.dataType().sql())._jc.expr()  # type: ignore[operator]
        return self._with_children(node, clock)

    def _made(self, node: Any, clock: Clock) -> Any:
        if len(_listed(node.children())) > 6:
            raise ExpressionRefusedError(
                "gives make_timestamp a time zone: use to_utc_timestamp(make_timestamp(...), zone)"
            )
        return self._with_children(node, clock)

    def _structs(self, node: Any, clock: Clock) -> Any:
        if holds_time(f"<{node.dataType().sql()}"):
            raise ExpressionRefusedError(
                f"reads times by {node.prettyName()}: declare them string in its schema, and cast them"
            )
        return self._with_children(node, clock)

    def _to_utc(self, node: Any, clock: Clock) -> Any:
        """Rebuild a conversion from local time to UTC.

        A local time that occurred twice is read as the first, and one that never occurred is null. Text with an offset
        of its own keeps it.
        """
        if self._in_lambda or clock is not Clock.ANY:
            raise ExpressionRefusedError("uses to_utc_timestamp within a function of arrays or within itself")
        time, zone = _listed(node.children())
        local, instant = self.column(self.rebuilt(time, Clock.LOCAL)), self.column(self.rebuilt(time, Clock.INSTANT))
        zone_column = self.column(self.rebuilt(zone))
        first = F.to_utc_timestamp(local, zone_column)
        never = F.from_utc_timestamp(first, zone_column) != local
        # The second reading of a repeated hour has the UTC offset of the following day.
        after = F.unix_micros(first) + F.lit(86_400_000_000)
        offset = F.unix_micros(F.from_utc_timestamp(F.timestamp_micros(after), zone_column)) - after
        second = F.timestamp_micros(F.unix_micros(local) - offset)
        self.never.append(never)
        self.twice.append((second != first) & (F.from_utc_timestamp(second, zone_column) == local))
        utc = F.when(local.isNull(), instant).when(~never, first)
        return utc._jc.expr()  # type: ignore[operator]


def _literal(node: Any) -> str | None:
    """Return the text of a string literal; None for any other node."""
    if node.getClass().getName() != f"{_PACKAGE}Literal" or node.dataType().sql() != "STRING" or node.value() is None:
        return None
    return str(node.value().toString())


def _listed(sequence: Any) -> Sequence[Any]:
    """Return a Scala sequence as a list."""
    return [sequence.apply(place) for place in range(sequence.size())]
