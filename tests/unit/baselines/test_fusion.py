"""Trees and a network together: learns from both, is not taken in by a network that remembers, repeats itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from fold_rows import fold_row, pack, payment, small_model
from sklearn.metrics import roc_auc_score

from lbsf.baselines.boosting import BoostingModel, labels_of, log_odds, predict, train_boosting
from lbsf.baselines.fusion import Fusion, weigh
from lbsf.errors import InputError
from lbsf.folds.packed import PackedFolds
from lbsf.models.batch import FoldBatch

pytestmark = pytest.mark.usefixtures("one_thread")

Floats = npt.NDArray[np.float64]
Represent = Callable[[PackedFolds], Floats]
SIZES = {"train": 900, "validation": 500, "held_out": 900}


class Population:
    """Users whose risk has two halves: payments of category 3, which trees see, and a secret, which they do not."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        users = sum(SIZES.values())
        loans, self.secret = rng.poisson(1.5, users), rng.normal(size=users)
        self.label = (rng.random(users) < 1 / (1 + np.exp(3 - 1.2 * loans - 1.2 * self.secret))).astype(np.int64)
        self.user_of_mark = rng.permutation(users)  # marks say nothing: trees see them, too
        marks, rows = np.argsort(self.user_of_mark), []
        for user in range(users):
            visits = [payment(float(rng.uniform(0, 90)), category=3) for _ in range(loans[user])]
            # The amount by which a network of these tests knows the user.
            rows.append(
                fold_row(
                    f"u{user}",
                    {"mark": [payment(100, 10_000_000 + int(marks[user]))], **({"m": visits} if visits else {})},
                )
            )
        packed = pack(rows)
        self.parts = {}
        begin = 0
        for name, size in SIZES.items():
            part = packed.take(np.arange(begin, begin + size))
            self.parts[name] = [PackedFolds(**{**vars(part), "label": self.label[begin : begin + size]})]
            begin += size

    def network(self, of_user: Floats) -> Represent:
        """One that gives each user what stands in `of_user` (users, k)."""

        def represent(packed: PackedFolds) -> Floats:
            marks = packed.amount_cents[packed.amount_cents >= 10_000_000] - 10_000_000
            return np.asarray(of_user[self.user_of_mark[marks]])

        return represent

    def auc(self, probabilities: Floats) -> float:
        return float(roc_auc_score(self.parts["held_out"][0].label, probabilities))


@pytest.fixture(scope="module")
def population() -> Population:
    return Population()


@pytest.fixture(scope="module")
def trees(population: Population) -> BoostingModel:
    return train_boosting(population.parts["train"], population.parts["validation"], seed=1)


def fuse(population: Population, trees: BoostingModel, represent: Represent, seed: int = 1) -> tuple[Fusion, Floats]:
    """The fusion of the validation users, and its probabilities of those held out."""
    validation, held_out = population.parts["validation"], population.parts["held_out"]
    fusion = weigh(log_odds(trees, validation), represent(validation[0]), labels_of(validation), seed)
    return fusion, fusion.probabilities(log_odds(trees, held_out), represent(held_out[0]))


def test_it_knows_what_each_alone_does_not(population: Population, trees: BoostingModel) -> None:
    rng = np.random.default_rng(2)
    # A vector with the secret somewhere in it, and much that means nothing.
    vector = rng.normal(size=(len(population.secret), 48))
    vector[:, 7] = population.secret
    alone = population.auc(predict(trees, population.parts["held_out"]))
    for of_user in (population.secret[:, None], vector):
        _, found = fuse(population, trees, population.network(of_user))
        assert found.shape == (SIZES["held_out"],) and ((found > 0) & (found < 1)).all()
        assert population.auc(found) > alone + 0.03
        assert abs(found.mean() - labels_of(population.parts["validation"]).mean()) < 0.04
    assert alone > 0.65 and roc_auc_score(population.label, population.secret) > 0.65


def test_a_network_that_remembers_its_training_users_is_not_believed(
    population: Population, trees: BoostingModel
) -> None:
    """Its logit is the label itself on the training users, and chance on all others."""
    logit = np.random.default_rng(3).normal(size=(len(population.label), 1))
    logit[: SIZES["train"], 0] = 8.0 * population.label[: SIZES["train"]] - 4.0
    alone = population.auc(predict(trees, population.parts["held_out"]))
    _, found = fuse(population, trees, population.network(logit))
    assert population.auc(found) > alone - 0.01


def test_the_same_seed_gives_the_same(population: Population, trees: BoostingModel) -> None:
    represent = population.network(population.secret[:, None])
    _, once = fuse(population, trees, represent, seed=4)
    _, again = fuse(population, trees, represent, seed=4)
    assert (once == again).all()


def test_it_takes_the_networks_own_user_vectors(population: Population, trees: BoostingModel) -> None:
    network, _ = small_model()

    def represent(packed: PackedFolds) -> Floats:
        with torch.inference_mode():
            return network.represent(FoldBatch.from_packed(packed)).double().numpy()

    fusion, found = fuse(population, trees, represent)
    assert fusion.weights.shape == (1 + network.features,)
    assert population.auc(found) > 0.65


def test_too_few_defaulters_to_fit_on_are_refused() -> None:
    said = np.random.default_rng(6).normal(size=20)
    with pytest.raises(InputError, match="of whom 0 are of one class"):
        weigh(said, said[:, None], np.zeros(20), seed=1)
