"""The main job end to end on a small simulated bank: real Spark, Delta, Petastorm, two ranks, MLflow."""

from __future__ import annotations

import contextlib
import io
import re
from datetime import date
from pathlib import Path
from typing import NamedTuple

import mlflow
import nbformat
import pytest
from nbclient import NotebookClient
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from small import PROJECT, SMALL

from jobs import (
    build_examples,
    demo,
    fold_payments,
    pretrain_model,
    promote_model,
    score_users,
    train_model,
    validate_model,
)
from jobs.common import Job
from lbsf.config import load_config
from lbsf.errors import InputError
from lbsf.schemas import EXAMPLES, FOLDS, LABELS, PAYMENTS, PAYMENTS_QUARANTINE, SCORES
from lbsf.tables import Warehouse
from lbsf.tracking import CHALLENGER, CHAMPION

NIGHT = date(2025, 8, 29)  # the day after 240 days from 2025-01-01
MONTH_BEFORE = date(2025, 7, 30)
STEPS = (
    "generate_payments",
    "ingest_payments",
    "ingest_labels",
    "fold_payments",
    "build_examples",
    "train_model",
    "validate_model",
    "promote_model",
    "score_users",
    "monitor_scores",
    "score_users",
    "monitor_scores",
    "report",
    "answer_queries",
)


class Ran(NamedTuple):
    """A finished demo."""

    root: Path
    arguments: list[str]
    printed: str
    job: Job

    @property
    def warehouse(self) -> Warehouse:
        return self.job.warehouse


@pytest.fixture(scope="module")
def ran(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    # Characters that URLs, globs, shells and YAML would each read in a way of their own.
    root = tmp_path_factory.mktemp("demo") / "it's #1: ü 100% (a=b) %zz"
    overrides = [*SMALL, f"storage.root={root}", "synthetic.users=500", "synthetic.payments_per_user_day=0.5"]
    arguments = [part for override in overrides for part in ("--set", override)]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert demo.main(arguments) == 0
    job = Job(load_config(PROJECT / "conf/local.yaml", overrides), "conf/local.yaml", overrides)
    return Ran(root, arguments, printed.getvalue(), job)


def test_every_step_ends_in_one_summary_line(ran: Ran) -> None:
    lines = [line for line in ran.printed.splitlines() if line.endswith(" s") and " | " in line]
    assert [line.split()[0] for line in lines] == list(STEPS)


def test_the_places_it_names_exist(ran: Ran) -> None:
    report = re.search(r"^  report +(\S.*\.html)$", ran.printed, re.MULTILINE)
    assert report is not None
    assert Path(report[1]).stat().st_size > 10_000
    assert f"warehouse  {ran.root}/tables" in ran.printed
    assert (ran.root / "mlflow" / "mlflow.db").exists()


def test_three_queries_are_answered(ran: Ran) -> None:
    assert ran.printed.count("\n-- ") == 3
    # One epoch on so few users may find no merchant that raises the risk.
    assert len(re.findall(r"^(-[- ]+|no rows)$", ran.printed, flags=re.MULTILINE)) == 3
    assert "python jobs/answer_queries.py" in ran.printed


def test_each_payment_is_stored_once_and_bad_rows_are_kept_aside(ran: Ran) -> None:
    payments = ran.warehouse.read(PAYMENTS)
    assert payments.count() == payments.select("payment_id").distinct().count() > 10_000
    assert ran.warehouse.read(PAYMENTS_QUARANTINE).where(F.size("reasons") > 0).count() > 0
    assert ran.warehouse.read(LABELS).count() == 500


def test_every_fold_of_the_night_has_one_score_with_its_versions(ran: Ran) -> None:
    scores = ran.warehouse.read(SCORES)
    folds = ran.warehouse.read(FOLDS)
    assert {row[0] for row in scores.select("score_date").distinct().collect()} == {MONTH_BEFORE, NIGHT}
    same_night = (folds["user_id"] == scores["user_id"]) & (folds["as_of"] == scores["score_date"])
    unscored = folds.join(scores, on=same_night, how="left_anti")
    assert unscored.count() == 0
    assert scores.count() == folds.count()
    odd = scores.where(
        ~F.col("probability").between(0, 1)
        | ~F.col("percentile").between(0, 100)
        | (F.col("folds_version") != 1)
        | (F.col("model_version") != "1")
        | ((F.size("reasons") == 0) & ~F.col("thin_file"))
    )
    assert odd.count() == 0


def test_the_run_tells_what_made_the_model(ran: Ran) -> None:
    champion = ran.job.tracker.fetch(CHAMPION)
    run = mlflow.get_run(champion.run_id)
    assert run.data.params["payments_version"] == "0"
    assert run.data.params["labels_version"] == "0"
    assert run.data.params["examples_version"] == "0"
    assert run.data.params["fold_spec"] == ran.job.config.fold.spec
    assert {"out_of_time.auc", "out_of_time.ks", "out_of_time.pr_auc", "out_of_time.brier"} <= set(champion.metrics)
    assert "lightgbm.out_of_time.auc" in champion.metrics
    assert {"train.sha256", "out_of_time.sha256", "git_dirty", "environment.python"} <= set(run.data.params)
    files = {item.path for item in mlflow.artifacts.list_artifacts(run_id=champion.run_id)}
    assert {"config.yaml", "environment.json", "reference.json", "gate.json", "tables"} <= files
    assert (champion.folder / "reference.json").is_file()
    pictures = {item.path for item in mlflow.artifacts.list_artifacts(run_id=champion.run_id, artifact_path="figures")}
    assert "figures/out_of_time_roc.png" in pictures


def test_scoring_the_night_again_changes_no_score(ran: Ran) -> None:
    columns = [name for name in SCORES.column_names if name != "scored_at"]
    before = sorted(map(str, ran.warehouse.read(SCORES).select(columns).collect()))
    assert score_users.main([*ran.arguments, "--as-of", NIGHT.isoformat()]) == 0
    assert sorted(map(str, ran.warehouse.read(SCORES).select(columns).collect())) == before


def _version(ran: Ran) -> tuple[int, int]:
    return ran.warehouse.version(SCORES), ran.warehouse.version(EXAMPLES)


def test_no_challenger_is_left_to_validate_or_promote(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    assert ran.job.tracker.find(CHALLENGER) is None
    for job in (validate_model, promote_model):
        assert job.main(ran.arguments) == 2
        assert "no challenger of model lbsf in the registry" in capsys.readouterr().err


def test_a_model_of_another_fold_scores_nothing(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    before = _version(ran)
    # Folds of another window, in a warehouse that shares the registry.
    day = NIGHT.isoformat()
    folds = ran.warehouse.read(FOLDS).where(F.col("as_of") == F.lit(NIGHT))
    other = folds.withColumn("fold_spec", F.lit("v2-w90-m128f32-p256-c512-h64-t8192x6"))
    ran.warehouse.replace_day(FOLDS, other, NIGHT)
    assert score_users.main([*ran.arguments, "--as-of", day]) == 2
    error = capsys.readouterr().err
    assert "the model reads folds of spec v2-w180" in error
    assert error.count("\n") == 1
    assert _version(ran) == before
    before_that = ran.warehouse.read(FOLDS, 1).where(F.col("as_of") == F.lit(NIGHT))
    ran.warehouse.replace_day(FOLDS, before_that, NIGHT)


@pytest.mark.parametrize(
    ("case", "setting", "message"),
    [
        ("examples folded otherwise", "fold.window_days=90", "build the examples again"),
        ("more ranks than row groups", "training.ranks=64", "row groups cannot be shared among 64 ranks"),
    ],
)
def test_training_that_cannot_work_registers_nothing(
    ran: Ran, capsys: pytest.CaptureFixture[str], case: str, setting: str, message: str
) -> None:
    assert train_model.main([*ran.arguments, "--set", setting]) == 2, case
    error = capsys.readouterr().err.splitlines()[-1]
    assert message in error
    assert ran.job.tracker.find(CHALLENGER) is None


def test_labels_of_one_class_make_no_examples(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    before = _version(ran)
    labels = ran.warehouse.read(LABELS)
    ran.warehouse.overwrite(LABELS, labels.withColumn("label", F.lit(0)))
    assert build_examples.main(ran.arguments) == 2
    error = capsys.readouterr().err
    assert "labels of the train split are 0" in error
    assert error.count("\n") == 1
    assert _version(ran) == before
    ran.warehouse.overwrite(LABELS, ran.warehouse.read(LABELS, 0))


def test_payments_without_labels_are_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "none"
    arguments = ["--set", f"storage.root={root}", "--payments", "conf/sources/synthetic_payments.yaml"]
    assert demo.main(arguments) == 2
    assert "--payments and --labels go together" in capsys.readouterr().err
    assert not root.exists()


@pytest.mark.parametrize("conf", ["conf/local.yaml", "conf/databricks_dev.yaml", "conf/databricks_prod.yaml"])
def test_the_simulated_out_of_time_day_stands_in_no_configuration(conf: str) -> None:
    # Labels of one's own have other days: a simulated one would test on none of them, or train on none.
    assert load_config(PROJECT / conf).examples.out_of_time_from is None


@pytest.mark.parametrize(
    ("settings", "day"),
    [
        ([], date(2025, 7, 30)),
        (["synthetic.start_on=2025-02-01"], date(2025, 8, 30)),
        (["examples.out_of_time_from=2025-07-01"], date(2025, 7, 1)),
        (["examples.out_of_time_from=null"], None),
        # No earlier cohort is known by then: all would be tested on.
        (["synthetic.observation_days=[180]", "synthetic.observation_shares=[1.0]"], None),
        (["synthetic.observation_days=[190, 210]"], None),
    ],
)
def test_the_last_simulated_cohort_is_out_of_time(settings: list[str], day: date | None) -> None:
    job = Job(load_config(PROJECT / "conf/local.yaml", settings), "conf/local.yaml", settings)
    assert demo._with_out_of_time(job).config.examples.out_of_time_from == day


def test_a_model_starts_from_weights_that_were_trained_without_labels(ran: Ran) -> None:
    night = date(2025, 7, 1)
    overrides = [*ran.arguments[1::2], "pretraining.epochs=1", "training.pretrained=true"]
    job = Job(load_config(PROJECT / "conf/local.yaml", overrides), "conf/local.yaml", overrides)
    with pytest.raises(InputError, match="no pretrained weights"):
        train_model.run(job)
    with pytest.raises(InputError, match="folds as of 2025-08-01 hold payments from after 2025-07-30"):
        pretrain_model.run(job, as_of=[date(2025, 8, 1)])
    with pytest.raises(InputError, match="no folds as of 2025-07-01: run fold_payments"):
        pretrain_model.run(job, as_of=[night])
    fold_payments.run(job, as_of=[night])
    pretrained = pretrain_model.run(job, as_of=[night])
    assert pretrained.rows_in == job.warehouse.read(FOLDS).where(F.col("as_of") == F.lit(night)).count()
    taught = [*overrides, "pretraining.objective=teacher"]
    from_trees = pretrain_model.run(
        Job(load_config(PROJECT / "conf/local.yaml", taught), "conf/local.yaml", taught), as_of=[night]
    )
    learnt = mlflow.get_run(str(from_trees.details["run"])).data
    assert (learnt.params["objective"], learnt.params["examples_version"]) == ("teacher", "0")
    assert 0 < learnt.metrics["validation.loss"] < 1
    with pytest.raises(InputError, match="pretrained with other settings"):
        other = [*overrides, "model.width=32"]
        train_model.run(Job(load_config(PROJECT / "conf/local.yaml", other), "conf/local.yaml", other))
    train_model.run(job)
    run = mlflow.get_run(job.tracker.fetch(CHALLENGER).run_id)
    assert run.data.params["pretrained_run"] == from_trees.details["run"] != pretrained.details["run"]
    assert float(run.data.params["training.teacher_share"]) > 0


def test_the_notebook_of_the_idea_runs_on_its_warehouse(
    ran: Ran, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LBSF_ROOT", str(ran.root))
    document = nbformat.read(PROJECT / "notebooks/01_the_idea.ipynb", as_version=4)
    NotebookClient(document, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in document.cells if cell.cell_type == "code" for output in cell.outputs]
    printed = "".join(output.get("text", "") for output in outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    assert f"users as of {NIGHT}" in printed
    # The reason is exact: without its merchant the score moves by just that much, but for the kept decimals.
    moved = re.search(r"log-odds moved by (\S+), the reason said (\S+)", printed)
    assert moved is not None
    assert float(moved[1]) == pytest.approx(float(moved[2]), abs=0.002)
