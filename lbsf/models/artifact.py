"""A trained model on disk: weights as safetensors, everything else as JSON. Nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lbsf.config.models import FoldConfig, ModelConfig
from lbsf.errors import InputError
from lbsf.folds.packed import Ints
from lbsf.models.lbsf import LBSF

WEIGHTS = "weights.safetensors"
CARD = "card.json"


def thin_files(payments: Ints, merchants: Ints, least_payments: int, least_merchants: int) -> npt.NDArray[np.bool_]:
    """Which users, (n,) of so many payments and merchants each, have fewer of either than the least; (n,)."""
    thin: npt.NDArray[np.bool_] = (payments < least_payments) | (merchants < least_merchants)
    return thin


class ThinFile(BaseModel):
    """Users of whom too little is known for the network to say anything, and what is said of them instead.

    Attributes:
        payments, merchants: a user with fewer of either is a thin file.
        probability: of default, of each of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    payments: int
    merchants: int
    probability: float

    def covers(self, payments: Ints, merchants: Ints) -> npt.NDArray[np.bool_]:
        """Which users, (n,) of so many payments and merchants each, are thin files; (n,)."""
        return thin_files(payments, merchants, self.payments, self.merchants)


class ModelCard(BaseModel):
    """What is needed to rebuild the network and read its output.

    Attributes:
        model: the network's sizes.
        fold: the folds that it reads; `fold.spec` must equal the folds' fold_spec.
        slope, intercept: calibration, probability = sigmoid(slope * logit + intercept).
        thin_file: who is not scored by the network; None until the training's end, and of weights that no
            label has seen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: ModelConfig
    fold: FoldConfig
    slope: float
    intercept: float
    thin_file: ThinFile | None = None

    def probability(self, logits: Tensor) -> Tensor:
        """Calibrated probabilities of logits, same shape, float64."""
        return torch.sigmoid(self.slope * logits.double() + self.intercept)


def save_model(folder: Path, model: LBSF, card: ModelCard) -> None:
    """Writes the model into `folder`, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / WEIGHTS)
    save_card(folder, card)


def save_card(folder: Path, card: ModelCard) -> None:
    """Writes the card into a saved model's folder, over the one that is there."""
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


def require_thin_file(card: ModelCard) -> ThinFile:
    """What the card says of thin files. Raises InputError where it says nothing: no model to score users with."""
    if card.thin_file is None:
        raise InputError("the model's card says nothing of thin files: train the model again, with train_model")
    return card.thin_file
