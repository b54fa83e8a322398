"""Validation and promotion over a real examples table, real models and a real registry."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from example_files import labelled_rows
from fold_rows import FOLD, Row, fold_row, pack, small_model
from mlflow import MlflowClient
from sklearn.metrics import roc_auc_score

from jobs import promote_model, validate_model
from jobs.common import Job
from lbsf.errors import InputError
from lbsf.evaluation.reference import Reference, count, make_reference, score_drift
from lbsf.folds.packed import LIST_COLUMNS
from lbsf.models.artifact import save_model
from lbsf.models.predict import predict_scores
from lbsf.schemas import EXAMPLES
from lbsf.tracking import CHALLENGER, CHAMPION, RegisteredModel

# Untrained models: rules that ask for skill are as lenient as can be, so that others are seen to decide.
LENIENT = (
    "promotion.min_defaults=2",
    "promotion.min_auc=0.5",
    "promotion.max_auc_loss=0.49",
    "promotion.max_segment_auc_loss=0.49",
    "promotion.max_calibration_error=0.99",
    "promotion.calibration_slope=[0.0001, 10000]",
    "promotion.max_score_psi=100",
)

Make = Callable[..., Job]


@pytest.fixture
def make_job(overrides: list[str], job: Job) -> Make:
    """A job with further settings over the test's own warehouse and registry."""
    from lbsf.config import load_config

    def make(*settings: str) -> Job:
        values = [*overrides, *settings]
        return Job(load_config("conf/local.yaml", values), "conf/local.yaml", values)

    return make


def write_examples(job: Job, rows: list[Row], **changes: Any) -> None:
    whole = [
        {**row, "matured_on": row["as_of"], "split": "out_of_time" if number % 2 else "validation", **changes}
        for number, row in enumerate(rows)
    ]
    job.warehouse.overwrite(EXAMPLES, job.spark.createDataFrame(whole, EXAMPLES.struct))


def with_outcomes(rows: list[Row]) -> list[Row]:
    """The rows with outcomes drawn as small_model() says."""
    probability = predict_scores(*small_model(), [pack(rows)]).probability
    defaulted = np.random.default_rng(0).random(len(rows)) < probability
    return [{**row, "label": int(one)} for row, one in zip(rows, defaulted, strict=True)]


def register(job: Job, rows: list[Row], seed: int = 0, fold: Any = FOLD) -> RegisteredModel:
    folder = job.root / f"saved{seed}"
    model, card = small_model(seed, fold=fold)
    save_model(folder, model, card)
    packed = pack(rows)
    make_reference(count(packed), predict_scores(model, card, [packed]).probability).save(folder)
    example = pd.DataFrame(rows[:2])[["as_of", "fold_spec", *LIST_COLUMNS]].assign(fold_spec=fold.spec)
    with job.tracker.run("train") as run:
        return job.tracker.register(run, folder, example.assign(as_of=pd.to_datetime(example["as_of"])))


def run_files(model: RegisteredModel) -> Path:
    return Path(mlflow.artifacts.download_artifacts(run_id=model.run_id))


@pytest.fixture
def rows() -> list[Row]:
    return with_outcomes(labelled_rows(160, seed=3))


def test_the_first_model_is_validated_and_promoted(
    make_job: Make, rows: list[Row], capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(*LENIENT)
    write_examples(job, rows)
    model = register(job, rows)
    with pytest.raises(InputError, match="challenger version 1 has not been validated"):
        promote_model.run(job)
    summary = validate_model.run(job)
    assert summary.details["verdict"] == "passed"
    assert (summary.rows_in, summary.details["split"]) == (80, "out_of_time")
    assert "kept: AUC " in capsys.readouterr().out

    challenger = job.tracker.fetch(CHALLENGER)
    assert challenger.tags["validation_reasons"].startswith("all ")
    assert challenger.tags["validation_examples_version"] == "0"
    assert challenger.metrics["gate.auc"] > 0.6
    files = run_files(model)
    gate = json.loads((files / "gate.json").read_text())
    assert gate["passed"] and gate["split"] == "out_of_time"
    assert {"auc", "calibration_slope", "score_stability"} <= {rule["name"] for rule in gate["rules"]}
    table = pd.read_csv(files / "tables/gate_segments.csv")
    assert table.groupby("segment")["users"].sum().to_dict() == dict.fromkeys(
        ("file", "history", "merchants", "payments"), 80
    )
    for kind in ("roc", "ks", "calibration", "gain", "lift", "scores", "segments"):
        assert (files / f"figures/gate_{kind}.png").stat().st_size > 5_000

    promote_model.run(job)
    assert job.tracker.fetch(CHAMPION).version == "1"


def test_a_worse_challenger_is_refused_with_the_reason_and_may_be_overruled(make_job: Make, rows: list[Row]) -> None:
    job = make_job(*LENIENT, "promotion.max_auc_loss=0.01")
    write_examples(job, rows)
    job.tracker.promote(register(job, rows))
    worse = register(job, rows, seed=5)
    assert validate_model.run(job).details["verdict"] == "refused"
    assert "champion_roc" in "".join(path.name for path in (run_files(worse) / "figures").iterdir())
    table = pd.read_csv(run_files(worse) / "tables/gate_segments.csv")
    assert {"champion_auc", "auc_gain", "judged"} <= set(table)
    with pytest.raises(InputError, match=r"challenger version 2 was refused: .*AUC against the champion -0\.\d+"):
        promote_model.run(job)
    assert job.tracker.fetch(CHAMPION).version == "1"
    promote_model.run(job, override="the old model's data is gone")
    assert job.tracker.fetch(CHAMPION).tags["override"] == "the old model's data is gone"
    assert job.tracker.fetch(CHAMPION).version == "2"


def test_a_champion_of_another_spec_needs_a_person(make_job: Make, rows: list[Row]) -> None:
    job = make_job(*LENIENT)
    write_examples(job, rows)
    old = FOLD.model_copy(update={"window_days": 90})
    job.tracker.promote(register(job, rows, seed=1, fold=old))
    register(job, rows)
    assert validate_model.run(job).details["verdict"] == "refused"
    reason = (
        f"not compared with the champion: version 1 reads folds of spec {old.spec}, table examples holds {FOLD.spec}"
    )
    assert job.tracker.fetch(CHALLENGER).tags["validation_reasons"] == reason
    with pytest.raises(InputError, match="was refused: not compared with the champion"):
        promote_model.run(job)
    promote_model.run(job, override="longer history")
    assert job.tracker.fetch(CHAMPION).version == "2"


def test_what_is_judged_is_what_is_served(make_job: Make, rows: list[Row]) -> None:
    job = make_job(*LENIENT)
    thin = [{**fold_row(f"thin{number:02d}", {}), "label": number % 3 % 2} for number in range(24)]
    write_examples(job, [*rows, *thin])
    register(job, rows)
    validate_model.run(job)
    held_out = [*rows, *thin][1::2]
    served = predict_scores(*small_model(), [pack(held_out)])
    assert served.thin_file.sum() == 12
    metrics = job.tracker.fetch(CHALLENGER).metrics
    assert metrics["gate.auc"] == pytest.approx(roc_auc_score([row["label"] for row in held_out], served.probability))
    # As in the night's monitoring, thin files are no part of the scores' distribution.
    reference = Reference.load(job.tracker.fetch(CHALLENGER).folder).score
    full = served.probability[~served.thin_file]
    assert metrics["gate.score_psi"] == pytest.approx(score_drift(reference, reference.shares_of(full), len(full)).psi)


def test_a_champion_whose_files_are_not_the_registered_ones_needs_a_person(make_job: Make, rows: list[Row]) -> None:
    job = make_job(*LENIENT)
    write_examples(job, rows)
    old = register(job, rows, seed=1)
    job.tracker.promote(old)
    job.tracker.tag(old, {"sha256": "0" * 64})
    register(job, rows)
    assert validate_model.run(job).details["verdict"] == "refused"
    reasons = job.tracker.fetch(CHALLENGER).tags["validation_reasons"]
    assert reasons.startswith("not compared with the champion: model lbsf version 1 is damaged: ")
    promote_model.run(job, override="its files were lost")
    assert job.tracker.version_of(CHAMPION) == "2"


def test_a_validation_that_is_ended_between_its_tags_leaves_no_verdict(
    make_job: Make, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(*LENIENT)
    write_examples(job, rows)
    model = register(job, rows)
    validate_model.run(job)
    job.tracker.tag(model, {"override": "of a call that was ended before the promotion"})
    written = MlflowClient.set_model_version_tag

    def killed(client: MlflowClient, name: str, version: str, key: str, value: str) -> None:
        if key == "validation_champion":
            raise KeyboardInterrupt
        written(client, name, version, key, value)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(MlflowClient, "set_model_version_tag", killed)
        validate_model.run(job)
    with pytest.raises(InputError, match="challenger version 1 has not been validated"):
        promote_model.run(job)
    assert "override" not in job.tracker.fetch(CHALLENGER).tags
    validate_model.run(job)

    # A promotion that was ended before it took the challenger's alias off.
    MlflowClient().set_registered_model_alias("lbsf", CHAMPION, "1")
    with pytest.raises(InputError, match="challenger version 1 is the champion already: run promote_model.py"):
        validate_model.run(job)
    assert promote_model.run(job).details["champion"] == "lbsf version 1"
    assert (job.tracker.version_of(CHAMPION), job.tracker.version_of(CHALLENGER)) == ("1", None)


def test_too_few_defaults_are_refused(make_job: Make, rows: list[Row]) -> None:
    job = make_job(*LENIENT, "promotion.min_defaults=1000")
    write_examples(job, rows)
    register(job, rows)
    assert validate_model.run(job).details["verdict"] == "refused"
    reason = job.tracker.fetch(CHALLENGER).tags["validation_reasons"]
    assert reason.endswith("at least 1000 defaults and as many others are needed to judge")


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        ("one class", {"label": 0}, "the 80 held-out labels are of one class only"),
        ("nothing held out", {"split": "train"}, "table examples has neither an out_of_time nor a test split"),
        ("other folds", {"fold_spec": "v2-w45"}, "the model reads folds of spec v2-w180"),
    ],
)
def test_what_cannot_be_validated_is_one_line_and_leaves_no_verdict(
    make_job: Make,
    rows: list[Row],
    capsys: pytest.CaptureFixture[str],
    case: str,
    changes: dict[str, Any],
    message: str,
) -> None:
    job = make_job(*LENIENT)
    write_examples(job, rows, **changes)
    register(job, rows)
    arguments = [part for override in job.overrides for part in ("--set", override)]
    assert validate_model.main(arguments) == 2, case
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert "validation" not in job.tracker.fetch(CHALLENGER).tags
