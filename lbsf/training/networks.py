"""Networks by name: folds in, one logit of default a user out."""

from __future__ import annotations

from torch import nn

from lbsf.baselines import sequences
from lbsf.config.models import FoldConfig, ModelConfig
from lbsf.errors import InputError
from lbsf.models.lbsf import LBSF


def build_network(name: str, model: ModelConfig, fold: FoldConfig) -> nn.Module:
    """A network with fresh weights.

    Raises:
        InputError: no network has that name.
    """
    if name == "lbsf":
        return LBSF(model, fold)
    if name in sequences.BACKBONES:
        return sequences.SequenceNetwork(name, model, fold)
    raise InputError(f"no network is called {name}; there are lbsf, {', '.join(sequences.BACKBONES)}")
