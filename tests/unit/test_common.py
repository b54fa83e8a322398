"""Code shared by all jobs: arguments, the summary line, exit codes."""

from __future__ import annotations

import argparse
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from jobs.common import Job, Summary, day, run_main
from lbsf.config import Config
from lbsf.errors import InputError

PROJECT = Path(__file__).resolve().parents[2]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--as-of", type=day, required=True, help="the day")
    parser.add_argument("--fail", choices=("input", "fault", "finding"))


def run(job: Job, *, as_of: date, fail: str | None) -> Summary:
    with job.step("try") as summary:
        if fail == "finding":
            summary.findings += ["3 of 4 rows\nwere refused", "and 2 are late"]
        if fail == "input":
            raise InputError("table folds is empty:\n  run fold_payments first")
        if fail == "fault":
            raise RuntimeError("a fault of the product")
        summary.rows_out = job.config.fold.window_days
        summary.details["as of"] = as_of
    return summary


def test_a_job_that_does_its_work_prints_one_summary_line_and_returns_0(capsys: pytest.CaptureFixture[str]) -> None:
    code = run_main(add_arguments, run, ["--as-of", "2025-07-30", "--set", "fold.window_days=45"])
    output = capsys.readouterr()
    assert code == 0
    assert output.out.startswith("try                out 45 | as of 2025-07-30 | ")
    assert output.out.count("\n") == 1
    assert output.err == ""


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--fail", "input"], "table folds is empty: run fold_payments first"),
        (["--set", "fold.window=3"], "fold.window: Extra inputs are not permitted (unknown key)"),
        (["--set", "nonsense"], "--set nonsense: expected section.key=value"),
        (["--conf", "conf/none.yaml"], "conf/none.yaml: no such file"),
    ],
)
def test_an_error_that_a_person_can_mend_is_one_line_and_code_2(
    argv: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(add_arguments, run, ["--as-of", "2025-07-30", *argv]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.endswith("\n")
    assert output.err.count("\n") == 1
    assert says in output.err


def test_findings_are_a_line_each_behind_the_summary_and_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(add_arguments, run, ["--as-of", "2025-07-30", "--fail", "finding"]) == 3
    output = capsys.readouterr()
    assert output.out.startswith("try                out 180 | as of 2025-07-30 | ")
    assert [line.split(": ", 1)[1] for line in output.err.splitlines()] == [
        "3 of 4 rows were refused",
        "and 2 are late",
    ]


@pytest.mark.parametrize("argv", [[], ["--as-of", "yesterday"], ["--as-of", "2025-07-30", "--unknown"]])
def test_wrong_usage_exits_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run_main(add_arguments, run, argv)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_a_fault_of_the_product_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="a fault of the product"):
        run_main(add_arguments, run, ["--as-of", "2025-07-30", "--fail", "fault"])


def test_help_is_the_module_docstring(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run_main(add_arguments, run, ["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "Code shared by all jobs: arguments, the summary line, exit codes." in text
    assert "--conf" in text
    assert "--set SECTION.KEY=VALUE" in text


def test_the_summary_line_leaves_out_what_is_not_known() -> None:
    assert str(Summary("report", seconds=1.26)) == "report             1.3 s"
    full = Summary("ingest", 1234567, 1200000, 34567, {"versions": 3, "auc": 0.71234, "model": "lbsf 2"}, 9.0)
    assert str(full) == (
        "ingest             in 1,234,567 | out 1,200,000 | quarantined 34,567 "
        "| versions 3 | auc 0.7123 | model lbsf 2 | 9.0 s"
    )
    assert "out 0" in str(Summary("fold", rows_out=0))


def test_a_step_that_fails_prints_no_summary(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    job = Job(config, "conf/local.yaml", ())
    with pytest.raises(InputError), job.step("fold"):
        raise InputError("no payments")
    assert capsys.readouterr().out == ""


def test_day_reads_iso_days_only() -> None:
    assert day("2024-02-29") == date(2024, 2, 29)
    for text in ("2025-02-29", "30.07.2025", "", "2025-07-30T00:00"):
        with pytest.raises(argparse.ArgumentTypeError, match="is not a day"):
            day(text)


def test_root_is_a_local_folder(config: Config, tmp_path: Path) -> None:
    assert Job(config, "conf/local.yaml", ()).root == (tmp_path / "warehouse").resolve()


def test_importing_the_frame_starts_no_spark() -> None:
    """`--help` and a misspelt option must answer at once."""
    code = "import sys, jobs.common; sys.exit(any(m in sys.modules for m in ('pyspark', 'torch', 'mlflow', 'delta')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False).returncode == 0
