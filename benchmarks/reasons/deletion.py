"""Test by deletion whether the merchants named as reasons move the score, compared with other ways to choose merchants.

    .venv/bin/python -m benchmarks.reasons                   the champion, on the out-of-time examples
    .venv/bin/python -m benchmarks.reasons --model FOLDER --conf conf/experiment.yaml

The merchants that a method ranks first are removed from the fold together, and the fold is scored again: the more
the log-odds change, the better the method. For one merchant, leave-one-out is exact by definition. For two or three
merchants removed together it is not, as merchants attend to each other. Writes docs/benchmarks/reasons.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from captum.attr import IntegratedGradients
from numpy.typing import NDArray
from scipy.stats import spearmanr

from lbsf.config import load_config
from lbsf.folds.packed import PackedFolds
from lbsf.folds.views import keep_payments
from lbsf.models.artifact import ModelCard, load_model
from lbsf.models.batch import FoldBatch
from lbsf.models.lbsf import LBSF
from lbsf.models.segments import pad_segments, segment_positions
from lbsf.schemas import EXAMPLES
from lbsf.scoring.explain import CANDIDATES_A_REASON, leave_one_out
from lbsf.tables.log import snapshot_files
from lbsf.tracking import CHAMPION, Tracker

Floats = NDArray[np.float64]
# Returns the strength of each merchant of a batch, (M,); the strongest are named.
Way = Callable[[LBSF, PackedFolds], Floats]

OURS = "leave one out (ours)"
ALL = "leave one out, all merchants"
GRADIENTS = "integrated gradients"
MOST = 3
FEWEST_MERCHANTS = 10
BATCH = 64
IG_STEPS = 32
SAMPLES = 1_000


def all_merchants(model: LBSF, packed: PackedFolds) -> Floats:
    """Return the logit with all merchants less the logit without each one, (M,)."""
    with torch.inference_mode():
        batch = FoldBatch.from_packed(packed)
        _, lost = leave_one_out(model, model.merchant_vectors(batch), batch.merchant_count)
        return lost.double().numpy()


def among_candidates(model: LBSF, packed: PackedFolds) -> Floats:
    """Return the same as `all_merchants`, but only for the candidates that scoring selects; 0 for others."""
    with torch.inference_mode():
        batch = FoldBatch.from_packed(packed)
        vectors = model.merchant_vectors(batch)
        _, lost = leave_one_out(model, vectors, batch.merchant_count, MOST * CANDIDATES_A_REASON)
        return lost.double().numpy()


def integrated_gradients(model: LBSF, packed: PackedFolds) -> Floats:
    """Compute Captum's integrated gradients, summed over each merchant's features, (M,).

    The baseline is the batch's mean merchant. Zero vectors are unsuitable, as layer norm is ill-conditioned there.
    """
    batch = FoldBatch.from_packed(packed)
    with torch.no_grad():
        vectors = model.merchant_vectors(batch)
    users = torch.arange(len(packed))
    dense, present = pad_segments(vectors, batch.merchant_count, users)
    method = IntegratedGradients(model.user_logits)
    found = method.attribute(
        dense,
        vectors.mean(0).expand_as(dense),
        additional_forward_args=(present,),
        n_steps=IG_STEPS,
        internal_batch_size=BATCH,
    )
    strength = torch.empty(len(vectors), dtype=torch.float64)
    strength[segment_positions(batch.merchant_count, users, present)] = found.sum(2).double()[present]
    return strength.numpy()


def most_payments(model: LBSF, packed: PackedFolds) -> Floats:
    """Return the number of payments of each merchant, (M,)."""
    return packed.merchant_len.astype(np.float64)


def largest_amounts(model: LBSF, packed: PackedFolds) -> Floats:
    """Return the sum of absolute amounts of each merchant in cents, (M,)."""
    spent = np.bincount(packed.merchant_of_payment, np.abs(packed.amount_cents), len(packed.merchant_len))
    return spent.astype(np.float64)


def at_random(model: LBSF, packed: PackedFolds) -> Floats:
    """Return random strengths, (M,)."""
    return np.random.default_rng(len(packed.paid_at)).random(len(packed.merchant_len))


# Methods whose strengths have a sign, the direction of the effect.
SIGNED = (OURS, ALL, GRADIENTS)
WAYS: dict[str, Way] = {
    OURS: among_candidates,
    ALL: all_merchants,
    GRADIENTS: integrated_gradients,
    "most payments": most_payments,
    "largest amounts": largest_amounts,
    "random": at_random,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    arguments = _parser().parse_args(argv)
    config = load_config(arguments.conf, arguments.set)
    root = Path(config.storage.root).absolute()
    folder = arguments.model or Tracker(config, root).fetch(CHAMPION).folder
    model, card = load_model(folder)
    files = snapshot_files(str(root / "tables" / EXAMPLES.name))
    paths = [file.path for file in files if file.partition["split"] == "out_of_time"]
    rows = pa.concat_tables([pq.read_table(path, partitioning=None) for path in paths])
    rows = rows.filter(pa.compute.greater_equal(rows["merchants_kept"], FEWEST_MERCHANTS))
    rows = rows.take(np.random.default_rng(1).permutation(rows.num_rows)[: arguments.users])
    torch.manual_seed(1)
    page = _page(model, card, rows)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(page, encoding="utf-8")
    print(page)
    return 0


def deletion(model: LBSF, card: ModelCard, packed: PackedFolds, strength: Floats) -> Floats:
    """Return the decrease of the log-odds when each user's 1 to MOST strongest merchants are removed, (n, MOST)."""
    user = np.repeat(np.arange(len(packed)), packed.merchant_count)
    order = np.lexsort((-np.abs(strength), user))
    rank = np.empty(len(order), np.int64)
    first = np.cumsum(packed.merchant_count) - packed.merchant_count
    rank[order] = np.arange(len(order)) - first[user[order]]
    # A merchant with strength 0 is not named and never removed.
    stays = [(rank >= most) | (strength == 0) for most in range(1, MOST + 1)]
    with torch.inference_mode():
        whole = model(FoldBatch.from_packed(packed))
        moved = [
            whole - model(FoldBatch.from_packed(keep_payments(packed, np.repeat(keep, packed.merchant_len))))
            for keep in stays
        ]
    return card.slope * torch.stack(moved, dim=1).double().numpy()


def _page(model: LBSF, card: ModelCard, rows: pa.Table) -> str:
    moved: dict[str, list[Floats]] = {name: [] for name in WAYS}
    one_way: dict[tuple[str, int], list[Floats]] = {(name, sign): [] for name in SIGNED for sign in (1, -1)}
    strengths: dict[str, list[Floats]] = {name: [] for name in WAYS}
    seconds = dict.fromkeys(WAYS, 0.0)
    agreement, merchants = [], []
    for start in range(0, rows.num_rows, BATCH):
        some = rows.slice(start, BATCH)
        packed = PackedFolds.from_arrow(some.drop_columns(["label"]))
        for name, way in WAYS.items():
            began = time.process_time()
            strength = way(model, packed)
            seconds[name] += time.process_time() - began
            strengths[name].append(strength)
            moved[name].append(deletion(model, card, packed, strength))
            if name in SIGNED:
                for sign in (1, -1):
                    part = deletion(model, card, packed, np.maximum(sign * strength, 0.0))
                    one_way[name, sign].append(sign * part)
        cuts = np.cumsum(packed.merchant_count)[:-1]
        pairs = [np.split(strengths[name][-1], cuts) for name in (ALL, GRADIENTS)]
        agreement += [spearmanr(*pair).statistic for pair in zip(*pairs, strict=True)]
        merchants.append(pl.DataFrame(some.select(["merchant_category"])).explode("merchant_category"))
    found = {name: np.abs(np.concatenate(parts)) for name, parts in moved.items()}
    lines = [
        "# Do the reasons hold?",
        "",
        "Made by `make bench-reasons`; how it is measured: [benchmarks/reasons](../../benchmarks/reasons/deletion.py).",
        "",
        f"{rows.num_rows:,} out-of-time users with at least {FEWEST_MERCHANTS} merchants. Mean absolute change of the "
        "log-odds when the merchants that a way names first are removed together, with 95 % bootstrap limits over "
        "users:",
        "",
        "| way | 1 merchant | 2 merchants | 3 merchants | moves more than random | CPU ms a user |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, distance in found.items():
        cells = " | ".join(_interval(distance[:, place]) for place in range(MOST))
        more = "" if name == "random" else f"{100 * np.mean(distance[:, -1] > found['random'][:, -1]):.0f} %"
        lines.append(f"| {name} | {cells} | {more} | {1000 * seconds[name] / rows.num_rows:.2f} |")
    lines += [
        "",
        "Merchants that raise and merchants that lower the risk cancel each other when they are removed together. One "
        "direction at a time: the decrease of the log-odds without the first 1 to 3 raising merchants, and the "
        "increase without the first 1 to 3 lowering ones:",
        "",
        "| way | raising: 1 | 2 | 3 | lowering: 1 | 2 | 3 |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in SIGNED:
        means = [np.concatenate(one_way[name, sign])[:, place].mean() for sign in (1, -1) for place in range(MOST)]
        lines.append(f"| {name} | {' | '.join(f'{mean:.3f}' for mean in means)} |")
    lines += [
        "",
        "Rank correlation of leave one out and integrated gradients over a user's merchants: "
        f"{np.median(agreement):.2f} (median over users).",
        "",
        "Mean leave-one-out contribution of the merchants of each category:",
        "",
        _kinds(np.concatenate(strengths[ALL]), pl.concat(merchants)["merchant_category"].to_numpy()),
        "",
    ]
    return "\n".join(lines)


def _interval(values: Floats) -> str:
    drawn = np.random.default_rng(2).integers(0, len(values), (SAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    return f"{values.mean():.3f} ({low:.3f} to {high:.3f})"


def _kinds(contribution: Floats, category: NDArray[np.object_]) -> str:
    """Make a table of the mean contribution of merchants by category."""
    table = (
        pl.DataFrame({"category": category.astype(str), "contribution": contribution})
        .group_by("category")
        .agg(pl.len().alias("merchants"), pl.mean("contribution"), (pl.col("contribution") > 0).mean().alias("raises"))
        .filter(pl.col("merchants") >= 30)
        .sort("contribution", descending=True)
    )
    lines = ["| category | merchants of users | mean contribution (logit) | raises |", "|---|---:|---:|---:|"]
    lines += [f"| {c} | {n:,} | {m:+.3f} | {100 * r:.0f} % |" for c, n, m, r in table.iter_rows()]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--conf", default="conf/local.yaml", help="configuration (default: %(default)s)")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="lays a value over the configuration")
    add("--model", type=Path, help="folder of a saved model (default: the champion)")
    add("--users", type=int, default=2_000, help="number of users (default: %(default)s)")
    add("--out", type=Path, default=Path("docs/benchmarks/reasons.md"), help="page (default: %(default)s)")
    return parser
