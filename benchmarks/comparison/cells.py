"""What the experiment trains: one cell a network, length of history, ablation and seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from lbsf.config.models import Config
from lbsf.loading.views import FIELDS, PaymentField, View
from lbsf.training.plan import Split, TrainingPlan

DAYS = (45, 90, 180)
LONGEST = DAYS[-1]
# Cheap enough for every length of history and every seed.
AT_EVERY_SEED = ("lbsf", "lightgbm", "fusion")
# Sequence models that are trained at every length, with one seed; the others see all 180 days once.
AT_EVERY_LENGTH = ("gru", "transformer")
# A network is trained at both, and goes on with the one that the validation split prefers,
LEARNING_RATES = (0.003, 0.001)
# unless it takes the rate of its next of kin: the long-sequence models cost too much to be trained twice.
RATE_OF = {
    "fusion": "lbsf",
    "longformer": "transformer",
    "reformer": "transformer",
    "fnet": "transformer",
    "mamba2": "gru",
}
LABELS = (500, 1_000, 2_000, 4_000, 8_000)
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
        labels: training users with labels; None: all.
        pretrained: whether training starts from weights that were pretrained without labels.
        rate: learning rate.
    """

    network: str
    days: int
    seed: int
    without: PaymentField | None = None
    unfolded: bool = False
    sequence: str | None = None
    relational: bool = True
    labels: int | None = None
    pretrained: bool = False
    rate: float = LEARNING_RATES[0]

    @property
    def series(self) -> str:
        """What is compared: cells of one series differ by seed alone, once the learning rate is chosen."""
        parts = [self.network, f"{self.days}d"]
        parts += [f"without_{self.without}"] if self.without else []
        parts += ["unfolded"] if self.unfolded and self.network == "lbsf" else []
        parts += [f"sequence_{self.sequence}"] if self.sequence else []
        parts += [] if self.relational else ["unrelated"]
        parts += [f"labels_{self.labels}"] if self.labels else []
        parts += ["pretrained"] if self.pretrained else []
        return "-".join(parts)

    @property
    def name(self) -> str:
        """Unique, and fit for a folder."""
        return f"{self.series}-seed{self.seed}" + (f"-rate{self.rate}" if self.network not in TREES else "")

    @property
    def view(self) -> View:
        """What the network is shown of each fold."""
        return View(days=None if self.days == LONGEST else self.days, without=self.without, unfolded=self.unfolded)

    def plan(self, config: Config, splits: dict[str, Split], output: str) -> TrainingPlan:
        """The cell as a training run of the product's own."""
        model = {"relational_layers": config.model.relational_layers if self.relational else 0}
        if self.sequence is not None:
            model["sequence"] = self.sequence  # type: ignore[assignment]
        return TrainingPlan(
            model=config.model.model_copy(update=model),
            fold=config.fold,
            training=config.training.model_copy(update={"seed": self.seed, "learning_rate": self.rate}),
            splits=splits,
            output=output,
            network=self.network,
            view=self.view,
        )

    def describe(self) -> dict[str, object]:
        """The cell as JSON."""
        return asdict(self)


def trials(backbones: Sequence[str], seeds: Sequence[int]) -> dict[str, list[Cell]]:
    """The cells between which a learning rate is chosen, of each network that the backbones and LBSF need one of.

    One seed moves the validation AUC by more than most rates do: LBSF, which is trained with every seed, is tried
    with every seed; the others with the first.
    """
    networks = dict.fromkeys(["lbsf", *map(_rated_as, backbones)])
    return {
        network: [
            Cell(network, LONGEST, seed, unfolded=network != "lbsf", rate=rate)
            for seed in (seeds if network in AT_EVERY_SEED else seeds[:1])
            for rate in LEARNING_RATES
        ]
        for network in networks
    }


def grid(
    seeds: Sequence[int], backbones: Sequence[str], groups: Sequence[str], rates: Mapping[str, float]
) -> list[Cell]:
    """All cells of the wanted groups, each once, the most telling first.

    Args:
        seeds: the first is used alone where a network is too dear to be trained more often.
        backbones: sequence models to train.
        groups: of `history`, `parts`, `fields`, `labels`.
        rates: learning rate by network, as far as it was chosen.
    """
    makers = {"history": _history, "parts": _parts, "fields": _fields, "labels": _labels}
    found = [cell for group in groups for cell in makers[group](seeds, backbones)]
    return list(dict.fromkeys(replace(cell, rate=rates.get(_rated_as(cell.network), cell.rate)) for cell in found))


def _rated_as(network: str) -> str:
    """The network whose learning rate it takes: itself, or its next of kin."""
    return RATE_OF.get(network, network)


def _history(seeds: Sequence[int], backbones: Sequence[str]) -> Iterator[Cell]:
    for seed in seeds:
        for days in reversed(DAYS):
            for network in AT_EVERY_SEED:
                yield Cell(network, days, seed)
    for network in backbones:
        for days in reversed(DAYS) if network in AT_EVERY_LENGTH else (LONGEST,):
            yield Cell(network, days, seeds[0], unfolded=True)


def _parts(seeds: Sequence[int], backbones: Sequence[str]) -> Iterator[Cell]:
    """LBSF with one of its parts taken out or exchanged."""
    for seed in seeds:
        whole = Cell("lbsf", LONGEST, seed)
        yield whole
        yield replace(whole, unfolded=True)
        yield replace(whole, relational=False)
        yield replace(whole, sequence="gru")
        yield replace(whole, sequence="transformer")


def _fields(seeds: Sequence[int], backbones: Sequence[str]) -> Iterator[Cell]:
    for seed in seeds:
        for field in FIELDS:
            yield Cell("lbsf", LONGEST, seed, without=field)


def _labels(seeds: Sequence[int], backbones: Sequence[str]) -> Iterator[Cell]:
    for seed in seeds:
        for labels in LABELS:
            for pretrained in (False, True):
                yield Cell("lbsf", LONGEST, seed, labels=labels, pretrained=pretrained)
        yield Cell("lbsf", LONGEST, seed, pretrained=True)
