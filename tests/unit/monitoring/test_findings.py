"""What a breach is, and how it reads."""

from __future__ import annotations

from pathlib import Path

from lbsf.config.models import MigrationLimits, MonitoringConfig
from lbsf.monitoring.findings import MEASURES, at_least, at_most, breaches, share, shown, within


def test_a_limit_itself_is_no_breach() -> None:
    assert not at_most("score_psi", 0.25, 0.25, 9).breached and at_most("score_psi", 0.2501, 0.25, 9).breached
    assert not at_least("matured_auc", 0.6, 0.6, 9, judged=True).breached
    assert at_least("matured_auc", 0.59, 0.6, 9, judged=True).breached
    for value, breached, threshold in ((0.4, True, 0.5), (0.5, False, 0.5), (2.0, False, 2.0), (2.1, True, 2.0)):
        found = within("matured_calibration", value, (0.5, 2.0), 1.0, 9, judged=True)
        assert (found.breached, found.threshold) == (breached, threshold)


def test_nothing_to_measure_or_too_little_to_judge_is_no_breach() -> None:
    for found in (
        at_most("score_psi", None, 0.25, 0),
        at_most("thin_share", 0.9, 0.3, 3, judged=False),
        at_least("matured_auc", 0.1, 0.6, 3, judged=False),
        within("users_change", -1.0, (-0.2, 0.2), 0.0, 3, judged=False),
        shown("users", 3.0, 3),
    ):
        assert found.threshold is None and not found.breached
    assert share(0, 0) is None and share(1, 4) == 0.25


def test_breaches_come_in_the_order_of_the_measures_and_say_what_to_look_at() -> None:
    rows = [
        at_most("late_share", 0.5, 0.2, 1_000),
        within("payments_day_change", -1.0, (-0.6, 0.6), 0.0, 20_000, judged=True),
        at_most("input_psi", 0.1, 0.25, 9, "amount_cents"),
        at_most("input_psi", 0.3, 0.25, 9, "channel"),
    ]
    found = breaches(rows)
    assert [one.measure for one in found] == ["input_psi", "payments_day_change", "late_share"]
    assert str(found[1]) == (
        "payments_day_change all: -100 % is below -60 % (20,000 counted); look at whether the last delivery is whole, "
        "or was delivered twice"
    )
    assert str(found[0]).startswith("input_psi channel: 0.300 is above 0.250 (9 counted)")
    assert all("look at" in str(one) and "None" not in str(one) for one in found)


def test_every_measure_that_can_breach_says_what_to_look_at() -> None:
    never = {name for name, measure in MEASURES.items() if measure.look_at is None}
    assert never == {
        "users", "payments_day", "payments_week", "matured_users", "matured_defaults", "matured_mean_probability",
        "matured_default_rate", "matured_auc_low", "matured_auc_high",
    }  # fmt: skip


def test_the_document_names_every_measure_and_every_limit() -> None:
    text = Path("docs/monitoring.md").read_text(encoding="utf-8")
    table = [line for line in text.splitlines() if line.startswith("| ")]
    named = {name.strip() for line in table[1:] for name in line.split("|")[1].split(",")}
    assert set(MEASURES) <= named
    limits = {*MonitoringConfig.model_fields, *MigrationLimits.model_fields}
    assert [name for name in limits if name not in text] == []
