"""The merchant categories: their words, hours, channels, amounts and seasonality."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CHANNELS = ("POS", "WEB", "ATM", "TRF")


@dataclass(frozen=True)
class Category:
    """One kind of merchant.

    Attributes:
        name: the bank's category text.
        merchant_share: share of all merchants.
        concentration: Zipf exponent: popularity is proportional to rank ** -concentration.
        nouns: last word of a merchant's name.
        memos: purchase descriptions.
        channels: probability of each of CHANNELS.
        amount: median amount, in the currency.
        spread: standard deviation of the amount's logarithm between payments of one user.
        hours: one of HOURS.
        weekend: visits on Saturday and Sunday relative to a working day.
        december: visits in December relative to an average month.
        july: visits in July relative to an average month.
    """

    name: str
    merchant_share: float
    concentration: float
    nouns: tuple[str, ...]
    memos: tuple[str, ...]
    channels: tuple[float, float, float, float]
    amount: float
    spread: float
    hours: str
    weekend: float = 1.0
    december: float = 1.0
    july: float = 1.0


# Visited categories come first: their position is their column in lbsf/synthetic/visits.py. Bills follow.
CATEGORIES = (
    Category(
        name="groceries", merchant_share=0.12, concentration=1.0,
        nouns=("grocers", "supermarket", "market", "foods", "bakery"),
        memos=("weekly groceries", "bread and milk", "fresh fruit", "food and drinks", "household food"),
        channels=(0.92, 0.08, 0.0, 0.0), amount=27.0, spread=0.7, hours="shop",
        weekend=1.3, december=1.15, july=0.95,
    ),
    Category(
        name="transport", merchant_share=0.06, concentration=1.2,
        nouns=("transit", "railways", "taxi", "bus lines", "ferries"),
        memos=("single ride", "day ticket", "return ticket", "fare", "pass top up"),
        channels=(0.6, 0.4, 0.0, 0.0), amount=9.0, spread=0.8, hours="commute",
        weekend=0.6, december=0.95, july=0.85,
    ),
    Category(
        name="restaurants", merchant_share=0.18, concentration=0.8,
        nouns=("kitchen", "cafe", "bistro", "pizza", "grill"),
        memos=("lunch", "dinner for two", "coffee and cake", "takeaway order", "drinks"),
        channels=(0.8, 0.2, 0.0, 0.0), amount=16.0, spread=0.6, hours="evening",
        weekend=1.6, december=1.15, july=1.2,
    ),
    Category(
        name="online shopping", merchant_share=0.13, concentration=1.1,
        nouns=("online store", "webshop", "outlet", "marketplace", "direct"),
        memos=("order clothing", "order electronics", "order books", "order toys", "order shoes"),
        channels=(0.0, 1.0, 0.0, 0.0), amount=34.0, spread=0.9, hours="home",
        weekend=1.1, december=1.6, july=0.9,
    ),
    Category(
        name="household", merchant_share=0.11, concentration=0.9,
        nouns=("hardware", "furniture", "drugstore", "florist", "garden centre"),
        memos=("tools", "cleaning supplies", "flowers", "home textiles", "paint and brushes"),
        channels=(0.9, 0.1, 0.0, 0.0), amount=24.0, spread=0.8, hours="shop",
        weekend=1.4, december=1.25, july=1.1,
    ),
    Category(
        name="health", merchant_share=0.06, concentration=0.8,
        nouns=("pharmacy", "dental", "clinic", "optics", "wellness"),
        memos=("prescription", "consultation", "treatment", "check up", "follow up"),
        channels=(0.85, 0.15, 0.0, 0.0), amount=19.0, spread=0.8, hours="shop",
        weekend=0.5, december=1.1, july=0.9,
    ),
    Category(
        name="leisure", merchant_share=0.08, concentration=0.9,
        nouns=("cinema", "sports", "games", "travel", "music"),
        memos=("two tickets", "entry", "equipment", "booking", "season pass"),
        channels=(0.5, 0.5, 0.0, 0.0), amount=21.0, spread=0.9, hours="evening",
        weekend=1.7, december=1.1, july=1.4,
    ),
    Category(
        name="cash", merchant_share=0.03, concentration=0.9,
        nouns=("cash point", "bank atm", "cash machine"),
        memos=("cash withdrawal",),
        channels=(0.0, 0.0, 1.0, 0.0), amount=60.0, spread=0.6, hours="shop",
        weekend=1.2, december=1.2, july=1.1,
    ),
    Category(
        name="betting", merchant_share=0.006, concentration=0.8,
        nouns=("betting", "casino", "sportsbook", "lottery"),
        memos=("stake", "account top up", "lottery ticket", "live bet"),
        channels=(0.25, 0.75, 0.0, 0.0), amount=15.0, spread=0.9, hours="home",
        weekend=1.5,
    ),
    Category(
        name="pawn", merchant_share=0.005, concentration=0.6,
        nouns=("pawnbrokers", "gold exchange", "second hand"),
        memos=("pledge fee", "redemption", "pledge renewal"),
        channels=(0.9, 0.0, 0.0, 0.1), amount=32.0, spread=0.6, hours="shop",
    ),
    Category(
        name="lender", merchant_share=0.006, concentration=0.6,
        nouns=("loans", "credit", "finance", "payday advance"),
        memos=("loan instalment", "credit repayment", "instalment"),
        channels=(0.0, 0.2, 0.0, 0.8), amount=75.0, spread=0.5, hours="office",
    ),
    Category(
        name="salary", merchant_share=0.1, concentration=0.8,
        nouns=("industries", "services", "logistics", "hospital", "school board"),
        memos=("salary", "monthly pay", "wages"),
        channels=(0.0, 0.0, 0.0, 1.0), amount=2300.0, spread=0.02, hours="office",
    ),
    Category(
        name="rent", merchant_share=0.1, concentration=0.3,
        nouns=("housing", "estates", "homes", "property management"),
        memos=("rent", "monthly rent", "rent and service charge"),
        channels=(0.0, 0.0, 0.0, 1.0), amount=780.0, spread=0.0, hours="office",
    ),
    Category(
        name="utilities", merchant_share=0.008, concentration=0.9,
        nouns=("energy", "water works", "telecom", "mobile", "heating"),
        memos=("monthly bill", "service bill", "bill"),
        channels=(0.0, 0.3, 0.0, 0.7), amount=58.0, spread=0.12, hours="office",
    ),
    Category(
        name="subscription", merchant_share=0.005, concentration=1.0,
        nouns=("streaming", "news", "fitness club", "cloud storage", "audio books"),
        memos=("monthly subscription", "membership", "premium plan"),
        channels=(0.0, 1.0, 0.0, 0.0), amount=12.0, spread=0.0, hours="office",
    ),
)  # fmt: skip

CODES = {category.name: code for code, category in enumerate(CATEGORIES)}
VISITED = CATEGORIES[: CODES["lender"]]
REMINDER = "reminder, second notice"

FIRST_WORDS = (
    "corner", "green", "city", "old town", "north", "south", "harbour", "station", "royal", "golden", "silver",
    "swift", "bright", "happy", "river", "lake", "mountain", "garden", "market street", "central", "family",
    "united", "modern", "classic", "sunny", "blue", "red", "white", "first", "prime", "star", "crown", "bridge",
    "castle", "park", "forest", "valley", "island", "union", "express",
)  # fmt: skip
SECOND_WORDS = (
    "", "", "and sons", "brothers", "west", "east", "plus", "point", "house", "hill", "gate", "square", "works",
    "fields", "lane", "oak", "elm", "maple", "rose", "fox", "lion", "eagle", "anchor", "mill",
)  # fmt: skip

# (centre in hours, width in hours, weight) of each Gaussian peak of the day.
HOURS = {
    "shop": ((11.0, 2.0, 1.0), (17.5, 2.0, 1.3)),
    "commute": ((7.5, 1.0, 1.0), (17.0, 1.5, 1.0), (12.0, 3.0, 0.5)),
    "evening": ((12.5, 1.0, 0.6), (19.5, 1.8, 1.4)),
    "home": ((13.0, 3.0, 0.5), (21.0, 2.0, 1.2)),
    "office": ((9.5, 2.0, 1.0), (14.5, 2.0, 0.6)),
}


def hour_distribution(hours: str) -> NDArray[np.float64]:
    """Return the cumulative probability of the hours of the day, (24,), rising to 1."""
    clock = np.arange(24) + 0.5
    density = np.full(24, 0.01)
    for centre, width, weight in HOURS[hours]:
        away = np.abs(clock - centre)
        away = np.minimum(away, 24 - away)
        density += weight * np.exp(-0.5 * (away / width) ** 2) / width
    cumulative = np.cumsum(density)
    return np.asarray(cumulative / cumulative[-1])
