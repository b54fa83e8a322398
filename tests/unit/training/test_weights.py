"""The averaged weights follow the model's, soon at first, slowly later."""

from __future__ import annotations

import torch
from torch import nn

from lbsf.training.weights import averaged_copy


def follow(values: list[float], steps: int) -> list[float]:
    """The averaged bias of a layer whose bias takes these values."""
    model = nn.Linear(1, 1)
    averaged = averaged_copy(model, steps)
    seen = []
    for value in values:
        nn.init.constant_(model.bias, value)
        averaged.update_parameters(model)
        seen.append(float(averaged.module.bias))
    return seen


def test_one_step_is_the_last_step_s_weights() -> None:
    assert follow([1.0, 5.0, -2.0], steps=1) == [1.0, 5.0, -2.0]


def test_the_average_forgets_the_first_weights_soon_and_later_ones_slowly() -> None:
    soon = follow([0.0] * 20 + [1.0] * 20, steps=50)
    assert soon[19] == 0.0
    assert soon[-1] > 0.97
    # Once there were steps enough, each counts for a fiftieth.
    late = follow([0.0] * 700 + [1.0] * 20, steps=50)
    assert abs((1 - late[-1]) - (1 - 1 / 50) ** 20) < 1e-4


def test_counts_are_copied_and_running_statistics_averaged() -> None:
    model = nn.BatchNorm1d(1, momentum=1.0)
    averaged = averaged_copy(model, steps=4)
    for value in (0.0, 8.0, 8.0):
        model(torch.tensor([[value - 1], [value + 1]]))
        averaged.update_parameters(model)
    assert int(averaged.module.num_batches_tracked) == 3
    assert 0 < float(averaged.module.running_mean) < 8
