"""Measure how well a simple model predicts the simulated defaults, by days of history.

Prints the AUC of LightGBM on simple aggregates of each user's last 45, 90 and 180 days before observed_on, with
five-fold cross-validation over users, and the best reachable AUC. Reads the simulator's raw files
and the table of true probabilities, so it runs on a simulated warehouse:

    python jobs/generate_payments.py
    python -m benchmarks.tools.simulator_learnability --payments-root warehouse
"""

from __future__ import annotations

import argparse
from typing import Any

import lightgbm
import numpy as np
import polars as pl
from deltalake import DeltaTable
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from benchmarks.tools.simulator_distributions import simulated_payments

WINDOWS = (45, 90, 180)
GROUPS = (
    "groceries", "transport", "restaurants", "online shopping", "cash", "betting",
    "pawn", "lender", "salary", "rent", "utilities", "subscription",
)  # fmt: skip
TREES: dict[str, Any] = {"n_estimators": 120, "learning_rate": 0.05, "num_leaves": 15, "min_child_samples": 40,
         "subsample": 0.8, "subsample_freq": 1, "colsample_bytree": 0.5, "reg_lambda": 5.0,
         "verbose": -1, "n_jobs": 1, "random_state": 7}  # fmt: skip


def aggregates(payments: pl.DataFrame, labels: pl.DataFrame, days: int) -> pl.DataFrame:
    """Compute a few dozen sums, counts and shares of each user's payments in [observed_on - days, observed_on)."""
    observed = pl.col("observed_on").cast(pl.Datetime("us"))
    window = payments.join(labels.select("user_id", "observed_on"), on="user_id").filter(
        (pl.col("paid_at") < observed) & (pl.col("paid_at") >= observed - pl.duration(days=days))
    )
    amount, hour = pl.col("amount"), pl.col("paid_at").dt.hour()
    night = (hour < 5) | (hour == 23)
    features = [
        pl.len().alias("payments"),
        pl.col("merchant_id").n_unique().alias("merchants"),
        pl.col("paid_at").dt.date().n_unique().alias("active_days"),
        amount.sum().alias("net"),
        amount.filter(amount > 0).mean().alias("mean_amount"),
        amount.filter(amount > 0).std().alias("sd_amount"),
        amount.max().alias("max_amount"),
        night.mean().alias("night_share"),
        (night & (pl.col("channel") == "ATM")).sum().alias("night_cash"),
        (pl.col("paid_at").dt.weekday() > 5).mean().alias("weekend_share"),
        (pl.col("description") == "reminder, second notice").sum().alias("reminders"),
        *[(pl.col("channel") == channel).mean().alias(f"share_{channel}") for channel in ("POS", "WEB", "ATM", "TRF")],
    ]
    for group in GROUPS:
        of_group = pl.col("category") == group
        features += [
            of_group.sum().alias(f"{group}_payments"),
            amount.filter(of_group).sum().alias(f"{group}_amount"),
            amount.filter(of_group).mean().alias(f"{group}_mean"),
        ]
    found = window.group_by("user_id").agg(features)
    return labels.select("user_id").join(found, on="user_id", how="left").sort("user_id").drop("user_id")


def changes(payments: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Compute features that depend on the order of 180 days of payments, such as later bills and spending changes."""
    observed = pl.col("observed_on").cast(pl.Datetime("us"))
    days_before = (observed - pl.col("paid_at")).dt.total_seconds() / 86400
    window = (
        payments.join(labels.select("user_id", "observed_on"), on="user_id")
        .with_columns(days_before.alias("before"))
        .filter((pl.col("before") > 0) & (pl.col("before") <= 180))
    )
    first = pl.col("before").max()
    bills = (
        window.filter(pl.col("category").is_in(["rent", "utilities", "subscription"]))
        .sort("paid_at")
        .with_columns((first.over("user_id", "merchant_id") - pl.col("before")).alias("since_first"))
        # Deviation in days from monthly intervals since the bill's first payment.
        .with_columns(((pl.col("since_first") + 10) % 30.44 - 10).alias("slip"))
        .group_by("user_id", "merchant_id")
        .agg(
            pl.len().alias("n"),
            pl.col("slip").tail(2).mean().alias("slip"),
            (pl.col("slip").tail(2).mean() - pl.col("slip").slice(1, 2).mean()).alias("rise"),
            pl.col("paid_at").diff().dt.total_days().max().alias("longest_gap"),
        )
        .filter(pl.col("n").is_between(3, 7))
        .group_by("user_id")
        .agg(pl.col("slip", "rise", "longest_gap").mean(), pl.col("slip").max().alias("largest_slip"))
    )
    groups = {
        "staples": pl.col("category").is_in(["groceries", "transport"]),
        "borrowed": pl.col("category").is_in(["lender", "pawn"]),
        "betting": pl.col("category") == "betting",
        "night": (pl.col("paid_at").dt.hour() < 5) | (pl.col("paid_at").dt.hour() == 23),
    }
    late = pl.col("before") < 90
    spent = window.group_by("user_id").agg(
        *[
            (pl.col("amount").filter(late & of).sum() - pl.col("amount").filter(~late & of).sum()).alias(
                f"{name}_change"
            )
            for name, of in groups.items()
        ],
        (
            (pl.col("amount").filter(late & groups["staples"]).sum() + 20)
            / (pl.col("amount").filter(~late & groups["staples"]).sum() + 20)
        )
        .log()
        .alias("staples_ratio"),
    )
    found = labels.select("user_id").join(bills, on="user_id", how="left").join(spent, on="user_id", how="left")
    return found.sort("user_id").drop("user_id")


def cross_validated(features: pl.DataFrame, label: NDArray[np.int64]) -> NDArray[np.float64]:
    matrix = features.to_numpy().astype(np.float64)
    scores = np.zeros(len(label))
    for train, test in StratifiedKFold(5, shuffle=True, random_state=7).split(matrix, label):
        trees = lightgbm.LGBMClassifier(**TREES).fit(matrix[train], label[train])
        scores[test] = np.asarray(trees.predict_proba(matrix[test]))[:, 1]
    return scores


def report(payments: pl.DataFrame, truth: pl.DataFrame) -> None:
    truth = truth.sort("user_id")
    label = truth["label"].to_numpy()
    print(f"users {len(label):,}, defaults {label.sum():,} ({label.mean():.2%})")
    print(f"best reachable AUC {roc_auc_score(label, truth['default_probability'].to_numpy()):.3f}")
    windows = {days: aggregates(payments, truth, days) for days in WINDOWS}
    for days, features in windows.items():
        auc = roc_auc_score(label, cross_validated(features, label))
        print(f"LightGBM, {len(features.columns)} aggregates over {days} days: AUC {auc:.3f}")
    ordered = windows[180].hstack(changes(payments, truth))
    print(
        f"LightGBM, those of 180 days and {len(ordered.columns) - len(windows[180].columns)} changes: "
        f"AUC {roc_auc_score(label, cross_validated(ordered, label)):.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--payments-root", required=True, help="storage.root of a simulated warehouse")
    root = parser.parse_args().payments_root
    truth = pl.DataFrame(DeltaTable(f"{root}/tables/synthetic_truth").to_pyarrow_table())
    report(simulated_payments(root), truth)


if __name__ == "__main__":
    main()
