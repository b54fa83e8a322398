"""A trained model on disk: weights as safetensors, everything else as JSON. Nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
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
    """Return the mask (n,) of users with fewer payments or merchants, (n,) each, than the minimum."""
    thin: npt.NDArray[np.bool_] = (payments < least_payments) | (merchants < least_merchants)
    return thin


class ThinFile(BaseModel):
    """Thin files, users with too little history for the network, and the probability that they get instead.

    Attributes:
        payments, merchants: a user with fewer of either is a thin file.
        probability: probability of default of every thin file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    payments: Annotated[int, Field(gt=0)]
    merchants: Annotated[int, Field(gt=0)]
    probability: Annotated[float, Field(gt=0, lt=1)]

    def covers(self, payments: Ints, merchants: Ints) -> npt.NDArray[np.bool_]:
        """Return the mask (n,) of thin files, given the users' payments and merchants, (n,) each."""
        return thin_files(payments, merchants, self.payments, self.merchants)


class ModelCard(BaseModel):
    """The settings needed to rebuild the network and calibrate its output.

    Attributes:
        model: sizes of the network.
        fold: settings of the folds that it reads; `fold.spec` must equal the folds' fold_spec.
        slope, intercept: calibration, probability = sigmoid(slope * logit + intercept); the slope must be positive to
            keep the ranking.
        thin_file: users that the network does not score, and their probability; None before the end of training, and
            for pretrained weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    model: ModelConfig
    fold: FoldConfig
    slope: Annotated[float, Field(gt=0)]
    intercept: float
    thin_file: ThinFile | None = None

    def probability(self, logits: Tensor) -> Tensor:
        """Return the calibrated probabilities of logits, float64 of the same shape.

        Raises:
            InputError: a logit is not a finite number.
        """
        odd = int((~torch.isfinite(logits)).sum())
        if odd:
            raise InputError(f"the model gave a score that is no number to {odd:,} of {logits.numel():,} users")
        return torch.sigmoid(self.slope * logits.double() + self.intercept)


def save_model(folder: Path, model: LBSF, card: ModelCard) -> None:
    """Write the model into `folder`, which is created if it is missing.

    Raises:
        InputError: a weight is not a finite number.
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    require_finite(weights, str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / WEIGHTS)
    (folder / CARD).write_text(json.dumps(card.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")


def load_card(folder: Path) -> ModelCard:
    """Read the card. Raises InputError if it is missing or of another version."""
    try:
        return ModelCard.model_validate_json((folder / CARD).read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise InputError(f"{folder}: no readable model card ({' '.join(str(error).split())})") from None


def load_model(folder: Path) -> tuple[LBSF, ModelCard]:
    """Load the network, in evaluation mode, and its card.

    Raises:
        InputError: a file is missing, the weights do not fit the card's architecture, or a weight is not a finite
            number.
    """
    card = load_card(folder)
    model = LBSF(card.model, card.fold)
    try:
        weights = load_file(folder / WEIGHTS)
        model.load_state_dict(weights)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{folder}: weights do not fit the card: {' '.join(str(error).split())[:300]}") from None
    require_finite(weights, str(folder))
    return model.eval(), card


def require_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise InputError, beginning with `where`, unless all numbers of the tensors are finite."""
    for name, tensor in tensors.items():
        odd = int((~torch.isfinite(tensor)).sum())
        if odd:
            raise InputError(f"{where}: damaged weights: {odd:,} of {tensor.numel():,} numbers in {name} not finite")


def files_digest(folder: Path) -> str:
    """Return the SHA-256 of a saved model's files: the name, length and bytes of each, in order of name.

    It binds the weights, the card and any other file in the folder to a registered version or a run.

    Raises:
        InputError: the weights or the card are missing, or a file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        if missing := {WEIGHTS, CARD} - set(names):
            raise InputError(f"{folder}: no saved model: {min(missing)} is missing")
        for name in names:
            content = (folder / name).read_bytes()
            digest.update(f"{name}\0{len(content)}\0".encode())
            digest.update(content)
    except OSError as error:
        raise InputError(f"{folder}: a saved model's files cannot be read ({error.strerror})") from None
    return digest.hexdigest()


def require_digest(folder: Path, recorded: str | None, what: str) -> None:
    """Raise InputError unless the SHA-256 of a saved model's files equals the recorded one.

    Args:
        folder: folder of the saved model.
        recorded: the recorded `files_digest`; None: none was recorded, as in earlier releases.
        what: name of the model in the message, such as `model lbsf version 3`.
    """
    if recorded is None:
        raise InputError(
            f"{what} has no SHA-256 of its files, so nobody knows whether they are the ones that were registered: "
            "train it again, or record it as docs/tracking.md tells, where you trust them"
        )
    if (found := files_digest(folder)) != recorded:
        raise InputError(
            f"{what} is damaged: the SHA-256 of its files is {found[:16]}…, {recorded[:16]}… was recorded with it; "
            "restore its files, or register another model"
        )


def require_spec(card: ModelCard, fold_spec: str) -> None:
    """Raise InputError unless the folds have the spec that the model reads."""
    if card.fold.spec != fold_spec:
        raise InputError(
            f"the model reads folds of spec {card.fold.spec}, these are {fold_spec}: "
            "fold with the model's settings, or train a model on these folds"
        )


def require_thin_file(card: ModelCard) -> ThinFile:
    """Return the card's `thin_file`. Raises InputError if it has none: such a model cannot score users."""
    if card.thin_file is None:
        raise InputError("the model's card says nothing of thin files: train the model again, with train_model")
    return card.thin_file
