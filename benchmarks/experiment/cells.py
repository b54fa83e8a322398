"""The cells of the experiment: each trains one network with one length of history, ablation and seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal, NamedTuple

from lbsf.config.models import Config
from lbsf.folds.views import FIELDS, PaymentField, View
from lbsf.training.plan import Split, TrainingPlan


class Setting(NamedTuple):
    """The hyperparameters that are chosen for each network: its learning rate, and model.head."""

    rate: float
    head: Literal["linear", "hidden"]


DAYS = (45, 90, 180)
LONGEST = DAYS[-1]
# Models that are trained with every length of history and every seed.
AT_EVERY_SEED = ("lbsf", "lightgbm", "fusion")
# Sequence models that are trained with every length, with one seed; the others only with 180 days.
AT_EVERY_LENGTH = ("gru", "transformer")
# Each network is trained with each setting on TRIAL_DAYS of history; the one with the best validation AUC is used.
TRIAL_DAYS = 90
SETTINGS = (Setting(0.003, "linear"), Setting(0.001, "linear"), Setting(0.003, "hidden"))
# These use the setting of a similar network, as training them several times takes too long.
SETTING_OF = {
    "fusion": "lbsf",
    "longformer": "transformer",
    "reformer": "transformer",
    "fnet": "transformer",
    "mamba2": "gru",
}
# Learning rate after distillation on all users. The validation AUC is 0.7811 with it, 0.7790 with the usual rate.
FINE_TUNING_RATE = 0.001
# Numbers of labels in the group `labels`, relative to the usual number.
LABEL_SHARES = (1 / 16, 1 / 4, 1, 4)
# These take more than twenty minutes of a core each and are trained only if named on the command line.
DEAREST = ("longformer", "mamba2")
# Part of the name of a pretrained cell.
PRETRAINED_AS = {"visits": "pretrained", "teacher": "on_all"}
# Models without training epochs: LightGBM alone, and combined with LBSF.
TREES = ("lightgbm", "fusion")


@dataclass(frozen=True)
class Cell:
    """One model that is trained and measured.

    Attributes:
        network: lbsf, a backbone of lbsf.baselines.sequences, lightgbm, or fusion (LightGBM combined with LBSF).
        days: length of history that it reads.
        seed: of its weights, its dropout and the order of users.
        without: field that is blanked; None: none.
        unfolded: reads one sequence per user instead of one per merchant; always True for sequence models.
        sequence: model.sequence; None: the configured one.
        relational: whether LBSF has relational layers (self-attention between merchants).
        labels: training users with labels; None: the usual number.
        taught: whether LightGBM is its teacher (knowledge distillation).
        pretrained: objective of the pretraining on all users' folds; None: none.
        setting: learning rate and head.
    """

    network: str
    days: int
    seed: int
    without: PaymentField | None = None
    unfolded: bool = False
    sequence: str | None = None
    relational: bool = True
    labels: int | None = None
    taught: bool = False
    pretrained: Literal["visits", "teacher"] | None = None
    setting: Setting = SETTINGS[0]

    @property
    def series(self) -> str:
        """Return the name of the cell's series; its cells differ only by seed, once the setting is chosen."""
        parts = [self.network, f"{self.days}d"]
        parts += [f"without_{self.without}"] if self.without else []
        parts += ["unfolded"] if self.unfolded and self.network == "lbsf" else []
        parts += [f"sequence_{self.sequence}"] if self.sequence else []
        parts += [] if self.relational else ["unrelated"]
        parts += [f"labels_{self.labels}"] if self.labels else []
        parts += ["taught"] if self.taught else []
        parts += [PRETRAINED_AS[self.pretrained]] if self.pretrained else []
        return "-".join(parts)

    @property
    def name(self) -> str:
        """Return the cell's unique name, which is also its folder's."""
        setting = f"-rate{self.setting.rate}-{self.setting.head}" if self.network not in TREES else ""
        return f"{self.series}-seed{self.seed}{setting}"

    @property
    def view(self) -> View:
        """Return the part of each fold that the network reads."""
        return View(days=None if self.days == LONGEST else self.days, without=self.without, unfolded=self.unfolded)

    def plan(self, config: Config, splits: dict[str, Split], output: str) -> TrainingPlan:
        """Return the cell's training plan."""
        layers = config.model.relational_layers if self.relational else 0
        sequence = self.sequence or config.model.sequence
        model = {"relational_layers": layers, "sequence": sequence, "head": self.setting.head}
        training = {
            "seed": self.seed,
            "learning_rate": self.setting.rate,
            "teacher_share": config.training.teacher_share if self.taught else 0.0,
        }
        return TrainingPlan(
            model=config.model.model_copy(update=model),
            fold=config.fold,
            training=config.training.model_copy(update=training),
            splits=splits,
            output=output,
            network=self.network,
            view=self.view,
        )

    def describe(self) -> dict[str, object]:
        """Return the cell as JSON-compatible values."""
        return asdict(self)


def trials(backbones: Sequence[str], seed: int) -> dict[str, list[Cell]]:
    """Return, for LBSF and each network whose setting the backbones use, the cells from which it is chosen."""
    # LBSF is the fastest to train and comes last, so that the wait for the last trial is short.
    networks = dict.fromkeys([*map(_set_as, backbones), "lbsf"])
    return {
        network: [Cell(network, TRIAL_DAYS, seed, unfolded=network != "lbsf", setting=setting) for setting in SETTINGS]
        for network in networks
    }


def grid(
    seeds: Sequence[int],
    backbones: Sequence[str],
    groups: Sequence[str],
    chosen: Mapping[str, Setting],
    usual_labels: int,
    most_labels: int,
) -> list[Cell]:
    """Return all cells of the given groups, each once, the most informative first.

    Args:
        seeds: LBSF and LightGBM by length of history, and LBSF without a part or field, are trained with all of them,
            as the latter's effects are smaller than the variation between seeds. Cells that take several times as
            long are trained with the first seed only.
        backbones: sequence models to train.
        groups: of `history`, `parts`, `labels`, `fields`.
        chosen: network -> setting, for the networks that have one.
        usual_labels: training users of all cells but those of the group `labels`.
        most_labels: number of training users available.
    """
    makers = {
        "history": _history(seeds, backbones),
        "parts": _parts(seeds),
        "labels": _labels(seeds[0], usual_labels, most_labels),
        "fields": _fields(seeds),
    }
    return list(dict.fromkeys(_as_chosen(cell, chosen) for group in groups for cell in makers[group]))


def _as_chosen(cell: Cell, chosen: Mapping[str, Setting]) -> Cell:
    """Return the cell with its network's setting."""
    setting = chosen.get(_set_as(cell.network), cell.setting)
    return replace(cell, setting=setting._replace(rate=FINE_TUNING_RATE) if cell.pretrained == "teacher" else setting)


def _set_as(network: str) -> str:
    """Return the network whose setting a network uses: itself, or a similar one."""
    return SETTING_OF.get(network, network)


def _history(seeds: Sequence[int], backbones: Sequence[str]) -> Iterator[Cell]:
    for seed in seeds:
        for days in reversed(DAYS):
            for network in AT_EVERY_SEED:
                yield Cell(network, days, seed)
            yield Cell("lbsf", days, seed, taught=True)
            yield Cell("lbsf", days, seed, taught=True, pretrained="teacher")
    for network in backbones:
        for days in reversed(DAYS) if network in AT_EVERY_LENGTH else (LONGEST,):
            yield Cell(network, days, seeds[0], unfolded=True)


def _parts(seeds: Sequence[int]) -> Iterator[Cell]:
    """Yield LBSF with one of its parts removed or replaced."""
    for seed in seeds:
        whole = Cell("lbsf", LONGEST, seed)
        yield whole
        yield replace(whole, unfolded=True)
        yield replace(whole, relational=False)
    whole = Cell("lbsf", LONGEST, seeds[0])
    yield replace(whole, sequence="gru")
    yield replace(whole, sequence="transformer")


def _fields(seeds: Sequence[int]) -> Iterator[Cell]:
    for seed in seeds:
        for field in FIELDS:
            yield Cell("lbsf", LONGEST, seed, without=field)


def _labels(seed: int, usual: int, most: int) -> Iterator[Cell]:
    for share in LABEL_SHARES:
        labels = round(share * usual)
        if labels > most:
            continue
        whole = Cell("lbsf", LONGEST, seed, labels=labels if share != 1 else None)
        yield whole
        yield replace(whole, network="lightgbm")
        # Pretraining is meant for few labels.
        if share <= 1:
            yield replace(whole, pretrained="visits")
            yield replace(whole, taught=True)
            yield replace(whole, taught=True, pretrained="teacher")
