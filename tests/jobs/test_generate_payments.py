"""The job: raw folders, labels, truth, and the same rows however Spark cuts the work."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from sklearn.metrics import roc_auc_score

from jobs import generate_payments
from jobs.common import Job, Summary
from lbsf.config import load_config
from lbsf.ingest import Received, check_labels, check_payments, find_delivery, load_mapping, read_source
from lbsf.schemas import LABELS, PAYMENTS, SYNTHETIC_TRUTH
from lbsf.synthetic.simulate import raw_payments, true_outcomes

SETTINGS = (
    "synthetic.users=600",
    "synthetic.merchants=400",
    "synthetic.days=60",
    "synthetic.payments_per_user_day=0.5",
    "synthetic.observation_days=[20, 30]",
    "synthetic.default_rate=0.05",
)


def job_over(root: Path, *settings: str) -> Job:
    overrides = [f"storage.root={root}", *SETTINGS, *settings]
    return Job(load_config("conf/local.yaml", overrides), "conf/local.yaml", overrides)


@pytest.fixture(scope="module")
def generated(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Summary]:
    job = job_over(tmp_path_factory.mktemp("generated"))
    return job, generate_payments.run(job)


def digest(rows: DataFrame) -> list[str]:
    """Every row as text, in order."""
    return sorted("|".join(map(str, row)) for row in rows.collect())


def raw(job: Job) -> DataFrame:
    reader = job.spark.read.option("header", True)
    return getattr(reader, job.config.synthetic.format)(f"{job.config.storage.root}/raw/payments")


def test_the_same_rows_from_any_number_of_tasks(generated: tuple[Job, Summary]) -> None:
    job, _ = generated
    spark, config = job.spark, job.config.synthetic
    one, three = raw_payments(spark, config, tasks=1), raw_payments(spark, config, tasks=3)
    assert (one.rdd.getNumPartitions(), three.rdd.getNumPartitions()) == (1, 3)
    assert digest(one) == digest(three)
    assert digest(true_outcomes(spark, config, tasks=1)) == digest(true_outcomes(spark, config, tasks=3))


def test_the_files_hold_what_was_simulated(generated: tuple[Job, Summary]) -> None:
    job, summary = generated
    simulated = raw_payments(job.spark, job.config.synthetic)
    assert digest(raw(job).select(simulated.drop("kind").columns)) == digest(simulated.drop("kind"))
    assert summary.rows_out == simulated.count()
    assert summary.details["users"] == 600
    kinds = {row["kind"]: row["count"] for row in simulated.groupBy("kind").count().collect()}
    assert [summary.details[name] for name in ("payments", "duplicates", "bad")] == [kinds[k] for k in (0, 1, 2)]


def test_one_folder_a_day_and_no_payment_beyond_the_period(generated: tuple[Job, Summary]) -> None:
    job, _ = generated
    days = sorted(path.name for path in (job.root / "raw" / "payments").glob("delivered_on=*"))
    assert days[0] == "delivered_on=2025-01-01"
    assert "delivered_on=2025-03-01" in days, "the sixtieth day"
    sound = raw(job).where(~F.col("booked_at").startswith("2099") & F.try_to_timestamp("booked_at").isNotNull())
    first, last = sound.select(F.min("booked_at"), F.max("booked_at")).first()  # type: ignore[misc]
    assert first[:10] == "2025-01-01"
    assert last[:10] == "2025-03-01"


def test_best_auc_is_that_of_the_truth_table(generated: tuple[Job, Summary]) -> None:
    job, summary = generated
    truth = job.warehouse.read(SYNTHETIC_TRUTH).toPandas()
    assert len(truth) == truth["user_id"].nunique() == 600
    assert summary.details["defaults"] == truth["label"].sum() > 0
    assert summary.details["default rate"] == pytest.approx(truth["label"].mean())
    last = truth[truth["observed_on"] == truth["observed_on"].max()]
    for name, rows in (("best AUC", truth), ("best AUC out of time", last)):
        assert summary.details[name] == pytest.approx(roc_auc_score(rows["label"], rows["default_probability"]))


def test_one_class_has_no_auc() -> None:
    assert np.isnan(generate_payments.best_auc(np.zeros(3, np.int32), np.array([0.1, 0.2, 0.3])))


def test_the_mappings_read_what_was_written(generated: tuple[Job, Summary]) -> None:
    job, summary = generated
    root, at = job.config.storage.root, datetime(2030, 1, 1, tzinfo=UTC)
    mapping = load_mapping("conf/sources/synthetic_payments.yaml", PAYMENTS)
    checked = check_payments(
        read_source(job.spark, mapping, find_delivery(job.spark, mapping, root)),
        job.config.ingest,
        Received(mapping.name, at, "test"),
        2,
    ).cache()
    sound = checked.where(F.col("reasons").isNull())
    assert sound.select("payment_id").distinct().count() == summary.details["payments"]
    assert sound.count() == summary.details["payments"] + summary.details["duplicates"]
    assert checked.where(F.col("reasons").isNotNull()).count() == summary.details["bad"]
    channels = {row["channel"] for row in sound.select("channel").distinct().collect()}
    assert channels == {"pos", "online", "cash", "transfer"}

    mapping = load_mapping("conf/sources/synthetic_labels.yaml", LABELS)
    labels = check_labels(read_source(job.spark, mapping, find_delivery(job.spark, mapping, root)))
    assert labels.where(F.col("reasons").isNotNull()).count() == 0
    expected = true_outcomes(job.spark, job.config.synthetic)
    columns = ["user_id", "observed_on", "label", "matured_on"]
    assert digest(labels.select(columns)) == digest(expected.select(columns))


def test_csv_holds_the_same_rows_and_replaces_what_lay_there(generated: tuple[Job, Summary], tmp_path: Path) -> None:
    parquet, _ = generated
    stale = tmp_path / "raw" / "payments" / "delivered_on=2024-12-31"
    stale.mkdir(parents=True)
    (stale / "part.csv").write_text("txn_id\nT1\n", encoding="utf-8")
    job = job_over(tmp_path, "synthetic.format=csv")
    generate_payments.run(job)
    assert not stale.exists()
    root, received = str(tmp_path), Received("x", datetime(2030, 1, 1, tzinfo=UTC), "test")
    columns = ["payment_id", "user_id", "merchant_id", "paid_at", "amount", "category", "channel", "description"]

    def rows(name: str, over: Job, where: str) -> list[str]:
        mapping = load_mapping(f"conf/sources/{name}.yaml", PAYMENTS)
        source = read_source(over.spark, mapping, find_delivery(over.spark, mapping, where))
        found = check_payments(source, over.config.ingest, received, 2)
        return digest(found.where(F.col("reasons").isNull()).select(columns))

    assert rows("synthetic_payments_csv", job, root) == rows("synthetic_payments", parquet, parquet.config.storage.root)


def test_a_refused_configuration_is_one_line_and_writes_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "warehouse"
    code = generate_payments.main(["--set", f"storage.root={root}", "--set", "synthetic.observation_days=[180, 239]"])
    message = capfd.readouterr().err.strip()
    assert code == 2
    assert "mature after the last simulated day" in message
    assert "\n" not in message
    assert not root.exists()
