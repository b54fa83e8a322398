"""Networks by name. Each reads a batch of folds and returns one logit of default per user."""

from __future__ import annotations

from torch import nn

from lbsf.baselines import sequences
from lbsf.config.models import FoldConfig, ModelConfig
from lbsf.errors import InputError
from lbsf.models.lbsf import LBSF


def build_network(name: str, model: ModelConfig, fold: FoldConfig) -> nn.Module:
    """Build a network with newly initialised weights.

    Raises:
        InputError: there is no network of that name.
    """
    if name == "lbsf":
        return LBSF(model, fold)
    if name in sequences.BACKBONES:
        return sequences.SequenceNetwork(name, model, fold)
    raise InputError(f"no network is called {name}; there are lbsf, {', '.join(sequences.BACKBONES)}")
