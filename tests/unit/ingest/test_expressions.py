"""Mapping expressions: what they may do, what each text and pattern is as a time, local times when clocks change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lbsf.errors import InputError
from lbsf.ingest import find_delivery, load_mapping, read_source
from lbsf.ingest.expressions import ExpressionRefusedError, compute
from lbsf.schemas import PAYMENTS

PAYMENT = {
    "payment_id": "id",
    "user_id": "id",
    "merchant_id": "id",
    "paid_at": "at",
    "amount": "1",
    "currency": "'EUR'",
}


@pytest.fixture(scope="module")
def source(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> DataFrame:
    """One row of a file: text, a number, an instant, an array of texts."""
    folder = tmp_path_factory.mktemp("expressions")
    row = (
        "SELECT '2025-07-01 12:00:00' at, '7,50' value, 5L n, timestamp'2025-07-01 12:00:00' booked, array('a', 'b') xs"
    )
    spark.sql(row).write.parquet(str(folder / "rows"))
    return spark.read.parquet(str(folder / "rows"))


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        # What reaches out of the row.
        ("reflect('java.lang.System', 'getProperty', 'user.home')", "uses reflect,"),
        ("java_method('java.lang.Runtime', 'version')", "uses java_method,"),
        ("identifier('reflect')('java.lang.System', 'lineSeparator')", "uses reflect,"),
        ("(select max(n) from json.`/etc/hosts`)", ""),
        ("(select 1)", "reads other rows than its own by a subquery"),
        ("exists(select 1)", "reads other rows than its own by a subquery"),
        ("n in (select n from range(3) as t(n))", "reads other rows than its own by a subquery"),
        ("max(at)", "reads other rows than its own"),
        ("first(at)", "reads other rows than its own"),
        ("row_number() over (order by at)", "reads other rows than its own"),
        ("explode(xs)", "makes rows, or reads other rows than its own"),
        ("inline(array(struct(1), struct(2)))", "makes rows, or reads other rows than its own"),
        ("window(booked, '1 day').start", "makes rows, or reads other rows than its own"),
        ("struct(*).*", ""),
        ("spark_partition_id()", "uses SPARK_PARTITION_ID,"),
        ("input_file_name()", "uses input_file_name,"),
        ("of_the_session(at)", "uses "),
        # What differs from run to run.
        ("rand()", "uses rand,"),
        ("uuid()", "uses uuid,"),
        ("shuffle(xs)[0]", "uses shuffle,"),
        ("monotonically_increasing_id()", "uses monotonically_increasing_id,"),
        ("aes_encrypt(at, '0000111122223333')", "uses aes_encrypt,"),
        ("now()", "uses now,"),
        ("current_timestamp()", "uses current_timestamp,"),
        ("current_date", "uses current_date,"),
        ("localtimestamp()", "uses localtimestamp,"),
        ("datediff(curdate(), booked)", "uses current_date,"),
        ("unix_timestamp()", "uses current_timestamp,"),
        ("current_user()", "uses current_user,"),
        ("current_database()", "uses current_database,"),
        ("timestamp 'now'", "'now' is no full date"),
        ('greatest(booked, date "today")', '"today" is no full date'),
        ("cast('tomorrow' as date)", "takes 'tomorrow' for a time, which is no full date"),
        ("booked > 'yesterday'", "takes 'yesterday' for a time, which is no full date"),
        # What ends the run on purpose.
        ("raise_error('stop')", "uses raise_error,"),
        ("assert_true(n > 9)", "uses assert_true,"),
        # What is no full date.
        ("to_timestamp(at, 'HH:mm')", "pattern 'HH:mm' has no full date (year, month and day)"),
        ("to_date(at, 'yyyy')", "pattern 'yyyy' has no full date"),
        ("try_to_timestamp(at, 'MM-dd HH:mm')", "pattern 'MM-dd HH:mm' has no full date"),
        ("unix_timestamp(at, 'HH')", "pattern 'HH' has no full date"),
        ("to_unix_timestamp(at, 'yyyy-MM')", "pattern 'yyyy-MM' has no full date"),
        ("to_timestamp(at, '[yyyy-MM-dd ]HH:mm')", "has no full date"),
        ("to_timestamp(at, \"yyyy 'M d' HH\")", "has no full date"),
        ("to_timestamp(at, 'yyyy-MM-dd hh:mm')", "has an hour of the half day (h) without a"),
        ("to_timestamp(at, 'yyyy-MM-dd HH:mm VV')", "reads a zone's name"),
        ("to_timestamp(at, at)", "takes a time's pattern from the row"),
        ("timestamp '2025-07'", "'2025-07' is no full date"),
        ("cast('12:30' as timestamp)", "takes '12:30' for a time"),
        ("cast(n as timestamp)", "takes a number for a time"),
        ("to_timestamp(n)", "takes a number for a time"),
        ("cast(xs as array<timestamp>)", "cast each element by itself"),
        ("from_json(at, 'a timestamp').a", "reads times by from_json"),
        ("from_csv(at, 'a date').a", "reads times by from_csv"),
        # Local times that would be counted by nobody, or shifted twice.
        ("make_timestamp(2025, 1, 1, 1, 1, 1, 'Europe/Berlin')", "gives make_timestamp a time zone"),
        ("convert_timezone('Europe/Berlin', 'UTC', to_timestamp_ntz(at))", "uses convert_timezone,"),
        ("to_utc_timestamp(to_timestamp(at, 'yyyy-MM-dd HH:mmXXX'), 'Europe/Berlin')", "which to_utc_timestamp would"),
        (
            "to_utc_timestamp(to_timestamp(at, 'yyyy-MM-dd HH:mm[XXX]'), 'Europe/Berlin')",
            "which to_utc_timestamp would",
        ),
        ("transform(xs, x -> to_utc_timestamp(x, 'Europe/Berlin'))[0]", "within a function of arrays"),
    ],
)
def test_what_a_mapping_may_not_do_is_refused(
    spark: SparkSession, source: DataFrame, expression: str, words: str
) -> None:
    spark.udf.register("of_the_session", lambda text: text, "string")
    with pytest.raises((ExpressionRefusedError, AnalysisException)) as refused:
        compute(source, expression)
    if words:
        assert refused.type is ExpressionRefusedError
        assert words in str(refused.value)


ALLOWED = {
    "at": "2025-07-01 12:00:00",
    "-cast(replace(replace(value, '.', ''), ',', '.') as decimal(18,2))": "-7.50",
    "CASE value WHEN 'x' THEN 'pos' WHEN '7,50' THEN 'online' ELSE lower(at) END": "online",
    "if(n in (5, 6) and value like '7%' and not isnull(at), nvl(nullif(at, ''), 'x'), null)": "2025-07-01 12:00:00",
    "concat_ws('|', upper(xs[0]), element_at(xs, -1), n, trim(' x '), left(at, 4))": "A|b|5|x|2025",
    "split_part(at, ' ', 2)": "12:00:00",
    "sha2(concat(at, ':', n), 256) = sha2('2025-07-01 12:00:00:5', 256)": "true",
    "aggregate(transform(xs, x -> length(x)), 0, (a, x) -> a + x)": "2",
    "get_json_object('{\"a\": {\"b\": 3}}', '$.a.b')": "3",
    "from_json('{\"a\": 3}', 'a int').a": "3",
    "try_divide(n, 2) + pmod(n, 3) + round(2.55, 1) + abs(-1)": "8.1",
    "regexp_extract(at, '([0-9]+)-', 1) || lpad(n, 3, '0')": "2025005",
    "date_format(booked + interval 90 minutes, 'HH:mm')": "13:30",
    "extract(month from booked) + date_part('day', date_add(booked, 1)) + dayofweek(booked)": "12",
    "datediff(booked, '2025-06-30')": "1",
    "date_trunc('MONTH', booked) = timestamp '2025-07-01 00:00:00' and booked >= date '2025-07-01'": "true",
    "to_timestamp(at)": "2025-07-01 12:00:00",
    "cast(timestamp_seconds(1751371200 + n) as string)": "2025-07-01 12:00:05",
    "cast(from_unixtime(1751371200) as timestamp)": "2025-07-01 12:00:00",
    "to_date('2025-182', 'yyyy-DDD')": "2025-07-01",
    "to_timestamp('01.07.2025 01:05 PM', 'dd.MM.yyyy hh:mm a')": "2025-07-01 13:05:00",
    "to_timestamp('2025-07-01T14:00:00+0200', \"yyyy-MM-dd'T'HH:mm:ssZ\")": "2025-07-01 12:00:00",
    "to_timestamp('20250701', 'yyyyMMdd[HHmm]')": "2025-07-01 00:00:00",
    "make_timestamp(2025, 7, 1, 12, 0, 0)": "2025-07-01 12:00:00",
    "from_utc_timestamp(booked, 'Europe/Berlin')": "2025-07-01 14:00:00",
    "length(_metadata.file_name) > 9": "true",
}  # fmt: skip


def test_what_a_mapping_may_do_gives_its_values(source: DataFrame) -> None:
    columns = [compute(source, one).column.cast("string").alias(f"c{place}") for place, one in enumerate(ALLOWED)]
    found = source.select(*columns).head()
    assert found is not None
    assert dict(zip(ALLOWED, found, strict=True)) == ALLOWED


# Text -> the instant that each way to ask makes of it; None: no full date.
TEXTS: dict[str | None, str | None] = {
    "2025-07-01 12:30:00": "2025-07-01 12:30:00",
    "2025-07-01T12:30": "2025-07-01 12:30:00",
    "2025-7-1 1:05:09.5": "2025-07-01 01:05:09.5",
    " 2025-07-01 12:30:00 ": "2025-07-01 12:30:00",
    "2025-07-01": "2025-07-01 00:00:00",
    "2025-07-01T12:30:00+02:00": "2025-07-01 10:30:00",
    "2025-07-01 12:30:00 UTC": "2025-07-01 12:30:00",
    "2025-07-01T12:30:00.25Z": "2025-07-01 12:30:00.25",
    "12:30": None,
    " 12:30:00": None,
    "T12:30": None,
    "2025": None,
    "2025-07": None,
    "202507": None,
    "2025-07-01 ": None,
    "2025-07-01T": None,
    "2025-07-01 12": None,
    "2025-02-30 12:30:00": None,
    "2025-07-01 25:00:00": None,
    "2025-07-01 12:30:00 Europe/Berlin": None,
    "today": None,
    "now": None,
    "": None,
    None: None,
}
WAYS = (
    "text",
    "to_timestamp(text)",
    "try_to_timestamp(text)",
    "try_cast(text as timestamp)",
    "timestamp(text)",
    "coalesce(null, text + interval 0 hours)",
    "if(text <=> cast(null as timestamp), null, date_trunc('MICROSECOND', text))",
    "to_timestamp_ltz(text)",
    "element_at(transform(array(text), x -> cast(x as timestamp)), 1)",
)


def test_only_a_full_date_is_a_time_however_it_is_asked_for(spark: SparkSession) -> None:
    rows = spark.createDataFrame([(text,) for text in TEXTS], "text string")
    ways = [compute(rows, way, "timestamp").column.cast("string").alias(f"w{place}") for place, way in enumerate(WAYS)]
    for row in rows.select("text", *ways).collect():
        assert list(row)[1:] == [TEXTS[row["text"]]] * len(WAYS), row["text"]


def test_a_day_is_a_full_date_and_no_other_zone_s(spark: SparkSession) -> None:
    texts = {
        "2025-07-01": "2025-07-01",
        "2025-07-01 ": "2025-07-01",
        "2025-07-01 23:30:00": "2025-07-01",
        "2025-07-01T23:30:00Z": "2025-07-01",
        "2025-07-01T23:30:00-05:00": None,
        "2025-07-01 nonsense": None,
        "2025-07": None,
        "2025": None,
    }
    rows = spark.createDataFrame([(text,) for text in texts], "text string")
    ways = ("text", "to_date(text)", "try_cast(text as date)", "date(text)")
    columns = [compute(rows, way, "date").column.cast("string").alias(f"w{place}") for place, way in enumerate(ways)]
    # The day in UTC of a text with an offset is asked for by its instant.
    columns.append(compute(rows, "to_date(to_timestamp(text))", "date").column.cast("string").alias("utc"))
    for row in rows.select("text", *columns).collect():
        assert list(row)[1:-1] == [texts[row["text"]]] * len(ways), row["text"]
        if row["text"].endswith("-05:00"):
            assert row["utc"] == "2025-07-02"


# In Berlin the clocks of 2025 go forward on 30 March at 02:00 and back on 26 October at 03:00.
LOCAL: dict[str, tuple[str | None, str | None]] = {
    "2025-07-01 12:00:00": ("2025-07-01 10:00:00", None),
    "2025-03-30 01:59:59": ("2025-03-30 00:59:59", None),
    "2025-03-30 02:00:00": (None, "never was"),
    "2025-03-30 02:59:59": (None, "never was"),
    "2025-03-30 03:00:00": ("2025-03-30 01:00:00", None),
    "2025-10-26 01:59:59": ("2025-10-25 23:59:59", None),
    # The first reading, that of summer time.
    "2025-10-26 02:00:00": ("2025-10-26 00:00:00", "ambiguous"),
    "2025-10-26 02:59:59": ("2025-10-26 00:59:59", "ambiguous"),
    "2025-10-26 03:00:00": ("2025-10-26 02:00:00", None),
    # A text's own offset stands, in the repeated hour too.
    "2025-07-01T12:00:00+02:00": ("2025-07-01 10:00:00", None),
    "2025-10-26T02:30:00+02:00": ("2025-10-26 00:30:00", None),
    "2025-10-26T02:30:00+01:00": ("2025-10-26 01:30:00", None),
    "2025-03-30T02:30:00Z": ("2025-03-30 02:30:00", None),
    "12:30": (None, None),
}


@pytest.mark.parametrize(
    "way",
    [
        "to_utc_timestamp(at, 'Europe/Berlin')",
        "to_utc_timestamp(to_timestamp(at), zone)",
        "to_utc_timestamp(coalesce(try_to_timestamp(at, 'dd.MM.yyyy'), cast(at as timestamp)), 'Europe/Berlin')",
        # The other branch's clocks change at the same local hours.
        "if(zone = 'Europe/Berlin', to_utc_timestamp(at, zone), to_utc_timestamp(at, 'Europe/Paris'))",
    ],
)
def test_local_times_when_clocks_change(spark: SparkSession, tmp_path: Path, way: str) -> None:
    lines = [f"{at},Europe/Berlin" for at in LOCAL]
    found = read(spark, tmp_path, ["id,zone", *lines], way, header="at,zone", id="at")
    assert {row["payment_id"]: (text(row["paid_at"]), row["local_time"]) for row in found} == LOCAL


def test_a_zone_whose_clocks_change_by_half_an_hour_and_one_that_left_out_a_day(
    spark: SparkSession, tmp_path: Path
) -> None:
    lines = [
        "2025-04-06 01:29:59,Australia/Lord_Howe",
        "2025-04-06 01:30:00,Australia/Lord_Howe",
        "2025-10-05 02:29:59,Australia/Lord_Howe",
        "2011-12-30 12:00:00,Pacific/Apia",
        "2025-10-26 02:30:00,Asia/Tokyo",
    ]
    found = read(spark, tmp_path, ["id,zone", *lines], "to_utc_timestamp(at, zone)", header="at,zone", id="at")
    assert {row["payment_id"]: row["local_time"] for row in found} == dict(
        zip([line.split(",")[0] for line in lines], [None, "ambiguous", "never was", "never was", None], strict=True)
    )


def read(spark: SparkSession, folder: Path, lines: list[str], way: str, *, header: str, id: str) -> list[Any]:
    """The rows of a CSV file whose paid_at is computed by `way`."""
    (folder / "raw.csv").write_text("\n".join([header, *lines[1:]]) + "\n")
    columns = {**PAYMENT, "payment_id": id, "user_id": id, "merchant_id": id, "paid_at": way}
    return read_mapped(spark, mapping(folder, columns=columns)).collect()


def read_mapped(spark: SparkSession, file: Path) -> DataFrame:
    source = load_mapping(file, PAYMENTS)
    return read_source(spark, source, find_delivery(spark, source, "/none"))


def mapping(folder: Path, **changes: Any) -> Path:
    values = {"name": "bank", "table": "payments", "format": "csv", "path": f"{folder}/raw.csv", "columns": PAYMENT}
    file = folder / "bank.yaml"
    file.write_text(yaml.safe_dump({**values, "options": {"header": True}} | changes))
    return file


def text(value: Any) -> str | None:
    return None if value is None else str(value)


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": "id string, at timestamp"},
        {"format": "json", "options": {}, "schema": "id string, at struct<a: date>"},
    ],
    ids=["schema", "json"],
)
def test_a_reader_that_makes_times_of_text_is_refused(
    spark: SparkSession, tmp_path: Path, changes: dict[str, Any]
) -> None:
    (tmp_path / "raw.csv").write_text("id,at\n1,12:30\n" if "json" not in changes.values() else '{"id": 1}\n')
    with pytest.raises(InputError, match="at: the reader would take 12:30 for today at 12:30"):
        read_mapped(spark, mapping(tmp_path, **changes))


def test_a_day_of_a_partition_folder_is_no_reader_s_guess(spark: SparkSession, tmp_path: Path) -> None:
    for folder in ("day=2025-01-01", "day=2025-01-02"):
        (tmp_path / "raw" / folder).mkdir(parents=True)
        (tmp_path / "raw" / folder / "a.csv").write_text("id,at\n1,x\n")
    file = mapping(tmp_path, path=f"{tmp_path}/raw", columns={**PAYMENT, "paid_at": "day"})
    found = read_mapped(spark, file).orderBy("paid_at").collect()
    assert [str(row["paid_at"]) for row in found] == ["2025-01-01 00:00:00", "2025-01-02 00:00:00"]


def test_a_refusal_names_the_file_the_column_and_the_expression(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "raw.csv").write_text("id,at\n1,2025-07-01\n")
    file = mapping(tmp_path, columns={**PAYMENT, "description": "raise_error(id)"})
    with pytest.raises(InputError) as refused:
        read_mapped(spark, file)
    assert str(refused.value) == (
        f"{file}: column description: 'raise_error(id)' uses raise_error, which a mapping may not: it computes a value "
        "from its row alone"
    )


def test_flags_are_null_where_no_local_time_is_read(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "raw.csv").write_text("id,at\n1,2025-10-26 02:30:00\n")
    rows = read_mapped(spark, mapping(tmp_path))
    assert rows.where(F.col("local_time").isNotNull()).isEmpty()
