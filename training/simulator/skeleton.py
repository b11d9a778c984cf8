"""What of a shop can be counted in its events: categories, popularity, prices, when visitors come and come back.

What the events do not tell (prices where there are none, returns of anonymous visitors) keeps a default.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from training.simulator.observe import Session
from training.simulator.shop import Category, Checkout, Group, InvalidShop, Shop, State, Visits
from training.simulator.tables import MAX_GAP_S

#: Rarer categories are one, `REST`.
MAX_CATEGORIES = 150
REST = "rest"
#: Categories in which so many sessions start are a group of their own.
_OWN_GROUP = 100
_MAX_GROUPS = 8
_DEFAULT_PRICE = (3.5, 1.0)  # mean and deviation of log price where the events have none
_MIN_RETURNS = 100


def skeleton_of(sessions: Sequence[Session], name: str, source: str) -> Shop:
    """A shop with everything but the hidden states, of which it has one to be replaced.

    Raises: InvalidShop where the sessions have fewer than two categories.
    """
    categories, groups = _categories(sessions)
    return Shop(
        name=name,
        source=source,
        states=(State("state-0", {"view": 1.0}, 4.0, 1.0, (0.8, 0.1, 0.1), 0.5, 0.7, 0.0, 0.3),),
        transitions=((1.0,),),
        groups=groups,
        categories=categories,
        visits=_visits(sessions),
        checkout=_checkout(sessions),
        zipf=_zipf(sessions),
    )


def _categories(sessions: Sequence[Session]) -> tuple[tuple[Category, ...], tuple[Group, ...]]:
    starts = Counter(session[0].category for session in sessions)
    seen = Counter(event.category for session in sessions for event in session)
    common = [c for c, _ in seen.most_common() if c is not None][: MAX_CATEGORIES - 1]
    if len(common) < 2:
        raise InvalidShop("the events have fewer than two categories: a shop cannot be fitted to them")
    own = [c for c, count in starts.most_common() if c in set(common) and count >= _OWN_GROUP][: _MAX_GROUPS - 1]
    groups = tuple(Group(c or REST, (1.0,), 0.0) for c in [*own, REST])
    facts: dict[str, _Facts] = {}
    known = set(common)
    for session in sessions:
        for event in session:
            fact = facts.setdefault(event.category if event.category in known else REST, _Facts(set(), set(), []))
            if event.item_id is not None:
                fact.items.add(event.item_id)
            if event.brand is not None:
                fact.brands.add(event.brand)
            if event.price:
                fact.log_prices.append(math.log(event.price))
    rest_starts = sum(count for c, count in starts.items() if c not in known)
    categories = []
    for c in [*common, REST]:
        fact = facts.get(c, _Facts(set(), set(), []))
        mu, sd = _DEFAULT_PRICE if len(fact.log_prices) < 2 else (float(np.mean(fact.log_prices)), float(np.std(fact.log_prices)))
        share = (rest_starts if c == REST else starts[c]) + 0.5
        group = own.index(c) if c in own else len(own)
        categories.append(Category(c, group, share / len(sessions), max(len(fact.items), 2), max(len(fact.brands), 1), mu, sd))
    return tuple(categories), groups


@dataclass(frozen=True)
class _Facts:
    items: set[str]
    brands: set[str]
    log_prices: list[float]


def _visits(sessions: Sequence[Session]) -> Visits:
    hours = np.bincount([session[0].event_time // 3_600_000 % 24 for session in sessions], minlength=24) + 1.0
    ends: dict[str, int] = {}
    waits_h = []
    for session in sessions:
        visitor = session[0].visitor_id
        if visitor in ends:
            waits_h.append((session[0].event_time - ends[visitor]) / 3_600_000 - 0.5)
        ends[visitor] = session[-1].event_time
    hourly = tuple((hours / hours.mean()).tolist())
    if len(waits_h) < _MIN_RETURNS:
        return Visits(hours=hourly)
    log_wait = np.log(np.maximum(waits_h, 0.01))
    return replace(
        Visits(hours=hourly),
        return_probability=len(waits_h) / len(sessions),
        return_median_h=float(np.exp(np.median(log_wait))),
        return_log_sd=float(log_wait.std()),
    )


def _checkout(sessions: Sequence[Session]) -> Checkout:
    log_gaps, followed = [], []
    for session in sessions:
        for at, event in enumerate(session):
            if event.event_type == "purchase":
                gap_s = (event.event_time - session[at - 1].event_time) / 1000
                log_gaps.append(math.log1p(min(gap_s, MAX_GAP_S)))
                followed.append(at + 1 < len(session))
    if len(log_gaps) < 2:
        return Checkout()
    return Checkout(float(np.mean(log_gaps)), max(float(np.std(log_gaps)), 0.1), float(np.mean(followed)))


def _zipf(sessions: Sequence[Session]) -> float:
    """The exponent of popularity by rank that makes the views likeliest, over a grid."""
    counts: dict[str | None, Counter[str]] = {}
    for session in sessions:
        for event in session:
            if event.item_id is not None:
                counts.setdefault(event.category, Counter())[event.item_id] += 1
    grid = np.linspace(0.0, 1.6, 65)
    score = np.zeros(len(grid))
    for counter in counts.values():
        count = np.array(sorted(counter.values(), reverse=True))
        log_rank = np.log(np.arange(1, len(count) + 1))
        score -= grid * float((count * log_rank).sum())
        score -= float(count.sum()) * np.log(np.exp(-np.outer(log_rank, grid)).sum(axis=0))
    return float(grid[score.argmax()])
