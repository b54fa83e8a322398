"""A model on disk: what is written comes back, and what is damaged is refused in one clear line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from fold_rows import FOLD, MODEL, THIN, pack, random_rows, small_model
from safetensors.torch import load_file, save_file

from lbsf.errors import InputError
from lbsf.models.artifact import (
    CARD,
    WEIGHTS,
    files_digest,
    load_card,
    load_model,
    require_digest,
    require_spec,
    save_model,
)
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
    for odd in (float("nan"), float("inf")):
        with pytest.raises(InputError, match="a score that is no number to 1 of 2 users"):
            card.probability(torch.tensor([0.0, odd]))


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


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"slope": -1.0}, "slope"),
        ({"slope": 0.0}, "slope"),
        ({"slope": float("nan")}, "slope"),
        ({"slope": float("inf")}, "slope"),
        ({"intercept": float("nan")}, "intercept"),
        ({"intercept": float("-inf")}, "intercept"),
        ({"thin_file": THIN.model_dump() | {"probability": 0.0}}, "thin_file.probability"),
        ({"thin_file": THIN.model_dump() | {"probability": 1.0}}, "thin_file.probability"),
        ({"thin_file": THIN.model_dump() | {"probability": float("nan")}}, "thin_file.probability"),
        ({"thin_file": THIN.model_dump() | {"payments": 0}}, "thin_file.payments"),
        ({"model": MODEL.model_dump() | {"dropout": float("nan")}}, "model.dropout"),
    ],
)
def test_a_card_that_cannot_be_meant_is_refused(folder: Path, changes: dict[str, object], names: str) -> None:
    damaged(folder, **changes)
    with pytest.raises(InputError, match="no readable model card") as refused:
        load_model(folder)
    assert names in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_neither_saved_nor_loaded(folder: Path, tmp_path: Path, value: float) -> None:
    weights = load_file(folder / WEIGHTS)
    weights["user"].flatten()[3] = value
    save_file(weights, folder / WEIGHTS)
    message = r"damaged weights: 1 of \d+ numbers in user not finite"
    with pytest.raises(InputError, match=message):
        load_model(folder)
    model, card = small_model()
    with torch.no_grad():
        model.user.flatten()[3] = value
    with pytest.raises(InputError, match=message):
        save_model(tmp_path / "never", model, card)
    assert not (tmp_path / "never").exists()


def test_a_flipped_bit_in_any_file_changes_the_digest(folder: Path) -> None:
    (folder / "reference.json").write_text("{}")
    recorded = files_digest(folder)
    require_digest(folder, recorded, "model lbsf version 3")
    for path in folder.iterdir():
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(InputError, match="model lbsf version 3 is damaged: the SHA-256 of its files is "):
            require_digest(folder, recorded, "model lbsf version 3")
        path.write_bytes(whole)
    require_digest(folder, recorded, "model lbsf version 3")
    (folder / "reference.json").rename(folder / "other.json")
    assert files_digest(folder) != recorded


def test_a_model_without_a_digest_or_without_files_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="model lbsf version 3 has no SHA-256 of its files.*docs/tracking.md"):
        require_digest(folder, None, "model lbsf version 3")
    (folder / CARD).unlink()
    with pytest.raises(InputError, match=f"no saved model: {CARD} is missing"):
        files_digest(folder)


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
