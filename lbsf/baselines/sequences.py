"""Baseline sequence models: they read each user's payments as one chronological sequence, not folded by merchant.

All use LBSF's payment encoding, width, heads and head, and as many layers as LBSF has relational layers. They
differ in how payments interact. Attention and other mixing sit in the same pre-norm layers.

- gru: recurrent (torch.nn.GRU), over padded sequences: on a CPU, the backward pass over packed ones is quadratic in
  their length.
- transformer: full attention, in LBSF's own relational layers.
- longformer: attention within a window, and to and from the user vector (Beltagy et al. 2020).
- reformer: attention among payments with equal hashes (Kitaev et al. 2020). Its reversible layers are left out:
  they trade time for memory and reseed torch's random generator, so that a run could not be reproduced.
- fnet: a Fourier transform instead of attention (Lee-Thorp et al. 2021).
- mamba2: a selective state space model, computed in chunks (Dao and Gu 2024).

There are no position embeddings: each payment's encoding contains its time.

A user's score depends on the user's own payments only. Padding affects the output of reformer and fnet, so the
padded length of a user depends on the user's own number of payments only. Reformer's hash planes are the same in all
batches; a payment near the border of a bucket can still change buckets with the rounding of another batch size.

Models of the `transformers` library that are left out:

- mamba: without its CUDA kernels the backward pass of its scan is quadratic in the length.
- informer: samples keys at random in evaluation too, and reads the padding.
- nystromformer: its landmarks average over the padding, and its inverse is scaled by the batch's largest value.
- big_bird: after the first short batch it uses full attention permanently.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lbsf.config.models import FoldConfig, ModelConfig
from lbsf.errors import InputError
from lbsf.models.batch import FoldBatch
from lbsf.models.fields import PaymentEncoder
from lbsf.models.lbsf import RiskHead
from lbsf.models.relations import RelationalLayer
from lbsf.models.segments import length_buckets, pad_segments, restore_order, segment_ids, segment_sum

# Only a user's most recent payments are read, at most this many; very few users have more in half a year.
LONGEST = 4096
# Half of longformer's attention window, and the chunk length of reformer and mamba2, in payments.
CHUNK = 64
HASH_BUCKETS = 32
HASH_SEED = 1
STATE_SIZE = 32
# Divides the sum over payments, to bring it to the scale of their mean for a typical number of payments.
PAYMENTS_SCALE = 512.0


class SequenceNetwork(nn.Module):
    """A network that reads unfolded payments and returns one logit of default per user.

    A learned user vector is prepended to each user's payments, so that a user without payments has a
    defined score.

    Raises:
        InputError: no backbone has that name, or its library is not installed.
    """

    def __init__(self, backbone: str, model: ModelConfig, fold: FoldConfig):
        super().__init__()
        if backbone not in _BUILDERS:
            raise InputError(f"no backbone is called {backbone}; there are {', '.join(BACKBONES)}")
        width = model.width
        self.payments = PaymentEncoder(model, fold)
        self.user = nn.Parameter(torch.zeros(width))
        try:
            self.backbone = _BUILDERS[backbone](model)
        except ImportError:
            raise InputError(f"{backbone} needs the library transformers: install lbsf[experiment]") from None
        self.head = RiskHead(3 * width, model)

    def forward(self, batch: FoldBatch) -> Tensor:
        """Return the logits of default, (n,).

        Args:
            batch: unfolded folds, as View(unfolded=True) returns them: at most one merchant per user.

        Raises:
            InputError: a user has several merchants.
        """
        if bool((batch.merchant_count > 1).any()):
            raise InputError("a sequence model reads unfolded payments: set unfolded in the plan's view")
        encoded = self.payments(batch)
        lengths = segment_sum(batch.merchant_len, batch.user_of_merchant, len(batch))
        vectors, lengths = _latest(encoded, lengths)
        groups = self.backbone.groups(lengths)
        represented = restore_order(
            [self._user_vectors(*pad_segments(vectors, lengths, users)) for users in groups], groups
        )
        logits: Tensor = self.head(represented).squeeze(1)
        return logits

    def _user_vectors(self, payments: Tensor, present: Tensor) -> Tensor:
        """Summarise each user's sequence.

        Args:
            payments: (n, K, width), padded.
            present: (n, K) bool, False in the padding.

        Returns:
            (n, 3 * width): the user vector's output (the last payment's if causal), and the payments' mean and sum.
        """
        n, length, _ = payments.shape
        padding = -(1 + length) % self.backbone.multiple
        sequence = torch.cat([self.user.expand(n, 1, -1), payments * present[:, :, None]], dim=1)
        mask = F.pad(F.pad(present, (1, 0), value=True), (0, padding))
        out = self.backbone(F.pad(sequence, (0, 0, 0, padding)), mask)
        paid = out[:, 1 : 1 + length] * present[:, :, None]
        total, count = paid.sum(1), present.sum(1)
        # A causal backbone has seen all payments only at the last one.
        summary = out[torch.arange(n, device=out.device), count] if self.backbone.causal else out[:, 0]
        return torch.cat([summary, total / count.clamp(min=1)[:, None], total / PAYMENTS_SCALE], dim=1)


class Backbone(nn.Module):
    """A module from (n, L, width) vectors and an (n, L) bool mask, False in the padding, to (n, L, width) vectors.

    Attributes:
        multiple: L is padded to a multiple of this.
        causal: an element depends on the elements before it only.
    """

    multiple = 1
    causal = False

    def groups(self, lengths: Tensor) -> tuple[Tensor, ...]:
        """Group users that are padded together.

        Args:
            lengths: (n,) int64, payments of each user.

        Returns:
            The positions of each group's users.
        """
        return length_buckets(lengths)


class _Recurrent(Backbone):
    causal = True

    def __init__(self, model: ModelConfig):
        super().__init__()
        depth = _depth(model)
        dropout = model.dropout if depth > 1 else 0.0
        self.gru = nn.GRU(model.width, model.width, depth, batch_first=True, dropout=dropout)

    def groups(self, lengths: Tensor) -> tuple[Tensor, ...]:
        # One group of all users: a GRU's time depends on the number of steps, hardly on the users in each step.
        return (torch.arange(len(lengths), device=lengths.device),)

    def forward(self, vectors: Tensor, present: Tensor) -> Tensor:
        out: Tensor = self.gru(vectors)[0]
        return out


class _Layers(Backbone):
    """A stack of layers of one kind."""

    def __init__(self, layer: Callable[[ModelConfig], nn.Module], model: ModelConfig):
        super().__init__()
        self.layers = nn.ModuleList(layer(model) for _ in range(_depth(model)))

    def forward(self, vectors: Tensor, present: Tensor) -> Tensor:
        for layer in self.layers:
            vectors = layer(vectors, present)
        return vectors


class _WindowLayers(_Layers):
    multiple = 2 * CHUNK


class _PaddingSensitiveLayers(_Layers):
    """Layers whose output depends on the padding: a user's padded length depends on its own length only."""

    multiple = CHUNK

    def groups(self, lengths: Tensor) -> tuple[Tensor, ...]:
        chunks = torch.div(lengths, CHUNK, rounding_mode="floor")
        return tuple(torch.nonzero(chunks == one).flatten() for one in torch.unique(chunks).tolist())


class _StateSpace(Backbone):
    causal = True

    def __init__(self, model: ModelConfig):
        super().__init__()
        from transformers import Mamba2Config, Mamba2Model

        config = Mamba2Config(
            vocab_size=1,
            pad_token_id=None,
            bos_token_id=None,
            eos_token_id=None,
            hidden_size=model.width,
            num_heads=model.heads,
            head_dim=2 * model.width // model.heads,
            state_size=STATE_SIZE,
            n_groups=1,
            chunk_size=CHUNK,
            num_hidden_layers=_depth(model),
            use_cache=False,
        )
        self.mamba = Mamba2Model(config)
        # The word embeddings are not needed: payments are encoded already.
        self.mamba.set_input_embeddings(None)  # type: ignore[no-untyped-call]

    def forward(self, vectors: Tensor, present: Tensor) -> Tensor:
        out: Tensor = self.mamba(inputs_embeds=vectors, attention_mask=present.long(), use_cache=False)[0]
        return out


class _MixingLayer(nn.Module):
    """LBSF's relational layer with another mixing module in place of its attention."""

    def __init__(self, mixing: nn.Module, model: ModelConfig):
        super().__init__()
        width = model.width
        self.norm_mixing, self.mixing = nn.LayerNorm(width), mixing
        self.norm_forward = nn.LayerNorm(width)
        self.forward_part = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(model.dropout), nn.Linear(2 * width, width)
        )

    def forward(self, vectors: Tensor, present: Tensor) -> Tensor:
        vectors = vectors + self.mixing(self.norm_mixing(vectors) * present[:, :, None], present)
        out: Tensor = vectors + self.forward_part(self.norm_forward(vectors))
        return out


class _WindowAttention(nn.Module):
    def __init__(self, model: ModelConfig):
        super().__init__()
        from transformers import LongformerConfig
        from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

        config = LongformerConfig(
            hidden_size=model.width,
            num_attention_heads=model.heads,
            num_hidden_layers=1,
            attention_window=[2 * CHUNK],
            attention_probs_dropout_prob=model.dropout,
        )
        self.attention = LongformerSelfAttention(config, layer_id=0)  # type: ignore[no-untyped-call]
        self.out = nn.Linear(model.width, model.width)

    def forward(self, vectors: Tensor, present: Tensor) -> Tensor:
        # Longformer's mask: negative is padding, 0 is local attention, positive is global attention (the user vector).
        mask = torch.where(present, 0.0, -10_000.0)
        mask[:, 0] = 10_000.0
        mixed = self.attention(
            vectors,
            attention_mask=mask,
            is_index_masked=mask < 0,
            is_index_global_attn=mask > 0,
            is_global_attn=True,
        )[0]
        out: Tensor = self.out(mixed)
        return out


class _HashedAttention(nn.Module):
    def __init__(self, model: ModelConfig):
        super().__init__()
        from transformers import ReformerConfig
        from transformers.models.reformer.modeling_reformer import LSHSelfAttention

        config = ReformerConfig(
            hidden_size=model.width,
            num_attention_heads=model.heads,
            attention_head_size=model.width // model.heads,
            attn_layers=["lsh"],
            lsh_attn_chunk_length=CHUNK,
            lsh_attention_probs_dropout_prob=0.0,
            num_buckets=HASH_BUCKETS,
            hash_seed=HASH_SEED,
        )
        self.attention = LSHSelfAttention(config)  # type: ignore[no-untyped-call]
        self.out = nn.Linear(model.width, model.width)

    def forward(self, vectors: Tensor, present: Tensor) -> Tensor:
        # The library reseeds torch's global generator to draw the hash planes; fork_rng restores its state for the
        # dropout that follows. Dropout within the attention would be the same at every step, so it is 0.
        devices = [vectors.device] if vectors.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            mixed = self.attention(vectors, attention_mask=present).hidden_states
        out: Tensor = self.out(mixed)
        return out


class _Fourier(nn.Module):
    def forward(self, vectors: Tensor, present: Tensor) -> Tensor:
        mixed: Tensor = torch.fft.fft2(vectors, dim=(1, 2), norm="ortho").real
        return mixed


def _depth(model: ModelConfig) -> int:
    return max(1, model.relational_layers)


def _latest(vectors: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return the last LONGEST of each user's (P, width) vectors, and their (n,) numbers."""
    user = segment_ids(lengths, len(vectors))
    from_last = torch.cumsum(lengths, 0)[user] - torch.arange(len(vectors), device=vectors.device)
    return vectors[from_last <= LONGEST], lengths.clamp(max=LONGEST)


_BUILDERS: dict[str, Callable[[ModelConfig], Backbone]] = {
    "gru": _Recurrent,
    "transformer": lambda model: _Layers(lambda m: RelationalLayer(m.width, m.heads, m.dropout), model),
    "longformer": lambda model: _WindowLayers(lambda m: _MixingLayer(_WindowAttention(m), m), model),
    "reformer": lambda model: _PaddingSensitiveLayers(lambda m: _MixingLayer(_HashedAttention(m), m), model),
    "fnet": lambda model: _PaddingSensitiveLayers(lambda m: _MixingLayer(_Fourier(), m), model),
    "mamba2": _StateSpace,
}
BACKBONES: tuple[str, ...] = tuple(_BUILDERS)
