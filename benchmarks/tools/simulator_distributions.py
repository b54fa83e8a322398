"""Plot the simulator's distributions together with those of real purchases.

The plots show payments per user, payments per user and merchant, and days between visits of a user to a merchant, as
complementary cumulative distributions on log-log axes: the share of users (pairs, gaps) with at least x. x is relative
to the mean, as the real file is a small sample of rows: shapes are compared, not counts. For a fair comparison of
shapes, the simulated payments are also sampled at random down to the real file's payments per user.

    python -m benchmarks.tools.simulator_distributions --payments-root warehouse \\
        --real-csv transactions.csv.gz --out docs/images
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import polars as pl
from numpy.typing import NDArray

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLOURS = {"real": "#222222", "thinned": "#d1495b", "simulated": "#2e6f95"}
LOOKS = {"real": ("-", 2.2), "thinned": ("-", 1.8), "simulated": ("--", 1.4)}


def simulated_payments(root: str) -> pl.DataFrame:
    """Read the valid payments of the raw Parquet files, without duplicates: user, merchant, time, amount and texts."""
    raw = pl.scan_parquet(f"{root}/raw/payments/**/*.parquet", hive_partitioning=False)
    return (
        raw.select(
            pl.col("txn_id"),
            pl.col("customer").alias("user_id"),
            pl.col("payee_id").alias("merchant_id"),
            pl.col("booked_at").str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False).alias("paid_at"),
            pl.col("value").cast(pl.Float64, strict=False).alias("amount"),
            pl.col("mcc_text").alias("category"),
            pl.col("channel"),
            pl.col("memo").alias("description"),
            pl.col("ccy"),
        )
        .filter(
            pl.all_horizontal(pl.col("txn_id", "user_id", "merchant_id", "paid_at", "amount").is_not_null()),
            pl.col("paid_at").dt.year() < 2090,
            pl.col("amount").abs() < 1e6,
            pl.col("ccy") == "EUR",
        )
        .unique("txn_id")
        .drop("ccy")
        .collect()
        .sort("txn_id")
        .drop("txn_id")
    )


def real_payments(path: str) -> pl.DataFrame:
    """Read the Complete Journey sample; a household is a user, a manufacturer a merchant."""
    return pl.read_csv(path, infer_schema_length=0).select(
        pl.col("household_id").alias("user_id"),
        pl.col("manufacturer_id").alias("merchant_id"),
        pl.col("transaction_timestamp").str.to_datetime("%Y-%m-%d %H:%M:%S").alias("paid_at"),
    )


def thin(payments: pl.DataFrame, payments_a_user: float) -> pl.DataFrame:
    """Sample rows at random down to this mean number of payments per user."""
    share = payments_a_user * payments["user_id"].n_unique() / len(payments)
    return payments.sample(fraction=min(1.0, share), seed=7)


def figures(payments: pl.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Return the three samples that are plotted, by title."""
    pairs = payments.sort("user_id", "merchant_id", "paid_at")
    gap = pl.col("paid_at").diff().over("user_id", "merchant_id").dt.total_seconds() / 86400
    gaps = pairs.select(gap.alias("gap"))["gap"].drop_nulls().to_numpy()
    return {
        "payments a user": payments.group_by("user_id").len()["len"].to_numpy().astype(float),
        "payments a user and merchant": payments.group_by("user_id", "merchant_id")
        .len()["len"]
        .to_numpy()
        .astype(float),
        # Rows of one basket have the same time and are not repeated visits.
        "days between a user's visits to a merchant": gaps[gaps > 1 / 24],
    }


def complementary(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the distinct values, and for each the share of values that are at least as large."""
    distinct, counts = np.unique(values, return_counts=True)
    return distinct, counts[::-1].cumsum()[::-1] / len(values)


def plot(samples: dict[str, dict[str, NDArray[np.float64]]], names: dict[str, str], out: Path) -> None:
    panels = list(samples["real"])
    figure, axes = plt.subplots(1, len(panels), figsize=(15, 5.2))
    for axis, panel in zip(axes, panels, strict=True):
        for key, found in samples.items():
            x, share = complementary(found[panel])
            style, width = LOOKS[key]
            axis.plot(x / found[panel].mean(), share, style, color=COLOURS[key], linewidth=width, label=names[key])
        axis.set(
            xscale="log", yscale="log", title=panel, xlabel="x, relative to the mean", xlim=(0.02, 60), ylim=(1e-4, 1.3)
        )
        axis.grid(True, which="major", alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("share with at least x")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="lower center", ncol=3, frameon=False)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "simulator_distributions.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--payments-root", required=True, help="storage.root of a simulated warehouse")
    parser.add_argument("--real-csv", required=True, help="the Complete Journey sample's transactions")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="folder of the picture")
    arguments = parser.parse_args()
    real, simulated = real_payments(arguments.real_csv), simulated_payments(arguments.payments_root)
    simulated = simulated.select("user_id", "merchant_id", "paid_at")
    thinned = thin(simulated, len(real) / real["user_id"].n_unique())
    samples = {"real": figures(real), "thinned": figures(thinned), "simulated": figures(simulated)}
    names = {
        "real": "Complete Journey, 1 % of its rows",
        "thinned": "simulated, thinned to as many payments a user",
        "simulated": "simulated, all",
    }
    for key, found in samples.items():
        for panel, values in found.items():
            quantiles = ", ".join(f"{q:.0%} {np.quantile(values, q):.3g}" for q in (0.1, 0.5, 0.9, 0.99))
            print(f"{names[key]}: {panel}: {len(values):,} values, mean {values.mean():.3g}; {quantiles}")
    plot(samples, names, arguments.out)


if __name__ == "__main__":
    main()
