"""A registered champion, shared by the tests of the jobs that score and report."""

from __future__ import annotations

import pandas as pd
import pytest
from fold_rows import pack, random_rows, small_model
from pyspark.sql import SparkSession

from jobs.common import Job
from lbsf.config import load_config
from lbsf.evaluation.reference import count, make_reference
from lbsf.folds.packed import LIST_COLUMNS
from lbsf.models.artifact import save_model
from lbsf.models.predict import predict_scores
from lbsf.tracking import Tracker

CHAMPION_METRICS = {
    "out_of_time.auc": 0.7412,
    "out_of_time.ks": 0.3561,
    "out_of_time.pr_auc": 0.1634,
    "out_of_time.brier": 0.0398,
    "lightgbm.out_of_time.auc": 0.7266,
    "lightgbm.out_of_time.ks": 0.3342,
    "lightgbm.out_of_time.pr_auc": 0.1507,
    "lightgbm.out_of_time.brier": 0.0401,
}


@pytest.fixture(scope="session")
def champion_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An MLflow store whose champion is fold_rows.small_model(), with CHAMPION_METRICS on its run."""
    root = tmp_path_factory.mktemp("champion")
    tracker = Tracker(load_config("conf/local.yaml", [f"storage.root={root}"]), root)
    model, card = small_model()
    save_model(root / "saved", model, card)
    packed = pack(random_rows(200, seed=10))
    make_reference(count(packed), predict_scores(model, card, [packed]).probability).save(root / "saved")
    rows = pd.DataFrame(random_rows(4, seed=9))[["as_of", "fold_spec", *LIST_COLUMNS]]
    with tracker.run("train") as run:
        run.metrics(CHAMPION_METRICS)
        model = tracker.register(run, root / "saved", rows.assign(as_of=pd.to_datetime(rows["as_of"])))
    tracker.promote(model)
    return str(tracker.uri)


@pytest.fixture
def champion_job(overrides: list[str], spark: SparkSession, champion_uri: str) -> Job:
    """A job over an empty warehouse, with the shared champion."""
    values = [*overrides, f"tracking.uri={champion_uri}"]
    return Job(load_config("conf/local.yaml", values), "conf/local.yaml", values)
