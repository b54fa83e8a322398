"""Plans: what names a run, and how many steps its ranks take."""

from __future__ import annotations

from pathlib import Path

import pytest
from example_files import training_plan
from pydantic import ValidationError

from lbsf.config.models import TrainingConfig


@pytest.mark.parametrize(
    ("batch_users", "accumulate", "ranks", "steps"), [(16, 1, 1, 6), (16, 1, 2, 3), (8, 2, 2, 3), (16, 4, 4, 1)]
)
def test_a_step_uses_the_users_of_all_ranks_and_batches(
    tmp_path: Path, batch_users: int, accumulate: int, ranks: int, steps: int
) -> None:
    plan = training_plan(tmp_path, users=100, batch_users=batch_users, accumulate_steps=accumulate, ranks=ranks)
    assert plan.steps_per_epoch == plan.steps(ranks) == steps


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ranks": 3}, "ranks must lie between elastic.min_ranks and elastic.max_ranks"),
        ({"hosts": "a:1,b:1"}, "hosts must be null where elastic.discovery_script names them"),
    ],
)
def test_elastic_settings_must_fit(tmp_path: Path, settings: dict[str, object], message: str) -> None:
    elastic = {"min_ranks": 1, "max_ranks": 2, "discovery_script": "hosts.sh"}
    training = training_plan(tmp_path, users=20, ranks=2, elastic=elastic).training
    with pytest.raises(ValidationError, match=message):
        TrainingConfig(**{**training.model_dump(), **settings})
