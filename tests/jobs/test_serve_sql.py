"""The SQL server as a process of its own, asked over JDBC by Spark's own beeline."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from analyst_tables import EARLIER, NIGHT, scores
from small import PROJECT, SMALL

from jobs import serve_sql
from jobs.common import Job
from lbsf.analysts import load_views
from lbsf.analysts.queries import load_queries
from lbsf.schemas import SCORES
from lbsf.tables import Warehouse

BEELINE = Path(sys.executable).with_name("beeline")


class Server(NamedTuple):
    """A server that said it was ready."""

    process: subprocess.Popen[str]
    url: str
    folder: Path
    temporary: Path
    said: str


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def server(analyst_warehouse: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("started_here")
    settings = [*SMALL, f"storage.root={analyst_warehouse.storage.root}"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    command = [sys.executable, PROJECT / "jobs/serve_sql.py", "--conf", PROJECT / "conf/local.yaml", *arguments]
    temporary = tmp_path_factory.mktemp("temporary files")
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "TMPDIR": str(temporary)}
    process = subprocess.Popen(
        [*command, "--port", str(free_port()), "--views", PROJECT / "conf/views"],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    lines: list[str] = []
    try:
        # Ends with the ready line, or with the process.
        for line in process.stdout:
            lines.append(line)
            if line.startswith("ready: "):
                break
        said = "".join(lines)
        ready = re.search(r"^ready: (jdbc:hive2://127\.0\.0\.1:\d+/lbsf)$", said, re.MULTILINE)
        assert ready is not None, said
        yield Server(process, ready[1], folder, temporary, said)
    finally:
        process.kill()
        process.wait()


# Before the first row of an answer beeline may print its prompt, silent or not.
PROMPT = re.compile(r"^\d: jdbc:\S+> ", re.MULTILINE)


def beeline(server: Server, *statements: str, force: bool = False) -> subprocess.CompletedProcess[str]:
    asked = [part for statement in statements for part in ("-e", statement)]
    quiet = [f"--force={str(force).lower()}", "--silent=true", "--outputformat=tsv2", "--nullemptystring=true"]
    return subprocess.run(
        [BEELINE, "-u", server.url, "-n", "analyst", *quiet, *asked],
        env={**os.environ, "PATH": f"{BEELINE.parent}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip


def asked(server: Server, *statements: str) -> list[list[str]]:
    """Rows of all statements, each with its headings, as text."""
    result = beeline(server, *statements)
    assert result.returncode == 0, result.stderr
    return [line.split("\t") for line in PROMPT.sub("", result.stdout).splitlines() if line]


def test_a_client_gets_views_tables_and_utc(server: Server) -> None:
    rows = asked(
        server,
        "SELECT user_id, score_date, band, percentile FROM latest_scores ORDER BY user_id LIMIT 2",
        "SELECT scored_at FROM scores WHERE user_id = 'u4'",
        "SELECT change.since, reasons[0].text AS text FROM scores WHERE user_id = 'u3' AND change IS NOT NULL",
    )
    assert rows == [
        ["user_id", "score_date", "band", "percentile"],
        ["u1", str(NIGHT), "E", "75.0"],
        ["u2", str(NIGHT), "thin", ""],
        ["scored_at"],
        [f"{NIGHT} 02:01:30.0"],
        ["since", "text"],
        [str(EARLIER), "bets raises the risk"],
    ]


def test_every_documented_query_is_answered(server: Server) -> None:
    queries = [" ".join(query.sql.split()) for query in load_queries(PROJECT / "conf/queries")]
    rows = asked(server, *queries)
    # Each answer begins with its first column's name: none is missing.
    first = ("band", "merchant_id", "user_id", "since", "field", "input", "score_date", "measure", "as_of")
    assert [row[0] for row in rows if row[0] in first] == [*first[:3], "user_id", *first[3:]]
    assert ["late_share", "all", "0.03", "0.01", str(EARLIER), "2"] in rows
    assert ["loans", "Shop loans", "2", "1.82"] in rows


def test_a_tool_finds_tables_views_and_columns_with_their_comments(server: Server) -> None:
    tables = asked(server, "!tables")
    shown = {row[2]: row[4] for row in tables[1:] if row[1] == "lbsf"}
    assert {view.name: view.purpose for view in load_views(PROJECT / "conf/views")}.items() <= shown.items()
    assert shown["scores"] == SCORES.purpose
    columns = asked(server, "!columns breaches")
    assert {row[3]: row[11] for row in columns[1:]}["open_since"] == "the first night of the breach that is open now"


# FILES is a folder beside the warehouse, SCORES that of the table.
FORBIDDEN = """
DROP VIEW scores
DROP DATABASE lbsf CASCADE
CREATE OR REPLACE VIEW scores AS SELECT 1 AS user_id
ALTER VIEW scores RENAME TO gone
CREATE TEMPORARY VIEW mine AS SELECT 1 AS one
CREATE TABLE mine USING parquet LOCATION 'FILES/mine' AS SELECT 1 AS one
INSERT OVERWRITE DIRECTORY 'FILES/mine' USING parquet SELECT * FROM scores
INSERT INTO delta.`SCORES` SELECT * FROM scores
DELETE FROM scores
DELETE FROM delta.`SCORES`
UPDATE delta.`SCORES` SET band = 'A'
OPTIMIZE delta.`SCORES`
VACUUM delta.`SCORES`
ADD JAR FILES/secret.txt
CACHE TABLE scores
CREATE TEMPORARY FUNCTION mine AS 'java.lang.Object'
SELECT * FROM text.`FILES/secret.txt`
SELECT * FROM text.`SCORES/../../../../../../../../../../../FILES/secret.txt`
SELECT (SELECT max(value) FROM text.`FILES/secret.txt`) AS value
WITH it AS (SELECT * FROM text.`FILES/secret.txt`) SELECT count(*) FROM it
SELECT user_id FROM scores WHERE EXISTS (SELECT 1 FROM text.`FILES/secret.txt` WHERE value > user_id)
SELECT TRANSFORM (user_id) USING 'cat' AS (value) FROM scores
SELECT reflect('java.lang.System', 'getProperty', 'user.name')
SELECT java_method('java.lang.System', 'getProperty', 'user.name')
"""


def test_a_client_can_only_read(server: Server, analyst_warehouse: Warehouse, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("1234", encoding="utf-8")
    places = {"FILES": str(tmp_path), "SCORES": analyst_warehouse.location(SCORES)}
    forbidden = [
        re.sub("FILES|SCORES", lambda place: places[place[0]], statement)
        for statement in FORBIDDEN.split("\n")
        if statement
    ]
    # Each on its own: the next one is asked whatever came of it.
    result = beeline(server, *forbidden, force=True)
    refused = re.findall(r"Error: \S+HiveSQLException: Error running query: (\S+ refused|\[[A-Z_]+\])", result.stderr)
    by_check, by_spark = "java.lang.RuntimeException: refused", ["[DELTA_UNSUPPORTED_SOURCE]", "[UNRESOLVED_ROUTINE]"]
    assert Counter(refused) == {by_check: len(forbidden) - 3, by_spark[0]: 1, by_spark[1]: 2}, result.stderr
    assert "1234" not in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["secret.txt"]
    assert analyst_warehouse.version(SCORES) == 0
    # Another client still finds all.
    allowed = [
        "SET spark.sql.shuffle.partitions=3",
        "SHOW VIEWS",
        "DESCRIBE scores",
        "EXPLAIN SELECT * FROM scores",
        "WITH risky AS (SELECT user_id FROM scores WHERE band = 'E') SELECT count(*) AS risky FROM risky, range(2)",
        "SELECT count(*) AS stored FROM scores",
    ]
    rows = asked(server, *allowed)
    assert rows[-2:] == [["stored"], [str(len(scores()))]]
    assert ["lbsf", "latest_scores", "false"] in rows


def test_it_ends_when_told_to_and_leaves_nothing_behind(server: Server) -> None:
    # Spark's own files among them.
    assert [path.parent.parent for path in server.temporary.rglob("blockmgr-*")] == [
        server.temporary / f"lbsf-{os.getuid()}"
    ]
    server.process.send_signal(signal.SIGTERM)
    printed, _ = server.process.communicate(timeout=120)
    assert printed.splitlines()[-1] == "stopped"
    assert server.process.returncode == 0
    assert list(server.folder.iterdir()) == []
    assert [path.name for path in server.temporary.rglob("*") if path.is_file()] == ["lock"]
    # No fault, and no client's statement, in what a log would keep.
    assert "ERROR" not in server.said + printed
    assert "DELETE" not in server.said + printed
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(server.url.split(":")[-1].removesuffix("/lbsf"))))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0: other machines would read all tables without a password"),
        (["--host", "localhost"], "--host localhost: an IP address is expected"),
    ],
)
def test_an_address_that_others_reach_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert serve_sql.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_port_in_use_and_a_warehouse_without_scores_are_refused(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert serve_sql.main(["--port", str(taken.getsockname()[1])]) == 2
    assert "cannot be listened on (Address already in use): choose another --port" in capsys.readouterr().err
    settings = [part for setting in job.overrides for part in ("--set", setting)]
    assert serve_sql.main([*settings, "--port", str(free_port())]) == 2
    assert "table scores does not exist" in capsys.readouterr().err
