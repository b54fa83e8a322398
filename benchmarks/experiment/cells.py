"""What the experiment trains: one cell a network, length of history, ablation and seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal, NamedTuple

from lbsf.config.models import Config
from lbsf.folds.views import FIELDS, PaymentField, View
from lbsf.training.plan import Split, TrainingPlan


class Setting(NamedTuple):
    """What is chosen for a network: its learning rate, and model.head."""

    rate: float
    head: Literal["linear", "hidden"]


DAYS = (45, 90, 180)
LONGEST = DAYS[-1]
# Cheap enough for every length of history and every seed.
AT_EVERY_SEED = ("lbsf", "lightgbm", "fusion")
# Sequence models that are trained at every length, with one seed; the others see all 180 days once.
AT_EVERY_LENGTH = ("gru", "transformer")
# A network is trained with each at the middle length, and goes on with the one that the validation split prefers,
TRIAL_DAYS = 90
SETTINGS = (Setting(0.003, "linear"), Setting(0.001, "linear"), Setting(0.003, "hidden"))
# unless it takes that of its next of kin: the long-sequence models cost too much to be trained several times.
SETTING_OF = {
    "fusion": "lbsf",
    "longformer": "transformer",
    "reformer": "transformer",
    "fnet": "transformer",
    "mamba2": "gru",
}
# Of a network that has learnt what LightGBM says of every user. Validation has 0.7811 with it, 0.7790 with the usual.
FINE_TUNING_RATE = 0.001
# How many times the usual number of labels the group `labels` tries.
LABEL_SHARES = (1 / 16, 1 / 4, 1, 4)
# More than twenty minutes of a core each: trained where they are asked for by name.
DEAREST = ("longformer", "mamba2")
# In the name of a cell that was pretrained.
PRETRAINED_AS = {"visits": "pretrained", "teacher": "on_all"}
# Not trained by steps: LightGBM alone, and weighed with LBSF.
TREES = ("lightgbm", "fusion")


@dataclass(frozen=True)
class Cell:
    """One thing that is trained and measured.

    Attributes:
        network: lbsf, a backbone of lbsf.baselines.sequences, lightgbm, or fusion (LightGBM weighed with LBSF).
        days: length of history that it is shown.
        seed: of its weights, its dropout and its order of users.
        without: field that is blanked.
        unfolded: shown one sequence a user instead of one a merchant; sequence models always are.
        sequence: model.sequence, where it is not the configured one.
        relational: whether LBSF's merchants look at each other.
        labels: training users with labels; None: the usual number.
        taught: whether it learns from LightGBM as well as from the labels.
        pretrained: objective of the training on all users' folds from whose weights it starts.
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
        """What is compared: cells of one series differ by seed alone, once the setting is chosen."""
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
        """Unique, and fit for a folder."""
        setting = f"-rate{self.setting.rate}-{self.setting.head}" if self.network not in TREES else ""
        return f"{self.series}-seed{self.seed}{setting}"

    @property
    def view(self) -> View:
        """What the network is shown of each fold."""
        return View(days=None if self.days == LONGEST else self.days, without=self.without, unfolded=self.unfolded)

    def plan(self, config: Config, splits: dict[str, Split], output: str) -> TrainingPlan:
        """The cell as a training run of the product's own."""
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
        """The cell as JSON."""
        return asdict(self)


def trials(backbones: Sequence[str], seed: int) -> dict[str, list[Cell]]:
    """The cells between which a setting is chosen, of each network that the backbones and LBSF need one of."""
    # LBSF last, the cheapest: all wait for the last trial.
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
    """All cells of the wanted groups, each once, the most telling first.

    Args:
        seeds: of LBSF and trees in the history, and of what is taken out of LBSF, whose loss is no more than a seed's
            chance else; all that costs several times as much is trained with the first.
        backbones: sequence models to train.
        groups: of `history`, `parts`, `labels`, `fields`.
        chosen: setting by network, as far as one was.
        usual_labels: training users that all cells have but those of `labels`.
        most_labels: training users that there are.
    """
    makers = {
        "history": _history(seeds, backbones),
        "parts": _parts(seeds),
        "labels": _labels(seeds[0], usual_labels, most_labels),
        "fields": _fields(seeds),
    }
    return list(dict.fromkeys(_as_chosen(cell, chosen) for group in groups for cell in makers[group]))


def _as_chosen(cell: Cell, chosen: Mapping[str, Setting]) -> Cell:
    """The cell with its network's setting."""
    setting = chosen.get(_set_as(cell.network), cell.setting)
    return replace(cell, setting=setting._replace(rate=FINE_TUNING_RATE) if cell.pretrained == "teacher" else setting)


def _set_as(network: str) -> str:
    """The network whose setting it takes: itself, or its next of kin."""
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
    """LBSF with one of its parts taken out or exchanged."""
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
        # Pretraining is for where labels are few.
        if share <= 1:
            yield replace(whole, pretrained="visits")
            yield replace(whole, taught=True)
            yield replace(whole, taught=True, pretrained="teacher")
