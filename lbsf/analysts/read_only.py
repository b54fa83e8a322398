"""Read-only sessions for clients of the SQL server: every analysed statement is checked.

Spark has no permissions of its own, but extensions can check every statement after its analysis. All names, views and
files are then resolved, and nothing has been executed. This check is a Python object that Spark calls.
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
# Statements that read no table rows and change at most the client's own session.
_READING = ("Show", "Describe", "Explain")
_OF_THE_SESSION = ("SetCommand", "ResetCommand", "SetCatalogAndNamespace", "SetCatalogCommand", "SetNamespaceCommand")
# Leaf nodes that read no files: literals, ranges, results of the statements above, and Delta's reads of its own log.
_WITHOUT_FILES = (
    "OneRowRelation",
    "LocalRelation",
    "Range",
    "CTERelationRef",
    "CommandResult",
    "LogicalRDD",
    "ExternalRDD",
)
# Functions that can call any Java method.
_CALLING_JAVA = ("reflect", "java_method")


def let_new_sessions_only_read(spark: SparkSession, folders: Sequence[str]) -> None:
    """Restrict new sessions created from this one to queries of the given tables.

    They refuse statements that create, change or drop anything, add files or jars, or run a script; queries that read a
    file outside `folders`, by any name; and functions that call Java. Existing sessions do not change.

    Args:
        spark: the session from which new sessions are created.
        folders: local folders of the tables that may be read.
    """
    gateway: Any = spark.sparkContext._gateway
    # With this, a client gets a Java exception with this module's message instead of a Python traceback.
    gateway.callback_server_parameters.propagate_java_exceptions = True
    gateway.python_parameters.propagate_java_exceptions = True
    ensure_callback_server_started(gateway)  # type: ignore[no-untyped-call]
    # py4j logs each exception that a callback raises, but a refusal may name users, so only the client gets it.
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    java: Any = spark._jvm
    # py4j's syntax for a Scala object.
    registry = getattr(getattr(java.org.apache.spark.sql.catalyst.analysis, "FunctionRegistry$"), "MODULE$").builtin()
    for name in _CALLING_JAVA:
        registry.dropFunction(java.org.apache.spark.sql.catalyst.FunctionIdentifier(name))
    session: Any = spark._jsparkSession
    session.extensions().injectCheckRule(_ForEachSession(_Check(gateway, folders)))


class _Check:
    """A check rule that Spark calls with each analysed plan."""

    def __init__(self, gateway: Any, folders: Sequence[str]):
        self._gateway = gateway
        self._folders = [Path(folder).resolve() for folder in folders]

    def apply(self, plan: Any) -> None:
        """Throw a Java exception if the plan does more than read the tables."""
        kind = str(plan.getClass().getSimpleName())
        if kind.startswith(_READING) or kind in _OF_THE_SESSION:
            # The statement inside EXPLAIN is checked when it is analysed.
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
        """The Java interface, as py4j requires it."""

        implements = ("scala.Function1",)


class _ForEachSession:
    """A builder of check rules that Spark calls with each new session."""

    def __init__(self, check: _Check):
        self._check = check

    def apply(self, session: Any) -> _Check:
        """Return the check, the same for all sessions."""
        return self._check

    class Java:
        """The Java interface, as py4j requires it."""

        implements = ("scala.Function1",)


def _nodes(plan: Any) -> Iterator[Any]:
    yield plan
    children = plan.children()
    for number in range(children.size()):
        yield from _nodes(children.apply(number))
