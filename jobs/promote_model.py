"""Make the validated challenger the champion, the model that scores users.

A challenger that was not validated, was refused, or was compared with a champion other than today's stays
challenger. A person can overrule a refusal with --override REASON, which is recorded.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from jobs.common import Job, Summary, run_main
from lbsf.errors import InputError


def run(job: Job, *, override: str | None = None) -> Summary:
    """Move the alias `champion` to the challenger.

    Raises:
        InputError: the challenger has not passed the gate, and nobody overruled it.
    """
    from lbsf.tracking import CHALLENGER, CHAMPION

    with job.step("promote_model") as summary:
        challenger, champion = job.tracker.fetch(CHALLENGER), job.tracker.version_of(CHAMPION)
        if champion == challenger.version:
            # An earlier promotion ended before its last step.
            job.tracker.promote(challenger)
            summary.details = {"champion": f"{challenger.name} version {challenger.version}", "before": "itself"}
            return summary
        verdict = challenger.tags.get("validation")
        if verdict is None:
            raise InputError(f"challenger version {challenger.version} has not been validated: run validate_model.py")
        compared_with, today = challenger.tags.get("validation_champion"), champion or "none"
        if compared_with != today:
            raise InputError(
                f"challenger version {challenger.version} was compared with champion {compared_with}, "
                f"today's is {today}: run validate_model.py again"
            )
        if verdict != "passed" and not override:
            raise InputError(
                f"challenger version {challenger.version} was refused: {challenger.tags.get('validation_reasons')}"
            )
        # A passed verdict clears the override that an earlier call left when it ended before the promotion.
        job.tracker.tag(challenger, {"override": None if verdict == "passed" else override})
        job.tracker.promote(challenger)
        summary.details = {
            "champion": f"{challenger.name} version {challenger.version}",
            "before": f"version {champion}" if champion else "none",
            "gate": verdict if verdict == "passed" else f"overruled ({override})",
        }
    return summary


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--override", metavar="REASON", help="promote a refused challenger; the reason is recorded")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job from the command line and return its exit code; see run_main."""
    return run_main(_add_arguments, run, argv)


if __name__ == "__main__" and (status := main()):
    sys.exit(status)
