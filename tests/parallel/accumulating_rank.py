"""One rank of a test: accumulated batches against one large batch, and a loss that is NaN on one rank alone.

The network has no batch normalisation, whose statistics are a batch's own: so the two ways must agree.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lbsf.training import distributed
from lbsf.training.distributed import DistributedTraining

RATE, CLIP, PARTS, USERS = 0.05, 0.1, 4, 8


def network() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Linear(16, 1))
    return model, torch.optim.AdamW(model.parameters(), weight_decay=0.1)


def loss_of(model: nn.Module, features: Tensor, label: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(model(features).squeeze(1), label)


def main() -> None:
    rank, ranks = distributed.start()
    torch.set_num_threads(1)
    # (steps, ranks, parts, users, features), the same on all ranks.
    features = torch.randn(3, ranks, PARTS, USERS, 6, generator=torch.Generator().manual_seed(2))
    label = (features[..., 0] > 0).float()

    accumulated, optimizer = network()
    training = DistributedTraining(accumulated, optimizer, CLIP, accumulate=PARTS)
    alone, plain = network()
    for step in range(3):
        for part in range(PARTS):
            training.backward(loss_of(accumulated, features[step, rank, part], label[step, rank, part]))
        training.step(RATE)
        plain.zero_grad()
        loss_of(alone, features[step].flatten(0, 2), label[step].flatten()).backward()  # type: ignore[no-untyped-call]
        assert nn.utils.clip_grad_norm_(alone.parameters(), CLIP) > CLIP, "the test means to clip"
        plain.param_groups[0]["lr"] = RATE
        plain.step()
    for name, expected in alone.state_dict().items():
        torch.testing.assert_close(accumulated.state_dict()[name], expected, rtol=1e-4, atol=1e-5)

    before = {name: tensor.clone() for name, tensor in accumulated.state_dict().items()}
    for part in range(PARTS):
        loss = loss_of(accumulated, features[0, rank, part], label[0, rank, part])
        training.backward(loss * float("inf") if (rank, part) == (1, 2) else loss)
    try:
        training.step(RATE)
    except FloatingPointError:
        pass
    else:
        raise AssertionError("the infinite loss was not seen")
    for name, tensor in before.items():
        torch.testing.assert_close(accumulated.state_dict()[name], tensor, rtol=0, atol=0)
    print(f"rank {rank} well", flush=True)
    distributed.stop()


if __name__ == "__main__":
    main()
