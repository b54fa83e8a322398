"""The types, limits and meanings of the configuration's values. The values are in conf/base.yaml."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

# Every name from configuration that reaches SQL must have this form.
Identifier = Annotated[str, StringConstraints(max_length=127, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
# Counts and seeds are 32-bit integers in Spark, LightGBM and Parquet.
LARGEST = 2**31 - 1
Positive = Annotated[int, Field(gt=0, le=LARGEST)]
Count = Annotated[int, Field(ge=0, le=LARGEST)]
# At most a century, so that a day minus this many days is still a valid date.
Days = Annotated[int, Field(gt=0, le=36_525)]
Seed = Annotated[int, Field(ge=0, le=LARGEST)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
# Spark reads some characters of a path as a pattern, SQLAlchemy reads `?` as the end of the file's name, and delta-rs
# reads %41 as A and \ as / and fails on others.
_MISREAD_IN_PATHS = re.compile(r"[*?{}\[\]\\^|\x00-\x1f\x7f]|%[0-9A-Fa-f]{2}")


class Section(BaseModel):
    """A part of the configuration. Frozen; unknown keys, infinity and NaN are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class StorageConfig(Section):
    """Where tables, raw files, reports and the embedded MLflow store are."""

    root: str = Field(min_length=1, description="folder or URI that holds everything this product writes")
    database: str | None = Field(
        max_length=255,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?$",
        description="`catalog.schema` or `schema` under which tables are registered for SQL; null registers none",
    )
    user_buckets: Annotated[int, Field(ge=1, le=100_000)] = Field(
        description="parts of the payments and folds tables, by a hash of user_id: each is folded in one task's "
        "memory. Fixed once payments are stored"
    )
    history_days: Days = Field(description="days for which Delta keeps what is needed to read an old version")

    @field_validator("root")
    @classmethod
    def _shown_as_files(cls, root: str) -> str:
        """Refuse storage that is not mounted, because locks, reports, folds and training files are written by path."""
        scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]+:(?=/)", root)
        if scheme and not root.startswith(("dbfs:/", "file:///")):
            raise ValueError(
                f"storage of the kind {scheme[0]} is not supported: mount it and give its folder, "
                "which may be written as file:///FOLDER or dbfs:/FOLDER"
            )
        return root

    @field_validator("root")
    @classmethod
    def _all_read_the_root_alike(cls, root: str) -> str:
        whole = root if ":/" in root else str(Path(root).resolve())
        if found := _MISREAD_IN_PATHS.search(whole):
            raise ValueError(
                f"{whole!r} holds {found[0]!r}, which Spark, Delta or MLflow would misread: rename the folder"
            )
        return root


class SparkConfig(Section):
    """The local Spark session. A running session (Databricks, spark-submit) keeps its own settings."""

    master: str = Field(min_length=1)
    driver_memory: str = Field(pattern=r"^\d+[mg]$")
    shuffle_partitions: Positive
    settings: dict[str, str] = Field(description="further Spark settings, laid over the product's own")


class SyntheticConfig(Section):
    """The payment simulator (lbsf/synthetic)."""

    users: Positive
    days: Annotated[int, Field(ge=60, le=36_525)]
    start_on: date = Field(description="first simulated day")
    merchants: Annotated[int, Field(ge=200, le=LARGEST)]
    payments_per_user_day: Annotated[float, Field(gt=0, le=50)] = Field(
        description="payments a day of the median user; users differ widely round it"
    )
    observation_days: tuple[Positive, ...] = Field(
        min_length=1, description="day numbers on which labels are observed; each user is observed once"
    )
    observation_shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        description="share of the users observed on each of observation_days; sums to 1"
    )
    label_horizon_days: Days = Field(description="days from observed_on until the outcome is known")
    default_rate: Annotated[float, Field(gt=0.001, lt=0.5)]
    duplicate_share: Share
    late_share: Share
    bad_share: Share
    format: Literal["parquet", "csv"] = Field(description="of the daily payment files")
    seed: Seed

    @model_validator(mode="after")
    def _observations_fit(self) -> SyntheticConfig:
        if len(self.observation_days) != len(self.observation_shares):
            raise ValueError("observation_days and observation_shares differ in length")
        if abs(sum(self.observation_shares) - 1) > 1e-6:
            raise ValueError("observation_shares must sum to 1")
        if max(self.observation_days) + self.label_horizon_days > self.days:
            raise ValueError("a label would mature after the last simulated day")
        return self


class IngestConfig(Section):
    """The contract that a payment must meet to be stored; others are quarantined with their reasons."""

    currencies: tuple[Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")], ...] = Field(min_length=1)
    max_amount: Annotated[float, Field(gt=0)] = Field(description="largest believable absolute amount")
    earliest_paid_on: date = Field(description="a payment before this day is refused")
    max_refused_share: Annotated[float, Field(ge=0, le=1)] = Field(
        description="an ingest of payments or labels that refuses a larger share of a delivery, or of what is new in "
        "it, ends with code 3"
    )


class FoldConfig(Section):
    """How payments are folded. A change to any value in `spec` makes folds that older models cannot read."""

    window_days: Days = Field(description="days of history: [as_of - window_days, as_of)")
    max_merchants: Positive = Field(description="merchants kept per user")
    frequent_merchants: Count = Field(
        description="of them, those with the most payments; the others are the most recently visited"
    )
    max_payments_per_merchant: Positive = Field(description="payments kept per merchant, the most recent")
    category_buckets: Annotated[int, Field(ge=2, le=LARGEST)] = Field(description="hash buckets; 0 stands for null")
    channel_buckets: Annotated[int, Field(ge=2, le=LARGEST)]
    token_buckets: Annotated[int, Field(ge=2, le=LARGEST)]
    max_tokens: Positive = Field(description="words kept of a merchant name or a description")
    row_group_users: Positive = Field(description="users a Parquet row group: the unit that Petastorm shards")
    through_spark: bool = Field(
        description="false: tasks read and write Parquet files themselves, several times faster, and fold from night "
        "to night; true: all rows go through Spark, for storage that tasks cannot reach as files"
    )

    @model_validator(mode="after")
    def _frequent_are_among_the_kept(self) -> FoldConfig:
        if self.frequent_merchants > self.max_merchants:
            raise ValueError("frequent_merchants must not exceed max_merchants")
        return self

    @property
    def spec(self) -> str:
        """Return an identifier of a fold's contents; a model reads only folds of the spec it was trained on.

        >>> FoldConfig(window_days=180, max_merchants=128, frequent_merchants=32, max_payments_per_merchant=256,
        ...     category_buckets=512, channel_buckets=64, token_buckets=8192, max_tokens=6,
        ...     row_group_users=512, through_spark=False).spec
        'v2-w180-m128f32-p256-c512-h64-t8192x6'
        """
        return (
            f"v2-w{self.window_days}-m{self.max_merchants}f{self.frequent_merchants}-p{self.max_payments_per_merchant}"
            f"-c{self.category_buckets}-h{self.channel_buckets}-t{self.token_buckets}x{self.max_tokens}"
        )


class ExamplesConfig(Section):
    """The data splits. Users are split by a hash of their id, the out-of-time test by date."""

    validation_share: Share
    test_share: Share
    out_of_time_from: date | None = Field(
        description="labels observed on or after this day are the out-of-time test, and labels that "
        "matured after it are left out of training; null: no out-of-time test"
    )


class ModelConfig(Section):
    """The network's architecture."""

    width: Positive = Field(description="features of a payment, a merchant and a user vector")
    heads: Positive
    sequence: Literal["none", "gru", "transformer"] = Field(
        description="what relates a merchant's payments before attention pools them"
    )
    relational_layers: Count = Field(description="layers in which merchants look at each other")
    dropout: Share
    word_width: Positive = Field(description="features of a word, before all words are spread over `width` alike")
    hidden_words: Share = Field(description="share of the names and descriptions that training hides from the network")
    head: Literal["linear", "hidden"] = Field(
        description="what reads a user's features: a weighted sum, or a hidden layer of `width` before one"
    )

    @model_validator(mode="after")
    def _heads_divide(self) -> ModelConfig:
        if self.width % self.heads:
            raise ValueError("width must be a multiple of heads")
        return self


class ElasticConfig(Section):
    """Elastic training: it continues when ranks are lost and accepts new ones."""

    min_ranks: Positive = Field(description="with fewer, training waits for others (ten minutes at most)")
    max_ranks: Positive
    discovery_script: str = Field(
        min_length=1, description="program that prints a line `host:slots` for each host that is there now"
    )


class TrainingConfig(Section):
    """The training run."""

    ranks: Positive = Field(description="processes that train; with training.elastic, those that begin")
    hosts: str | None = Field(
        pattern=r"^[\w.\-:,]+$", description="horovodrun's -H, `host:slots,…`; null: this machine"
    )
    network_interfaces: str | None = Field(
        pattern=r"^[\w.\-:,]+$", description="that ranks talk over, `eth0,…`; null: horovodrun finds them"
    )
    elastic: ElasticConfig | None = Field(description="null: the run ends when a rank does")
    threads_per_rank: Positive
    epochs: Positive
    patience: Positive = Field(description="epochs without a better validation AUC before stopping")
    batch_users: Annotated[int, Field(ge=2, le=LARGEST)] = Field(description="users a rank computes at once")
    accumulate_steps: Positive = Field(description="batches of a rank whose gradients make one step")
    precision: Literal["float32", "bfloat16"] = Field(description="of the network's products in training")
    positive_weight: Literal["balanced"] | Annotated[float, Field(gt=0)] | None = Field(
        description="how often a defaulter counts in the loss; balanced: others over defaulters; null: once"
    )
    teacher_share: Share = Field(
        description="weight of the LightGBM teacher's probability in the training target; the label gets the rest; "
        "0: labels only"
    )
    learning_rate: Annotated[float, Field(gt=0)] = Field(description="of one rank; scaled by the ranks")
    warmup_share: Share = Field(description="share of all steps over which the learning rate rises")
    average_steps: Positive = Field(
        description="the weights that predict are an exponential average over about so many steps; 1: the last step's"
    )
    weight_decay: Annotated[float, Field(ge=0, le=1)]
    gradient_clip: Annotated[float, Field(gt=0)]
    shuffle_row_groups: Positive = Field(description="row groups mixed in the shuffle buffer")
    pretrained: bool = Field(
        description="true: start from the latest weights of pretrain_model; false: from fresh ones"
    )
    rank_timeout_seconds: Positive = Field(
        description="how long a rank may be silent before the others give the run up; Gloo's own limit is 30"
    )
    checkpoint_steps: Positive | None = Field(
        description="a checkpoint after as many steps, beside the one after each epoch; null: none"
    )
    seed: Seed

    @model_validator(mode="after")
    def _elastic_fits(self) -> TrainingConfig:
        if self.elastic is None:
            return self
        if not self.elastic.min_ranks <= self.ranks <= self.elastic.max_ranks:
            raise ValueError("ranks must lie between elastic.min_ranks and elastic.max_ranks")
        if self.hosts is not None:
            raise ValueError("hosts must be null where elastic.discovery_script names them")
        return self


class PretrainingConfig(Section):
    """Pretraining without labels, before the training run. Ranks, batches and rates are those of `training`."""

    objective: Literal["visits", "masked", "teacher"] = Field(
        description="visits: what the last days bring, from what came before; masked: fields of hidden payments; "
        "teacher: what LightGBM, trained on the labelled examples, says of every user"
    )
    epochs: Positive


class TrackingConfig(Section):
    """MLflow."""

    uri: str | None = Field(description="tracking server; null: a sqlite file under storage.root/mlflow")
    registry_uri: str | None
    experiment: str = Field(min_length=1)
    model_name: str = Field(min_length=1, description="registered model")


class PromotionConfig(Section):
    """The promotion gate between `challenger` and `champion`; docs/tracking.md explains its rules."""

    min_defaults: Annotated[int, Field(ge=2, le=LARGEST)] = Field(
        description="fewer defaults, or fewer others, among the held-out rows are too few to judge a model"
    )
    min_auc: Annotated[float, Field(ge=0.5, lt=1)] = Field(
        description="the lower confidence limit of the challenger's AUC must be above this"
    )
    max_auc_loss: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        description="largest AUC that the challenger may lose against the champion, on the same rows"
    )
    loss_confidence: Annotated[float, Field(ge=0.5, lt=1)] = Field(
        description="how sure it must be, by DeLong's test, that no more than max_auc_loss is lost; 0.5: the "
        "estimate alone decides"
    )
    max_segment_auc_loss: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        description="largest AUC that it may lose within a segment of users, beyond what chance explains"
    )
    min_segment_defaults: Annotated[int, Field(ge=2, le=LARGEST)] = Field(
        description="segments with fewer defaults, or fewer others, are shown and not judged"
    )
    max_calibration_error: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="largest |mean probability - default rate| relative to the default rate"
    )
    calibration_slope: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = Field(
        description="least and largest slope of the outcome's log odds on the probability's; 1 is best"
    )
    max_score_psi: Annotated[float, Field(gt=0)] = Field(
        description="largest population stability index of the challenger's scores, held-out rows against "
        "validation, beyond what chance explains"
    )
    bootstrap_samples: Annotated[int, Field(ge=100, le=1_000_000)]

    @model_validator(mode="after")
    def _slopes_rise(self) -> PromotionConfig:
        if self.calibration_slope[0] >= self.calibration_slope[1]:
            raise ValueError("calibration_slope must rise: the least, then the largest")
        return self


class ScoringConfig(Section):
    """The nightly scores."""

    bands: dict[Identifier, Annotated[float, Field(gt=0, le=1)]] = Field(
        min_length=2, description="band -> upper limit of its probability, in rising order, the last 1.0"
    )
    thin_file_payments: Positive = Field(description="fewer kept payments than this: thin_file")
    thin_file_merchants: Positive
    reasons: Positive = Field(description="merchants named per user")
    batch_users: Positive

    @model_validator(mode="after")
    def _bands_rise(self) -> ScoringConfig:
        limits = list(self.bands.values())
        if limits != sorted(set(limits)) or limits[-1] != 1.0:
            raise ValueError("band limits must rise and end at 1.0")
        # Values used in place of a risk band: for a thin file, and for no score in band_migration.
        if taken := {"thin", "none"} & set(self.bands):
            raise ValueError(f"{taken.pop()} cannot be a band's name: users without a risk band have it")
        return self


class NightlyConfig(Section):
    """What jobs/nightly.py ingests, and how far back it catches up."""

    payments: str = Field(min_length=1, description="source mapping of the payments that are delivered")
    labels: str | None = Field(description="source mapping of the labels; null: labels are taken in otherwise")
    catch_up_nights: Annotated[int, Field(ge=0, le=36_525)] = Field(
        description="most nights before the one asked for that are caught up where they were missed"
    )


class MigrationLimits(Section):
    """Limits on the share of users who change band between two nights, among those with a band on both."""

    max_two_bands: Share = Field(description="moved by two bands or more")
    max_up: Share = Field(description="moved to a band of higher risk")
    max_down: Share = Field(description="moved to a band of lower risk")


class MonitoringConfig(Section):
    """Limits and lookbacks of monitor_scores; docs/monitoring.md explains each measure."""

    max_score_psi: Annotated[float, Field(gt=0)] = Field(
        description="largest population stability index of the night's scores, beyond what chance explains"
    )
    max_input_psi: Annotated[float, Field(gt=0)] = Field(description="the same of each input of the model")
    min_counted: Positive = Field(description="shares and changes of fewer users or payments are shown and not judged")
    night: MigrationLimits = Field(description="band changes since the night scored before")
    month: MigrationLimits = Field(description="band changes since a night at least a month before")
    max_users_change: Annotated[float, Field(gt=0, le=1)] = Field(
        description="largest relative change of the scored users since the night before, either way"
    )
    max_day_change: Annotated[float, Field(gt=0, le=1)] = Field(
        description="largest relative change of the last day's payments against the same weekdays before, either way"
    )
    max_week_change: Annotated[float, Field(gt=0, le=1)] = Field(
        description="largest relative change of the last week's payments against the four weeks before, either way"
    )
    max_thin_share: Share = Field(description="of the night's users")
    max_without_fold_share: Share = Field(description="of the users who paid in the last week")
    max_without_score_share: Share = Field(description="of the night's folds")
    max_late_share: Share = Field(description="of the payments that came since the night before")
    max_quarantined_share: Share = Field(description="of the rows that were delivered since the night before")
    matured_days: Days = Field(description="labels that matured within as many days are measured")
    score_age_days: Annotated[int, Field(ge=0, le=36_525)] = Field(
        description="a label is measured on its user's latest score of at most as many days before observed_on"
    )
    min_defaults: Annotated[int, Field(ge=2, le=LARGEST)] = Field(
        description="with fewer matured defaults, or fewer others, quality is shown and not judged"
    )
    min_auc: Annotated[float, Field(ge=0.5, lt=1)] = Field(description="of matured scores")
    min_ks: Annotated[float, Field(ge=0, lt=1)] = Field(description="of matured scores")
    calibration: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = Field(
        description="least and largest mean probability over default rate of matured scores"
    )

    @model_validator(mode="after")
    def _calibration_rises(self) -> MonitoringConfig:
        if self.calibration[0] >= self.calibration[1]:
            raise ValueError("calibration must rise: the least, then the largest")
        return self


class MaintenanceConfig(Section):
    """What maintain_tables merges and removes."""

    retention_hours: Annotated[int, Field(ge=24)] = Field(
        description="files of versions that nothing refers to, and files that no commit names, stay as many hours: "
        "more than any job runs, training included, since a running job's files look like a killed one's"
    )
    compact_files: Annotated[int, Field(ge=2)] = Field(
        description="the files of a partition are merged where there are as many"
    )


class Config(Section):
    """The whole configuration of one warehouse."""

    storage: StorageConfig
    spark: SparkConfig
    synthetic: SyntheticConfig
    ingest: IngestConfig
    fold: FoldConfig
    examples: ExamplesConfig
    model: ModelConfig
    training: TrainingConfig
    pretraining: PretrainingConfig
    tracking: TrackingConfig
    promotion: PromotionConfig
    scoring: ScoringConfig
    nightly: NightlyConfig
    monitoring: MonitoringConfig
    maintenance: MaintenanceConfig
