"""Compare LBSF with its baselines by length of history, over several seeds, and with ablations of parts and fields.

    make experiment
    make experiment ARGS="--groups history --seeds 1 --set synthetic.users=4000 --set storage.root=warehouse/small"

Simulates the data if they are missing, trains the cells that are not trained yet, and writes docs/experiments.md, its
pictures and an MLflow run. A stopped run can simply be started again: trained cells are kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.experiment.cells import DEAREST, grid, trials
from benchmarks.experiment.data import prepare
from benchmarks.experiment.intervals import auc_and_ks, draw
from benchmarks.experiment.predictions import read
from benchmarks.experiment.report import write
from benchmarks.experiment.runs import Runner
from benchmarks.experiment.series import SPLIT, Series, gather
from lbsf.baselines.sequences import BACKBONES
from lbsf.config import load_config
from lbsf.config.models import Config
from lbsf.tracking import Tracker

GROUPS = ("history", "parts", "labels", "fields")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 1 if a cell failed."""
    arguments = _parser().parse_args(argv)
    config = load_config(arguments.conf, arguments.set)
    data = prepare(arguments.conf, arguments.set, config, arguments.labels)
    runner = Runner(config, data, arguments.at_once)
    train = not arguments.report_only
    seeds = range(1, arguments.seeds + 1)
    tried = [cell for cells in trials(arguments.backbones, seeds[0]).values() for cell in cells]
    failed = runner.train(tried) if train else []
    # Chosen from all trials ever made, so that running one group alone uses the same settings as running all.
    chosen = runner.choose_settings(trials(BACKBONES, seeds[0]))
    labels = (data.splits["train"].users, data.every_train.users)
    cells = grid(seeds, arguments.backbones, arguments.groups, chosen, *labels)
    failed += runner.train(cells) if train else []
    known = grid(range(1, arguments.most_seeds + 1), BACKBONES, GROUPS, chosen, *labels)
    trained = [(cell, runner.folder / cell.name, result) for cell in known if (result := runner.result(cell))]
    if not trained:
        raise SystemExit("nothing is trained yet")
    found = gather(trained)
    label, _ = read(trained[0][1], SPLIT)
    reachable = auc_and_ks(label, data.reachable, draw(label, samples=1))[0].value
    print(write(found, reachable, arguments.docs))
    _track(config, found, reachable, arguments.docs)
    return int(bool(failed))


def _track(config: Config, found: dict[str, Series], reachable: float, docs: Path) -> None:
    """Record all figures in one MLflow run."""
    tracker = Tracker(config, Path(config.storage.root).absolute())
    with tracker.run("experiment") as run:
        run.params({"users": config.synthetic.users, "default_rate": config.synthetic.default_rate})
        run.metrics({"auc.reachable": reachable, **{f"auc.{name}": s.auc.value for name, s in found.items()}})
        run.metrics({f"ks.{name}": series.ks.value for name, series in found.items()})
        seeds = {name: [auc.value for auc in series.seeds.values()] for name, series in found.items()}
        run.document(seeds, "auc_by_seed.json")
        run.document({"markdown": (docs / "experiments.md").read_text(encoding="utf-8")}, "experiments.json")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--conf", default="conf/experiment.yaml", help="configuration (default: %(default)s)")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="lays a value over the configuration")
    add("--groups", nargs="+", choices=GROUPS, default=list(GROUPS), help="which parts (default: all)")
    usual = [name for name in BACKBONES if name not in DEAREST]
    but = f"sequence models (default: all but {' and '.join(DEAREST)})"
    add("--backbones", nargs="*", choices=BACKBONES, default=usual, help=but)
    add("--seeds", type=int, default=3, help="seeds a cell (default: %(default)s)")
    add("--most-seeds", type=int, default=10, help="seeds that the report looks for (default: %(default)s)")
    add("--labels", type=int, default=12_000, help="training users, usually (default: %(default)s)")
    add("--at-once", type=int, default=2, help="networks trained at a time (default: %(default)s)")
    add("--report-only", action="store_true", help="train nothing; report what is trained")
    add("--docs", type=Path, default=Path("docs"), help="folder of the page (default: %(default)s)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
