"""Scoring: computes scores with reasons from folds and a model. Pure: jobs/score_users.py reads and writes."""

from lbsf.scoring.change import with_change
from lbsf.scoring.explain import BatchScores, score_batch
from lbsf.scoring.rank import with_rank
from lbsf.scoring.score import ModelFiles, score_folds

__all__ = [
    "BatchScores",
    "ModelFiles",
    "score_batch",
    "score_folds",
    "with_change",
    "with_rank",
]
