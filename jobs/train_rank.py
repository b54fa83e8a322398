"""Run one Horovod rank of a training run; train_model.py starts the ranks, no person needs to.

Rank 0 prints one JSON object per line: `step` and `epoch` events, or an `error` that a person can fix.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from lbsf.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Train this rank's share of a plan and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", required=True, type=Path, help="training plan that train_model.py wrote")
    arguments = parser.parse_args(argv)

    from lbsf.training.loop import train_rank
    from lbsf.training.plan import TrainingPlan

    try:
        train_rank(TrainingPlan.load(arguments.plan), on_event=lambda event: print(json.dumps(event), flush=True))
    except UserError as error:
        print(json.dumps({"event": "error", "message": str(error)}), flush=True)
        return 2
    return 0


if __name__ == "__main__" and (status := main()):
    sys.exit(status)
