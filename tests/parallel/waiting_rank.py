"""One rank of a test: rank 0 computes for a second more than rank 1, which waits without computing."""

from __future__ import annotations

import time

import torch
from torch import nn

from lbsf.training import distributed
from lbsf.training.distributed import DistributedTraining

LONGER = 1.0  # seconds of computing


def main() -> None:
    rank, _ = distributed.start()
    torch.set_num_threads(1)
    model = nn.Linear(4, 1)
    training = DistributedTraining(model, torch.optim.AdamW(model.parameters()), gradient_clip=1.0)
    if rank == 0:
        begun = time.thread_time()
        while time.thread_time() - begun < LONGER:
            torch.randn(64, 64).exp_()
    waited, computed = time.monotonic(), time.thread_time()
    training.backward(model(torch.ones(2, 4)).mean())
    training.step(0.1)
    waited, computed = time.monotonic() - waited, time.thread_time() - computed
    if rank == 1:
        assert waited > LONGER / 2, f"rank 1 did not wait: {waited:.3f} s"
        assert computed < waited / 2, f"rank 1 computed for {computed:.3f} of {waited:.3f} s while it waited"
    print(f"rank {rank} well", flush=True)
    distributed.stop()


if __name__ == "__main__":
    main()
