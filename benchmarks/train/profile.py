"""Profiles a training step of LBSF."""

from __future__ import annotations

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.train.dataset import Dataset
from benchmarks.train.steps import folds_of, network_and_batches, stepper

STEPS = 3
ROWS = 25
BATCH_USERS = 64


def top_operators(data: Dataset) -> str:
    """Return torch.profiler's table of the operators with the most own time, over a few steps with one thread."""
    torch.set_num_threads(1)
    network, batches = network_and_batches("lbsf", folds_of(data.files("train"), data.users), BATCH_USERS)
    step = stepper(network)
    step(*batches[0])
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiled:
        for number in range(STEPS):
            step(*batches[number % len(batches)])
    averages = profiled.key_averages(group_by_input_shape=False)
    return str(averages.table(sort_by="self_cpu_time_total", row_limit=ROWS, max_name_column_width=40))
