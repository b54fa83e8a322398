"""Sequence models over the same payment encoding, not folded by merchant: one chronological sequence a user.

All have LBSF's payment encoding, width, heads and head, and as many layers as LBSF has relational ones; they
differ in how payments look at each other. Attention and mixing stand in the same pre-norm layers.

- gru: recurrent (torch.nn.GRU), over padded sequences: on a CPU, the backward pass over packed ones is quadratic in
  their length.
- transformer: full attention; LBSF's own relational layer.
- longformer: attention within a window, and to and from the user's vector (Beltagy et al. 2020).
- reformer: attention among payments that hash alike (Kitaev et al. 2020). Its reversible layers are left out:
  they trade time for memory and seed torch's random numbers anew, so that a run could not be repeated.
- fnet: a Fourier transform instead of attention (Lee-Thorp et al. 2021).
- mamba2: a selective state space, in chunks (Dao and Gu 2024).

Positions have no embedding of their own: each payment's encoding says when it was.

A user's score depends on the user's own payments alone. Reformer and fnet see padding, so their users are padded
to a length that follows from their own number of payments. Reformer's hashing is the same for all batches; where a
payment lies on a bucket's border, the rounding of a batch of another size can move it across.

Left out, of what the `transformers` library has:

- mamba: without its CUDA kernels the backward pass of its scan is quadratic in the length.
- informer: draws keys at random also in evaluation, and reads whole arrays with their padding.
- nystromformer: its landmarks are means over padding too, and its inverse is scaled by the batch's largest value.
- big_bird: the first short batch turns it to full attention for good.
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

# A user's most recent payments that are read; very few users have more in half a year.
LONGEST = 4096
# Payments that local attention sees on each side, that hash together, or that a scan takes at once.
CHUNK = 64
HASH_BUCKETS = 32
HASH_SEED = 1
STATE_SIZE = 32
# Brings the sum over a usual number of payments to the size of their mean.
PAYMENTS_SCALE = 512.0


class SequenceNetwork(nn.Module):
    """Unfolded payments in, one logit of default a user out.

    A learned user vector stands in front of each user's payments, so a user without payments has a
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
        """Logits of default, (n,).

        Args:
            batch: folds as View(unfolded=True) shows them, at most one merchant a user.

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
        """(n, K, width) payments and (n, K) bool -> (n, 3 * width): user or last vector, mean and sum."""
        n, length, _ = payments.shape
        padding = -(1 + length) % self.backbone.multiple
        sequence = torch.cat([self.user.expand(n, 1, -1), payments * present[:, :, None]], dim=1)
        there = F.pad(F.pad(present, (1, 0), value=True), (0, padding))
        out = self.backbone(F.pad(sequence, (0, 0, 0, padding)), there)
        paid = out[:, 1 : 1 + length] * present[:, :, None]
        total, count = paid.sum(1), present.sum(1)
        # What reads forwards only has seen everything at the last payment.
        summary = out[torch.arange(n, device=out.device), count] if self.backbone.causal else out[:, 0]
        return torch.cat([summary, total / count.clamp(min=1)[:, None], total / PAYMENTS_SCALE], dim=1)


class Backbone(nn.Module):
    """(n, L, width) sequences and (n, L) bool, where they are -> (n, L, width).

    Attributes:
        multiple: L is a multiple of it.
        causal: an element sees what stands before it, not what comes after.
    """

    multiple = 1
    causal = False

    def groups(self, lengths: Tensor) -> tuple[Tensor, ...]:
        """The positions of (n,) users by their payments, in groups that are padded together."""
        return length_buckets(lengths)


class _Recurrent(Backbone):
    causal = True

    def __init__(self, model: ModelConfig):
        super().__init__()
        depth = _depth(model)
        dropout = model.dropout if depth > 1 else 0.0
        self.gru = nn.GRU(model.width, model.width, depth, batch_first=True, dropout=dropout)

    def groups(self, lengths: Tensor) -> tuple[Tensor, ...]:
        # It goes step by step, all users at once: a step costs little more for many users, and groups are more steps.
        return (torch.arange(len(lengths), device=lengths.device),)

    def forward(self, vectors: Tensor, present: Tensor) -> Tensor:
        out: Tensor = self.gru(vectors)[0]
        return out


class _Layers(Backbone):
    """Layers of one kind, one after the other."""

    def __init__(self, layer: Callable[[ModelConfig], nn.Module], model: ModelConfig):
        super().__init__()
        self.layers = nn.ModuleList(layer(model) for _ in range(_depth(model)))

    def forward(self, vectors: Tensor, present: Tensor) -> Tensor:
        for layer in self.layers:
            vectors = layer(vectors, present)
        return vectors


class _WindowLayers(_Layers):
    multiple = 2 * CHUNK


class _PaddedAlike(_Layers):
    """For layers that padding shows through: a user's padding follows from its own length."""

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
        # Of words; payments bring their own.
        self.mamba.set_input_embeddings(None)  # type: ignore[no-untyped-call]

    def forward(self, vectors: Tensor, present: Tensor) -> Tensor:
        out: Tensor = self.mamba(inputs_embeds=vectors, attention_mask=present.long(), use_cache=False)[0]
        return out


class _MixingLayer(nn.Module):
    """LBSF's relational layer with another way to mix the vectors in the place of attention."""

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
        # Its own code: below 0 nobody looks, at 0 the neighbours do, above 0 all do.
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
        # The library seeds torch's one generator to draw the hash's planes: what was there is put back, for the
        # dropout behind it. Dropout of the attention itself would be the same at every step, so there is none.
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
    """The last LONGEST vectors of each user, of (P, width) vectors and (n,) lengths; and their number."""
    user = segment_ids(lengths)
    from_last = torch.cumsum(lengths, 0)[user] - torch.arange(len(vectors), device=vectors.device)
    return vectors[from_last <= LONGEST], lengths.clamp(max=LONGEST)


_BUILDERS: dict[str, Callable[[ModelConfig], Backbone]] = {
    "gru": _Recurrent,
    "transformer": lambda model: _Layers(lambda m: RelationalLayer(m.width, m.heads, m.dropout), model),
    "longformer": lambda model: _WindowLayers(lambda m: _MixingLayer(_WindowAttention(m), m), model),
    "reformer": lambda model: _PaddedAlike(lambda m: _MixingLayer(_HashedAttention(m), m), model),
    "fnet": lambda model: _PaddedAlike(lambda m: _MixingLayer(_Fourier(), m), model),
    "mamba2": _StateSpace,
}
BACKBONES: tuple[str, ...] = tuple(_BUILDERS)
