"""Settings of a small run, for whole jobs on a scratch warehouse."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
SMALL = (
    "spark.master=local[2]",
    "spark.driver_memory=2g",
    "spark.shuffle_partitions=2",
    "storage.user_buckets=2",
    "fold.row_group_users=32",
    "synthetic.users=200",
    "synthetic.merchants=400",
    "training.epochs=1",
    "training.batch_users=32",
    "promotion.bootstrap_samples=100",
)
