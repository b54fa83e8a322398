"""Sessions that only read: a check of each analysed statement, for clients of the SQL server.

Spark has no permissions of its own. It does let extensions check every statement after its analysis, when all names,
views and files in it are known, and before anything is done. This check is a Python object that Spark calls.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from py4j.java_gateway import is_instance_of
from pyspark.java_gateway import ensure_callback_server_started
from pyspark.sql import SparkSession

_CATALYST = "org.apache.spark.sql.catalyst.plans.logical"
# Statements without rows that change nothing but the client's own session.
_READING = ("Show", "Describe", "Explain")
_OF_THE_SESSION = ("SetCommand", "ResetCommand", "SetCatalogAndNamespace", "SetCatalogCommand", "SetNamespaceCommand")
# Rows that come from no file: literals, ranges, results of the statements above, and Delta's own reading of its log.
_WITHOUT_FILES = (
    "OneRowRelation",
    "LocalRelation",
    "Range",
    "CTERelationRef",
    "CommandResult",
    "LogicalRDD",
    "ExternalRDD",
)
# Functions that call any Java method.
_CALLING_JAVA = ("reflect", "java_method")


def let_new_sessions_only_read(spark: SparkSession, folders: Sequence[str]) -> None:
    """Refuses, in sessions that are made from this one from now on, whatever is not a query of the given tables.

    Refused are statements that create, change or drop anything, add files or jars, or run a script; queries that read
    a file outside `folders`, by whatever name; and functions that call Java. Sessions that exist stay as they are.

    Args:
        spark: the session that new ones are made from.
        folders: local folders of the tables that may be read.
    """
    gateway: Any = spark.sparkContext._gateway
    # A refusal is then a Java exception with our text; else it would carry a Python traceback to the client.
    gateway.callback_server_parameters.propagate_java_exceptions = True
    gateway.python_parameters.propagate_java_exceptions = True
    ensure_callback_server_started(gateway)  # type: ignore[no-untyped-call]
    # py4j logs each exception that a callback raises: a refusal is the client's to hear, and may name users.
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    java: Any = spark._jvm
    # How py4j names a Scala object.
    registry = getattr(getattr(java.org.apache.spark.sql.catalyst.analysis, "FunctionRegistry$"), "MODULE$").builtin()
    for name in _CALLING_JAVA:
        registry.dropFunction(java.org.apache.spark.sql.catalyst.FunctionIdentifier(name))
    session: Any = spark._jsparkSession
    session.extensions().injectCheckRule(_ForEachSession(_Check(gateway, folders)))


class _Check:
    """Spark's check rule: called with each analysed plan."""

    def __init__(self, gateway: Any, folders: Sequence[str]):
        self._gateway = gateway
        self._folders = [Path(folder).resolve() for folder in folders]

    def apply(self, plan: Any) -> None:
        """Raises in Java where the plan does more than read the tables."""
        kind = str(plan.getClass().getSimpleName())
        if kind.startswith(_READING) or kind in _OF_THE_SESSION:
            # What EXPLAIN explains is checked when it is analysed.
            return
        for node in _nodes(plan):
            if reason := self._refusal(node):
                # Throws a RuntimeException.
                self._gateway.jvm.scala.sys.package.error(
                    f"refused: this server only reads its tables and views; {reason}"
                )

    def _refusal(self, node: Any) -> str | None:
        kind = str(node.getClass().getSimpleName())
        if is_instance_of(self._gateway, node, f"{_CATALYST}.Command"):
            return f"{kind} does more"
        if kind == "ScriptTransformation":
            return "TRANSFORM runs a script"
        if not node.children().isEmpty() or kind in _WITHOUT_FILES:
            return None
        if kind != "LogicalRelation":
            return f"{kind} is no table of it"
        relation = node.relation()
        if not is_instance_of(self._gateway, relation, "org.apache.spark.sql.execution.datasources.HadoopFsRelation"):
            return "this is no table of it"
        paths = relation.location().rootPaths()
        for number in range(paths.size()):
            path = Path(str(paths.apply(number).toUri().getPath())).resolve()
            if not any(path.is_relative_to(folder) for folder in self._folders):
                return "this file is none of theirs"
        return None

    class Java:
        """What py4j asks for."""

        implements = ("scala.Function1",)


class _ForEachSession:
    """Spark's builder of check rules: called with each new session."""

    def __init__(self, check: _Check):
        self._check = check

    def apply(self, session: Any) -> _Check:
        """The check, the same for all sessions."""
        return self._check

    class Java:
        """What py4j asks for."""

        implements = ("scala.Function1",)


def _nodes(plan: Any) -> Iterator[Any]:
    yield plan
    children = plan.children()
    for number in range(children.size()):
        yield from _nodes(children.apply(number))
