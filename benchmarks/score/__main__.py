"""Compare scoring in Spark with a bare torch loop over the same rows, in users per second and core.

    make bench-score
    make bench-score ARGS="--users 20000 --repeat 3"

Each contender runs in its own process on one core: `bare` reads the Parquet files with PyArrow and calls the network,
`spark` runs score_folds in local[1], and `night` does all of score_users' work: also changes, ranks and the write.
Contenders run alternately. The weights are random, as the time does not depend on them. The start of Python and Spark,
and a first pass over a few users, are not timed. Writes docs/benchmarks/score.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.harness.machine import PROJECT, machine
from benchmarks.train.rows import AS_OF, END, Shape, draw, write
from lbsf.config import load_config
from lbsf.config.models import Config
from lbsf.folds.packed import SECONDS_PER_DAY, PackedFolds
from lbsf.models.artifact import ModelCard, ThinFile, load_model, save_model
from lbsf.models.lbsf import LBSF

CONTENDERS = ("bare", "bare, no reasons", "spark", "night")
PER_USER = 250
SINCE = AS_OF - timedelta(days=1)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    arguments = _parser().parse_args(argv)
    config = load_config("conf/local.yaml", [])
    if arguments.contender:
        folder = arguments.scratch / str(arguments.users)
        print(json.dumps({"seconds": _run(arguments.contender, folder, config)}))
        return 0
    folder = _data(arguments.scratch / str(arguments.users), arguments.users, config)
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(arguments.repeat):
        for name in CONTENDERS:
            seconds[name].append(_measure(name, arguments.users, arguments.scratch))
            print(f"{name}: {seconds[name][-1]:.1f} s", flush=True)
    shutil.rmtree(folder)
    page = _page(arguments.users, {name: statistics.median(times) for name, times in seconds.items()}, arguments.repeat)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(page, encoding="utf-8")
    print(page)
    return 0


def _data(folder: Path, users: int, config: Config) -> Path:
    """Write random folds with the columns that scoring reads, a small part of them for warm-up, and a model."""
    shutil.rmtree(folder, ignore_errors=True)
    rows = draw(Shape(users, PER_USER, 0), config.fold)
    count = rows["merchant_len"].combine_chunks().value_lengths()
    offsets = np.concatenate([[0], np.cumsum(count)]).astype(np.int32)
    names = pa.array([f"Merchant {number % 5_000}" for number in range(int(offsets[-1]))])
    of_merchant = pa.ListArray.from_arrays(pa.array(offsets), names)
    folds = rows.drop_columns(["label"])
    folds = folds.append_column("merchant_id", of_merchant).append_column("merchant_name", of_merchant)
    folds = folds.append_column("payments_version", pa.array(np.zeros(users, np.int64)))
    few = config.fold.row_group_users
    write(folds.slice(0, few), folder / "warm" / "part.parquet", few)
    write(folds, folder / "folds" / "part.parquet", few)
    torch.manual_seed(1)
    card = ModelCard(
        model=config.model,
        fold=config.fold,
        slope=1.0,
        intercept=0.0,
        thin_file=ThinFile(payments=10, merchants=3, probability=0.05),
    )
    save_model(folder / "model", LBSF(config.model, config.fold), card)
    return folder


def _measure(contender: str, users: int, scratch: Path) -> float:
    """Return the seconds of one contender, run in a process with one thread in every library."""
    command = [sys.executable, "-m", "benchmarks.score", "--contender", contender, "--users", str(users)]
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
    done = subprocess.run(
        [*command, "--scratch", str(scratch)],
        cwd=PROJECT,
        env={**os.environ, **one},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


def _run(contender: str, folder: Path, config: Config) -> float:
    reasons = 0 if contender == "bare, no reasons" else config.scoring.reasons
    if contender.startswith("bare"):
        return _timed(lambda part: _bare(folder / part, folder / "model", config, reasons))
    with tempfile.TemporaryDirectory() as out:
        return _timed(_through_spark(contender, folder, config, Path(out)))


def _timed(score: Callable[[str], None]) -> float:
    score("warm")
    began = time.monotonic()
    score("folds")
    return time.monotonic() - began


def _bare(folds: Path, model: Path, config: Config, reasons: int) -> None:
    from lbsf.scoring import score_batch

    torch.set_num_threads(1)
    network, card = load_model(model)
    since = END - SECONDS_PER_DAY
    with pq.ParquetFile(folds / "part.parquet") as file:
        for rows in file.iter_batches(config.scoring.batch_users):
            score_batch(network, card, PackedFolds.from_arrow(rows), reasons, since)


def _through_spark(contender: str, folder: Path, config: Config, out: Path) -> Callable[[str], None]:
    from lbsf.scoring import ModelFiles, score_folds, with_change, with_rank
    from lbsf.session import ARROW_ROWS, get_spark

    spark = get_spark(config.spark.model_copy(update={"master": "local[1]", "shuffle_partitions": 1}))
    spark.conf.set(ARROW_ROWS, str(config.scoring.batch_users))
    files = ModelFiles.read(folder / "model")

    def score(part: str) -> None:
        folds = spark.read.parquet(str(folder / part))
        raw = score_folds(folds, files, config.scoring.batch_users, config.scoring.reasons, SINCE)
        if contender == "spark":
            raw.write.format("noop").mode("overwrite").save()
            return
        raw = raw.persist()
        with_rank(with_change(raw, None, None, "1"), config.scoring.bands).write.format("delta").save(str(out / part))
        raw.unpersist()

    return score


def _page(users: int, seconds: dict[str, float], repeat: int) -> str:
    bare = seconds["bare"]
    lines = [
        "# Scoring through Spark",
        "",
        "Made by `make bench-score`; what the contenders are: [benchmarks/score](../../benchmarks/score/__main__.py).",
        "",
        f"{users:,} users with a median of {PER_USER} payments, median of {repeat} round(s). {machine()['machine']}.",
        "",
        "| contender | seconds | users a second and core | times bare |",
        "|---|---:|---:|---:|",
        *(f"| {name} | {s:.1f} | {users / s:,.0f} | {s / bare:.2f} |" for name, s in seconds.items()),
        "",
        f"Spark's overhead over the bare loop: {100 * (seconds['spark'] / bare - 1):.0f} %.",
        "",
    ]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--users", type=int, default=8_192, help="users that are scored (default: %(default)s)")
    add("--repeat", type=int, default=3, help="rounds (default: %(default)s)")
    add("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    add("--scratch", type=Path, default=Path("/tmp/lbsf-bench-score"), help="folder for data (default: %(default)s)")
    add("--out", type=Path, default=Path("docs/benchmarks/score.md"), help="page (default: %(default)s)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
