"""Tables that analysts read, small enough to know every answer: three nights, six users, two watched nights."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from lbsf.schemas import BAND_MIGRATION, NIGHTLY_RUNS, SCORE_MONITORING, SCORES
from lbsf.tables import Warehouse

FIRST, EARLIER, NIGHT = date(2025, 6, 1), date(2025, 7, 1), date(2025, 7, 2)

Row = tuple[Any, ...]


def write_analyst_tables(warehouse: Warehouse) -> None:
    """Writes all four tables."""
    for table, rows in (
        (SCORES, scores()),
        (SCORE_MONITORING, monitoring()),
        (BAND_MIGRATION, migration()),
        (NIGHTLY_RUNS, runs()),
    ):
        warehouse.overwrite(table, warehouse.spark.createDataFrame(rows, table.struct))


def at(night: date, second: int) -> datetime:
    """An instant of the night's job, which begins at 02:00 UTC."""
    return datetime(night.year, night.month, night.day, 2, tzinfo=UTC) + timedelta(seconds=second)


def reason(merchant: str, contribution: float, field: str | None = None, name: str | None = None) -> dict[str, Any]:
    direction = "raises" if contribution > 0 else "lowers"
    name = f"Shop {merchant}" if name is None else name
    return {
        "merchant_id": merchant,
        "merchant_name": name,
        "direction": direction,
        "contribution": contribution,
        "field": field,
        "text": f"{name or merchant} {direction} the risk",
    }


def change(probability: float, contribution: float, new: int, by_new: float, text: str) -> Row:
    return EARLIER, probability, contribution, new, by_new, text


def scores() -> list[Row]:
    """u2 is a thin file; u4 is new; u6 is not scored in the latest night."""
    loans, bets = reason("loans", 0.7, "amount"), reason("bets", 0.1, "kind", name="")
    rows = [
        (NIGHT, "u1", 0.30, "E", 75.0, [loans, reason("grocer", -0.2, "time")],
         change(0.12, 1.1451, 4, 0.9, "risk rose, mostly by 4 new payments")),
        (NIGHT, "u2", 0.05, "thin", None, [], None),
        (NIGHT, "u3", 0.02, "B", 25.0, [bets], change(0.02, 0.0, 0, 0.0, "nothing changed")),
        (NIGHT, "u4", 0.005, "A", 0.0, [], None),
        (NIGHT, "u5", 0.08, "D", 50.0, [reason("loans", 0.5, "amount"), reason("grocer", -0.4)],
         change(0.16, -0.7841, 1, 0.0, "risk fell, as old payments left the window")),
        (EARLIER, "u1", 0.12, "D", 40.0, [loans], None),
        (EARLIER, "u2", 0.05, "thin", None, [], None),
        (EARLIER, "u3", 0.02, "B", 0.0, [bets], None),
        (EARLIER, "u5", 0.16, "E", 60.0, [loans], None),
        (EARLIER, "u6", 0.90, "E", 80.0, [reason("bets", 2.0, "kind", name="")], None),
        (FIRST, "u1", 0.06, "D", 50.0, [loans], None),
        (FIRST, "u3", 0.025, "B", 0.0, [bets], None),
    ]  # fmt: skip
    return [
        (night, user, probability, band, percentile, band == "thin", reasons, moved, "lbsf", "1", 3, 7, at(night, 90))
        for night, user, probability, band, percentile, reasons, moved in rows
    ]


def monitoring() -> list[Row]:
    """Beyond their thresholds: the PSI of amount_cents tonight, late_share for two nights."""
    values = {
        ("score_psi", "all"): (0.02, 0.03, 0.25, 5),
        ("input_psi", "channel"): (0.04, None, 0.25, 0),
        ("input_psi", "amount_cents"): (0.05, 0.31, 0.25, 900),
        ("matured_users", "all"): (None, 200.0, None, 200),
        ("matured_defaults", "all"): (None, 9.0, None, 200),
        ("matured_auc", "all"): (None, 0.74, 0.6, 200),
        ("matured_ks", "all"): (None, 0.41, None, 200),
        ("matured_calibration", "all"): (None, 1.2, 2.0, 200),
        ("matured_mean_probability", "all"): (None, 0.054, None, 200),
        ("matured_default_rate", "all"): (None, 0.045, None, 200),
        ("matured_mean_probability", "E"): (None, 0.2, None, 20),
        ("matured_default_rate", "E"): (None, 0.25, None, 20),
        ("users", "all"): (5.0, 5.0, None, 5),
        ("payments_day", "all"): (420.0, 401.0, None, 401),
        ("late_share", "all"): (0.02, 0.03, 0.01, 900),
        ("quarantined_share", "all"): (0.06, 0.001, 0.05, 900),
        ("thin_share", "all"): (0.2, 0.2, 0.5, 5),
    }
    breached = {
        (NIGHT, "amount_cents"), (NIGHT, "late_share"), (EARLIER, "late_share"), (EARLIER, "quarantined_share"),
    }  # fmt: skip
    return [
        (night, measure, segment, value, threshold, bool({(night, measure), (night, segment)} & breached), counted,
         at(night, 100))
        for (measure, segment), (before, now, threshold, counted) in values.items()
        for night, value in ((EARLIER, before), (NIGHT, now))
        # What was not measured that night has no row, but for a PSI.
        if value is not None or measure.endswith("psi")
    ]  # fmt: skip


def migration() -> list[Row]:
    return [
        (EARLIER, "night", date(2025, 6, 30), "B", "A", 7),
        (NIGHT, "night", EARLIER, "B", "B", 1),
        (NIGHT, "night", EARLIER, "D", "E", 1),
        (NIGHT, "night", EARLIER, "E", "D", 1),
        (NIGHT, "night", EARLIER, "E", "none", 1),
        (NIGHT, "night", EARLIER, "none", "A", 1),
        (NIGHT, "night", EARLIER, "thin", "thin", 1),
        (NIGHT, "month", FIRST, "B", "B", 1),
        (NIGHT, "month", FIRST, "D", "E", 1),
    ]


def runs() -> list[Row]:
    """The first night fails in its fold, the second ends with a finding, the last is under way."""

    def step(night: date, number: int, name: str, outcome: str, seconds: int | None, **more: Any) -> Row:
        began = at(night, 10 * number)
        ended = None if seconds is None else began + timedelta(seconds=seconds)
        return (
            night, name, number, outcome, more.get("attempt", 1), began, ended, 1000, 990, more.get("quarantined"),
            more.get("details"), more.get("message"), f"run-{night}", "abc123",
        )  # fmt: skip

    return [
        step(FIRST, 1, "ingest", "done", 3, quarantined=10),
        step(FIRST, 2, "fold", "failed", 1, message="no room on the disk", attempt=3),
        step(EARLIER, 1, "ingest", "done", 4, quarantined=2, details='{"payments version": 7}'),
        step(EARLIER, 2, "fold", "done", 2, details='{"folds version": 3}'),
        step(EARLIER, 3, "monitor", "finding", 1, message="late_share 0.02, at most 0.01"),
        step(NIGHT, 1, "ingest", "done", 5, quarantined=0),
        step(NIGHT, 2, "fold", "started", None),
    ]
