"""The documents point to what exists, and every job explains itself."""

from __future__ import annotations

import importlib.metadata
import os
import re
import runpy
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

import lbsf
from lbsf.config import Config
from lbsf.ingest import Received, accepted, check_labels, check_payments, find_delivery, load_mapping, read_source
from lbsf.schemas import LABELS, PAYMENTS

PROJECT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")])
# One Horovod rank: train_model starts it, no person does.
STARTED_BY_JOBS = {"train_rank"}
JOBS = [
    path
    for path in sorted((PROJECT / "jobs").glob("*.py"))
    if '__name__ == "__main__"' in path.read_text(encoding="utf-8") and path.stem not in STARTED_BY_JOBS
]
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# Folders of the project; a path that begins with one is meant to exist.
PATH = re.compile(r"(?<![\w./-])((?:lbsf|jobs|conf|docs|tests|notebooks|benchmarks)/[\w./-]*\w)")
COMMAND = re.compile(r"(?:python|spark-submit) (jobs/\w+\.py)")
MAKE = re.compile(r"\bmake ([a-z-]+)\b")


def named(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


def anchor(heading: str) -> str:
    """A heading's anchor as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_the_documents_are_there() -> None:
    expected = {
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "docs/architecture.md",
        "docs/operations.md",
        "docs/tables.md",
    }
    assert expected <= {named(path) for path in DOCUMENTS}
    assert (PROJECT / "LICENSE").is_file()


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_links_point_to_files_and_headings_that_exist(document: Path) -> None:
    for link in LINK.findall(FENCE.sub("", document.read_text(encoding="utf-8"))):
        if "://" in link:
            continue
        target, _, fragment = link.partition("#")
        file = (document.parent / target).resolve() if target else document
        assert file.exists(), link
        if fragment:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert fragment in [anchor(heading) for heading in headings], link


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_paths_of_the_project_that_a_document_names_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    missing = [path for path in PATH.findall(text) if not (PROJECT / path).exists() and "NAME" not in path]
    # An example may name a mapping that its reader will write.
    assert [path for path in missing if "my_bank" not in path] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_commands_that_a_document_names_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    code = "\n".join([*re.findall(r"`([^`\n]+)`", text), *FENCE.findall(text)])
    assert set(MAKE.findall(code)) <= targets
    for script in COMMAND.findall(text):
        assert script.endswith("NAME.py") or (PROJECT / script).is_file(), script


def test_the_index_of_decisions_lists_each_with_its_title_and_status() -> None:
    folder = PROJECT / "docs/decisions"
    rows = re.findall(
        r"^\| \[(\d+)\]\(([^)]+)\) \| (.+?) \| (.+?) \| (\d{4}-\d\d-\d\d) \|$",
        (folder / "README.md").read_text("utf-8"),
        re.MULTILINE,
    )
    assert [row[1] for row in rows] == [path.name for path in sorted(folder.glob("[0-9]*.md"))]
    for number, file, title, status, _ in rows:
        heading = (folder / file).read_text(encoding="utf-8").splitlines()[0]
        assert heading == f"# {number}. {title}"
        assert status.split(",")[0].split()[0] in ("proposed", "accepted", "superseded")


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site/api/models.html").read_text(encoding="utf-8")
    # A docstring's example is shown as code.
    assert "segment_ids" in page and "[0, 0, 2]" in re.sub(r"<[^>]+>", "", page)


def test_every_page_of_the_site_is_found_from_its_navigation() -> None:
    listed = set(re.findall(r"[\w/-]+\.md", (PROJECT / "mkdocs.yml").read_text(encoding="utf-8")))
    assert {path.relative_to(PROJECT / "docs").as_posix() for path in (PROJECT / "docs").rglob("*.md")} <= {
        name.lstrip("/") for name in listed
    }


def test_the_changelog_has_this_version() -> None:
    version = importlib.metadata.version("lbsf")
    text = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", text, re.MULTILINE)
    assert lbsf.__version__ == version


@pytest.mark.parametrize("job", JOBS, ids=lambda path: path.stem)
def test_every_job_explains_itself(
    job: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(job), "--help"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(job), run_name="__main__")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "--conf" in text
    assert "--set" in text
    docstring = re.match(r'"""(.+)', job.read_text(encoding="utf-8"))
    assert docstring is not None
    assert docstring[1] in text


@pytest.mark.parametrize("job", JOBS, ids=lambda path: path.stem)
def test_every_job_is_a_command(job: Path) -> None:
    commands = {entry.name: entry.value for entry in importlib.metadata.distribution("lbsf").entry_points}
    assert commands[f"lbsf-{job.stem.replace('_', '-')}"] == f"jobs.{job.stem}:main"


def test_a_job_starts_as_a_script_from_any_folder(tmp_path: Path) -> None:
    job = JOBS[0]
    result = subprocess.run([sys.executable, job, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"usage: {job.name}")


def test_the_worked_example_of_a_source_works(tmp_path: Path, spark: SparkSession, config: Config) -> None:
    """The rows and mappings of docs/bring_your_data.md: three payments to store, one refused, both labels."""
    text = (PROJECT / "docs/bring_your_data.md").read_text(encoding="utf-8")
    rows = re.findall(r"^```csv\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    mappings = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    sources = []
    for table, csv, mapping in zip((PAYMENTS, LABELS), rows, mappings, strict=True):
        data = tmp_path / f"{table.name}.csv"
        data.write_text(csv, encoding="utf-8")
        file = tmp_path / "conf/sources" / f"my_bank_{table.name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(re.sub(r"(?m)^path: .*$", f"path: {data}", mapping), encoding="utf-8")
        loaded = load_mapping(file, table)
        sources.append(read_source(spark, loaded, find_delivery(spark, loaded, config.storage.root)))
    received = Received("my_bank", datetime(2025, 12, 1, tzinfo=UTC), "run")
    checked = check_payments(sources[0], config.ingest, received, config.storage.user_buckets)
    refused = checked.where("reasons is not null").collect()
    assert [(row.payment_id, row.reasons) for row in refused] == [("B-1004", ["paid_at is missing or no time"])]
    stored = accepted(checked, PAYMENTS, "paid_at").orderBy("payment_id").collect()
    assert [(row.payment_id, str(row.amount), str(row.paid_on)) for row in stored] == [
        ("B-1001", "1023.80", "2025-07-03"),
        ("B-1002", "61.00", "2025-06-30"),
        ("B-1003", "-5.00", "2025-07-31"),
    ]
    labels = check_labels(sources[1]).orderBy("user_id").collect()
    assert [(row.user_id, row.label, row.reasons) for row in labels] == [("K-7", 0, None), ("K-9", 1, None)]
