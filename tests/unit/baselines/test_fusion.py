"""Trees and a network together: learns from both, is not taken in by a network that remembers, repeats itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from fold_rows import arrow, fold_row, pack, payment, random_rows, small_model
from sklearn.metrics import roc_auc_score

from lbsf.baselines.boosting import predict, train_boosting
from lbsf.baselines.fusion import fusion_probabilities, train_fusion
from lbsf.errors import InputError
from lbsf.loading.packed import PackedFolds
from lbsf.models.batch import FoldBatch

pytestmark = pytest.mark.usefixtures("one_thread")

Floats = npt.NDArray[np.float64]
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

    def network(self, of_user: Floats) -> Callable[[PackedFolds], Floats]:
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


def test_it_knows_what_each_alone_does_not(population: Population) -> None:
    train, validation, held_out = population.parts.values()
    rng = np.random.default_rng(2)
    # A vector with the secret somewhere in it, and much that means nothing.
    vector = rng.normal(size=(len(population.secret), 48))
    vector[:, 7] = population.secret
    trees = population.auc(predict(train_boosting(train, validation, seed=1), held_out))
    for of_user in (population.secret[:, None], vector):
        found = fusion_probabilities(train, validation, held_out, population.network(of_user), seed=1)
        assert found.shape == (SIZES["held_out"],) and ((found > 0) & (found < 1)).all()
        assert population.auc(found) > trees + 0.03
        assert abs(found.mean() - validation[0].label.mean()) < 0.04  # type: ignore[union-attr]
    assert trees > 0.65 and roc_auc_score(population.label, population.secret) > 0.65


def test_a_network_that_remembers_its_training_users_is_not_believed(population: Population) -> None:
    """Its logit is the label itself on the training users, and chance on all others."""
    train, validation, held_out = population.parts.values()
    logit = np.random.default_rng(3).normal(size=(len(population.label), 1))
    logit[: SIZES["train"], 0] = 8.0 * population.label[: SIZES["train"]] - 4.0
    trees = population.auc(predict(train_boosting(train, validation, seed=1), held_out))
    found = fusion_probabilities(train, validation, held_out, population.network(logit), seed=1)
    assert population.auc(found) > trees - 0.01


def test_the_same_seed_gives_the_same_whole_or_in_parts(population: Population) -> None:
    train, validation, held_out = population.parts.values()
    represent = population.network(population.secret[:, None])
    model = train_fusion(train, validation, represent, seed=4)
    whole = model.probabilities(held_out, represent)
    assert (train_fusion(train, validation, represent, seed=4).probabilities(held_out, represent) == whole).all()
    parts = [held_out[0].take(np.arange(0, 300)), held_out[0].take(np.arange(300, SIZES["held_out"]))]
    np.testing.assert_allclose(model.probabilities(parts, represent), whole, rtol=1e-12)


def test_it_takes_the_networks_own_user_vectors(population: Population) -> None:
    network, _ = small_model()

    def represent(packed: PackedFolds) -> Floats:
        with torch.inference_mode():
            return network.represent(FoldBatch.from_packed(packed)).double().numpy()

    train, validation, held_out = population.parts.values()
    model = train_fusion(train, validation, represent, seed=5)
    assert model.weights.shape == (1 + network.features,)
    assert population.auc(model.probabilities(held_out, represent)) > 0.65


def test_too_few_defaulters_to_fit_on_are_refused(population: Population) -> None:
    train, validation, _ = population.parts.values()
    represent = population.network(population.secret[:, None])
    healthy = np.flatnonzero(validation[0].label == 0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="of whom 0 are of one class"):
        train_fusion(train, [validation[0].take(healthy)], represent, seed=1)
    unlabelled = PackedFolds.from_arrow(arrow(random_rows(5, seed=1)))
    with pytest.raises(InputError, match="needs folds with labels"):
        train_fusion(train, [unlabelled], represent, seed=1)
