"""A trained model on disk: weights as safetensors, everything else as JSON. Nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lbsf.config.models import FoldConfig, ModelConfig
from lbsf.errors import InputError
from lbsf.models.lbsf import LBSF

WEIGHTS = "weights.safetensors"
CARD = "card.json"


class ModelCard(BaseModel):
    """What is needed to rebuild the network and read its output.

    Attributes:
        model: the network's sizes.
        fold: the folds that it reads; `fold.spec` must equal the folds' fold_spec.
        slope, intercept: calibration, probability = sigmoid(slope * logit + intercept).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: ModelConfig
    fold: FoldConfig
    slope: float
    intercept: float

    def probability(self, logits: Tensor) -> Tensor:
        """Calibrated probabilities of logits, same shape, float64."""
        return torch.sigmoid(self.slope * logits.double() + self.intercept)


def save_model(folder: Path, model: LBSF, card: ModelCard) -> None:
    """Writes the model into `folder`, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / WEIGHTS)
    (folder / CARD).write_text(json.dumps(card.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")


def load_card(folder: Path) -> ModelCard:
    """Reads the card. Raises InputError where it is missing or of another version."""
    try:
        return ModelCard.model_validate_json((folder / CARD).read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise InputError(f"{folder}: no readable model card ({' '.join(str(error).split())})") from None


def load_model(folder: Path) -> tuple[LBSF, ModelCard]:
    """Rebuilds the network in evaluation mode.

    Raises:
        InputError: a file is missing, or the weights are of another architecture than the card says.
    """
    card = load_card(folder)
    model = LBSF(card.model, card.fold)
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{folder}: weights do not fit the card: {' '.join(str(error).split())[:300]}") from None
    return model.eval(), card


def weights_digest(folder: Path) -> str:
    """SHA-256 of a saved model's weights. Raises InputError where there are none."""
    try:
        return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{folder}: no readable weights ({error.strerror})") from None


def require_spec(card: ModelCard, fold_spec: str) -> None:
    """Raises InputError unless the folds are of the spec that the model reads."""
    if card.fold.spec != fold_spec:
        raise InputError(
            f"the model reads folds of spec {card.fold.spec}, these are {fold_spec}: "
            "fold with the model's settings, or train a model on these folds"
        )
