"""Adds the change since the previously scored night to the scores, after the network has run."""

from __future__ import annotations

from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lbsf.models.predict import PROBABILITY_DECIMALS
from lbsf.schemas.scores import CHANGE
from lbsf.scoring.explain import CONTRIBUTION_DECIMALS

# Smaller changes of the log-odds are described as nearly unchanged.
LITTLE = 0.05


def with_change(scores: DataFrame, earlier: DataFrame | None, since: date | None, model_version: str) -> DataFrame:
    """Add the column `change`, and drop its inputs new_payments and by_new_payments.

    Args:
        scores: output of score_folds, called with the same `since`.
        earlier: rows of the scores table of the previously scored night; None if there is none.
        since: the previously scored night.
        model_version: version of the model that scored this night.

    Returns:
        The rows of `scores`. `change` is null for a user without an earlier score, and if either
        score is a thin file's.
    """
    if earlier is None or since is None:
        return scores.withColumn("change", F.lit(None).cast(CHANGE)).drop("new_payments", "by_new_payments")
    then = earlier.where(~F.col("thin_file")).select(
        "user_id", F.col("probability").alias("then"), F.col("model_version").alias("then_by")
    )
    joined = scores.join(then, "user_id", how="left")
    contribution = F.round(_log_odds(F.col("probability")) - _log_odds(F.col("then")), CONTRIBUTION_DECIMALS)
    changed = F.struct(
        F.lit(since).alias("since"),
        F.col("then").alias("probability"),
        contribution.alias("contribution"),
        F.col("new_payments"),
        F.col("by_new_payments"),
        _text(since, contribution, F.col("then_by") != F.lit(model_version)).alias("text"),
    )
    known = F.col("then").isNotNull() & ~F.col("thin_file")
    return joined.withColumn("change", F.when(known, changed)).drop(
        "then", "then_by", "new_payments", "by_new_payments"
    )


def _log_odds(probability: Column) -> Column:
    least = F.lit(10.0**-PROBABILITY_DECIMALS)
    inside = F.least(F.greatest(probability, least), F.lit(1.0) - least)
    return F.log(inside / (F.lit(1.0) - inside))


def _text(since: date, contribution: Column, other_model: Column) -> Column:
    """Describe the change in a sentence."""
    now, then = (F.format_string("%.1f %%", 100 * F.col(name)) for name in ("probability", "then"))
    new, did = F.col("new_payments"), F.col("by_new_payments")
    moved = F.when(contribution > 0, "Rose").otherwise("Fell")
    payments = F.when(new == 1, "1 new payment").otherwise(F.format_string("%d new payments", new))
    # New payments are the main cause if the rest of the change is at most half of it.
    mostly_new = F.abs(contribution - did) <= F.abs(contribution) / 2
    why = (
        F.when(other_model, F.lit("another model scored then"))
        .when(mostly_new, F.concat(F.lit("mostly by "), payments))
        .when(new > 0, F.concat(payments, F.lit(" did little of it, older payments receding did more")))
        .otherwise(F.lit("by older payments receding, there is no new one"))
    )
    return F.when(
        F.abs(contribution) < LITTLE,
        F.concat(F.lit("Nearly unchanged: "), now, F.lit(" after "), then, F.lit(f" on {since}.")),
    ).otherwise(F.concat(moved, F.lit(" from "), then, F.lit(f" on {since} to "), now, F.lit(": "), why, F.lit(".")))
