"""A model on disk: what is written comes back, and what is damaged is refused in one clear line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from fold_rows import FOLD, MODEL, pack, random_rows, small_model

from lbsf.errors import InputError
from lbsf.models.artifact import CARD, WEIGHTS, load_card, load_model, require_spec, save_model
from lbsf.models.batch import FoldBatch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "model", *small_model())
    return tmp_path / "model"


def test_a_round_trip_keeps_scores_and_card(folder: Path) -> None:
    model, card = small_model()
    loaded, loaded_card = load_model(folder)
    batch = FoldBatch.from_packed(pack(random_rows(6, seed=1)))
    assert loaded_card == card and not loaded.training
    with torch.inference_mode():
        assert torch.equal(loaded(batch), model(batch))


def test_probability_is_the_calibrated_sigmoid() -> None:
    _, card = small_model()
    probability = card.probability(torch.tensor([0.0, 2.0]))
    assert probability.dtype == torch.float64
    assert probability.tolist() == pytest.approx([0.182425524, 0.524979187])  # sigmoid(-1.5), sigmoid(0.1)


def damaged(folder: Path, **changes: object) -> None:
    card = json.loads((folder / CARD).read_text()) | changes
    (folder / CARD).write_text(json.dumps(card))


def test_a_damaged_card_is_refused(folder: Path) -> None:
    (folder / CARD).write_text((folder / CARD).read_text()[:40])
    with pytest.raises(InputError, match="no readable model card"):
        load_model(folder)


def test_a_card_of_another_version_is_refused(folder: Path) -> None:
    damaged(folder, unknown=1)
    with pytest.raises(InputError, match="unknown"):
        load_card(folder)


def test_missing_files_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no readable model card"):
        load_model(tmp_path / "nowhere")
    (folder / WEIGHTS).unlink()
    with pytest.raises(InputError, match="weights do not fit"):
        load_model(folder)


@pytest.mark.parametrize("change", [{"width": 32}, {"relational_layers": 1}])
def test_another_architecture_is_refused(folder: Path, change: dict[str, int]) -> None:
    damaged(folder, model=MODEL.model_dump() | change)
    with pytest.raises(InputError, match="weights do not fit the card") as refused:
        load_model(folder)
    assert "\n" not in str(refused.value)


def test_cut_off_weights_are_refused(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:100])
    with pytest.raises(InputError, match="weights do not fit the card"):
        load_model(folder)


def test_folds_of_another_spec_are_refused() -> None:
    _, card = small_model()
    require_spec(card, FOLD.spec)
    other = FOLD.model_copy(update={"window_days": 90}).spec
    with pytest.raises(InputError, match=f"{FOLD.spec}, these are {other}"):
        require_spec(card, other)
