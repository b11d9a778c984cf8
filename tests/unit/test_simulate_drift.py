"""Drift: each kind changes what it says and nothing else, and the truth follows."""

from functools import cache

import numpy as np
import pytest

from training.simulate import Clickstream, Drift, DriftKind, InvalidShop, load_shop, simulate
from training.simulator.drift import drifted
from training.simulator.fidelity import calibration, log_loss
from training.simulator.hazards import purchase_rate
from training.simulator.observe import observe, sessions_of
from training.simulator.tables import PURCHASE_CODE, tables_of
from training.simulator.truth import purchase_probability

pytestmark = pytest.mark.slow

START_MS = 1_767_571_200_000
HOUR_MS = 3_600_000
SPAN_H = 14 * 24
SWITCH_MS = START_MS + SPAN_H // 2 * HOUR_MS


@cache
def _stream(kind: DriftKind, strength: float | None = None, ramp_ms: int = SPAN_H // 2 * HOUR_MS) -> Clickstream:
    drift = Drift(kind, SWITCH_MS, strength, ramp_ms)
    return simulate(load_shop(), 30_000, 9, START_MS, hours=SPAN_H, drift=drift)


def _rates(stream: Clickstream, parts: int = 2) -> list[float]:
    """Fraction of sessions with a purchase, by when they started."""
    clicks = stream.clicks
    first = clicks.step == 0
    buyers = np.unique(clicks.session[clicks.type == PURCHASE_CODE])
    bought = np.isin(clicks.session[first], buyers)
    part = (clicks.time_ms[first] - START_MS) * parts // (SPAN_H * HOUR_MS + 1)
    return [float(bought[part == i].mean()) for i in range(parts)]


@pytest.mark.parametrize("kind", ["none", "hazard", "ramp", "swap", "mix", "new_items"])
def test_truth_follows_every_drift(kind: DriftKind) -> None:
    """After the switch p is as calibrated as before it."""
    stream = _stream(kind)
    later = stream.clicks.time_ms >= SWITCH_MS
    for rows in (~later, later):
        for each in calibration(stream.truth[rows], stream.labels()[rows], stream.clicks.session[rows], bins=5):
            assert abs(each.z) <= 3.5


def test_hazard_multiplies_the_odds_of_purchases() -> None:
    """Purchases become more frequent at the switch, as the parameters say, and the rest of the shop stays."""
    before, after = _rates(_stream("hazard", 2.0))
    assert before == pytest.approx(purchase_rate(load_shop()), rel=0.08)
    assert after == pytest.approx(purchase_rate(drifted(load_shop(), "hazard", 2.0)), rel=0.08)
    assert after > 1.25 * before


def test_hazard_below_one_makes_purchases_rarer() -> None:
    """A strength below 1 lowers the odds."""
    before, after = _rates(_stream("hazard", 0.4))
    assert after < 0.6 * before


def test_ramp_rises_little_by_little() -> None:
    """The rate of purchases is level before the ramp, in between in its first half, and highest in its second."""
    first, second, third, fourth = _rates(_stream("ramp", 8.0), parts=4)
    assert abs(first - second) < 0.015
    assert second + 0.02 < third < fourth - 0.02


def test_swap_changes_the_meaning_of_behaviour() -> None:
    """The filter of the old shop was exact before and is worse than the mean rate after, while about as many sessions buy."""
    stream = _stream("swap")
    before, after = _rates(stream)
    assert after == pytest.approx(before, rel=0.12)
    shop = load_shop()
    sessions = sessions_of(stream.events())
    category_of: dict[str | None, int] = {category.name: i for i, category in enumerate(shop.categories)}
    group_of: dict[str | None, int] = {category.name: category.group for category in shop.categories}
    observation = observe(sessions, group_of, category_of)
    old_p, label = purchase_probability(tables_of(shop), observation.observed), observation.purchase_later()
    started = np.array([session[0].event_time for session in sessions])[observation.session]
    rows = started >= SWITCH_MS
    constant = log_loss(np.full(int(rows.sum()), label[rows].mean()), label[rows])
    assert log_loss(old_p[~rows], label[~rows]) < constant
    assert log_loss(old_p[rows], label[rows]) > constant


def test_mix_moves_traffic_between_categories() -> None:
    """The most popular category loses most of its traffic, and a rare one gains."""
    clicks = _stream("mix").clicks
    first = clicks.step == 0
    later = clicks.time_ms >= SWITCH_MS
    before, after = (np.bincount(clicks.category[first & rows], minlength=24) for rows in (~later, later))
    popular = int(before.argmax())
    rare = int(before.argmin())
    assert after[popular] / after.sum() < 0.5 * before[popular] / before.sum()
    assert after[rare] / after.sum() > 2 * before[rare] / before.sum()


def test_new_items_replaces_items_and_nothing_else() -> None:
    """About the stated part of the items on show is unknown after the switch, and purchases are as frequent."""
    stream = _stream("new_items", 0.5)
    events = list(stream.events())
    known = {event.item_id for event in events if event.event_time < SWITCH_MS}
    # Sessions that began before the switch keep the old catalogue; a day later they are over.
    shown = [event.item_id for event in events if event.event_time >= SWITCH_MS + 24 * HOUR_MS and event.item_id]
    assert 0.35 < sum(item not in known for item in shown) / len(shown) < 0.65
    before, after = _rates(stream)
    assert after == pytest.approx(before, rel=0.12)


def test_without_drift_items_stay_known() -> None:
    """The control: with no drift next to nothing is new in the second half."""
    events = list(_stream("none").events())
    known = {event.item_id for event in events if event.event_time < SWITCH_MS}
    shown = [event.item_id for event in events if event.event_time >= SWITCH_MS and event.item_id]
    assert sum(item not in known for item in shown) / len(shown) < 0.01


@pytest.mark.parametrize(("kind", "strength"), [("hazard", 0.0), ("ramp", -1.0), ("mix", 1.5), ("new_items", 2.0)])
def test_strengths_that_make_no_sense_are_refused(kind: DriftKind, strength: float) -> None:
    """Odds cannot be multiplied by nothing, nor can more than everything move."""
    with pytest.raises(InvalidShop):
        simulate(load_shop(), 10, 1, START_MS, hours=1, drift=Drift(kind, START_MS, strength))
