"""The laws of every baseline: what `Baseline` promises, for each of the line-up."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pytest

from training.baselines.base import Baseline
from training.baselines.line_up import BASELINES
from training.event_names import EventNames
from training.forecast import LISTED, Forecast
from training.history import fold_log
from training.labels import UNKNOWN
from training.metrics.binary import log_losses
from training.session_log import NEXT_TYPES, SessionLog, session_log
from training.simulate import load_shop, simulate
from worker.contract.events import ClickEvent
from worker.contract.features import FeatureSpec
from worker.contract.session import SessionPolicy

START_MS = 1_767_571_200_000
SPEC = FeatureSpec(window=64)
#: Sums run in another order beside other sessions.
TOLERANCE = 2e-5
#: The share of a log-loss that is no difference.
NOTHING = 1e-3

#: Takes seconds to learn; `make check` leaves it to `make test`.
SLOW = {"item2vec", "gru", "lstm", "cnn", "mlp", "masked_items", "graph_gcn", "graph_gat", "transformer"}
#: Those that see how a session went, not only its items.
READERS = {"markov", "bayes_net", "logistic", "lightgbm", "mlp", "cnn", "gru", "lstm"}
NAMES = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in BASELINES]


def cut(events: Sequence[ClickEvent], until_ms: int | None = None) -> SessionLog:
    """The events before a time, with what could be known then; without it all, with the log's end as everything's end."""
    names = EventNames()
    return session_log(fold_log(names.through(events, 2), SPEC, SessionPolicy(), until_ms), names, "shop", until_ms)


@lru_cache(maxsize=1)
def shop() -> tuple[list[ClickEvent], int]:
    """Simulated events with much to be found in them, and when the last third of the sessions begins."""
    stream = simulate(load_shop("rees46"), 900, 3, START_MS, hours=72)
    log = cut(list(stream.events()))
    return list(stream.events()), int(log.started_ms[600])


@lru_cache(maxsize=1)
def large_shop() -> tuple[list[ClickEvent], int]:
    """The same of another shop, with some three hundred buyers to learn from."""
    events = list(simulate(load_shop("electronics"), 4000, 3, START_MS, hours=168).events())
    return events, int(cut(events).started_ms[3200])


@lru_cache(maxsize=32)
def fitted(name: str) -> Baseline:
    """The baseline, having learned from all but the last third."""
    events, until_ms = shop()
    baseline = BASELINES[name]()
    baseline.fit(cut(events, until_ms), 0)
    return baseline


@lru_cache(maxsize=32)
def forecast(name: str) -> tuple[SessionLog, Forecast]:
    """What it says of the last third."""
    events, until_ms = shop()
    whole = cut(events)
    test = whole.select(whole.started_ms >= until_ms)
    return test, fitted(name).predict(test)


@pytest.mark.parametrize("name", NAMES)
def test_probabilities_are_probabilities(name: str) -> None:
    """Within [0, 1], distributions sum to 1, lists hold each item once and no item that training did not see."""
    events, until_ms = shop()
    log, said = forecast(name)
    check(said, log, cut(events, until_ms))


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides(name: str) -> None:
    """The same seed gives the same forecast, to the last bit."""
    log = cut(poor("few"))
    said, again = BASELINES[name](), BASELINES[name]()
    said.fit(log, 0)
    again.fit(log, 0)
    same(said.predict(log), again.predict(log), np.arange(len(log)), tolerance=0.0)


@pytest.mark.parametrize("name", NAMES)
def test_the_future_is_not_looked_at(name: str) -> None:
    """When the log is cut off after an event, everything that is said of it and of those before stays as it was."""
    events, until_ms = shop()
    _, said = forecast(name)
    whole = cut(events)
    whole = whole.select(whole.started_ms >= until_ms)
    end_ms = int(np.sort(whole.rows["event_time"])[2 * len(whole) // 3])
    names = EventNames()
    shorter = session_log(fold_log(names.through(events, 2), SPEC, SessionPolicy(), end_ms), names, "shop")
    shorter = shorter.select(shorter.started_ms >= until_ms)
    assert 0 < len(shorter) < len(whole)
    at = np.searchsorted(np.sort(whole.event), shorter.event)
    same(said, fitted(name).predict(shorter), np.argsort(whole.event)[at], TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_no_worse_than_the_prior(name: str) -> None:
    """Where there is something to be found, log-loss is that of the shares at most, but for chance, of the next type, too."""
    log, said = forecast(name)
    _, prior = forecast("prevalence")
    known = log.purchase != UNKNOWN
    assert not_above(
        log_losses(log.purchase[known].astype(np.int64), said.purchase[known]),
        log_losses(log.purchase[known].astype(np.int64), prior.purchase[known]),
        log.session[known],
    )
    if said.next_type is not None and prior.next_type is not None:
        at = np.flatnonzero(log.next_type != UNKNOWN), log.next_type[log.next_type != UNKNOWN]
        assert not_above(-np.log(said.next_type[at]), -np.log(prior.next_type[at]), log.session[at[0]])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(READERS))
def test_better_than_the_prior(name: str) -> None:
    """Those that see how a session went find more than the shares of the training log, where there are buyers enough."""
    events, until_ms = large_shop()
    whole = cut(events)
    test = whole.select(whole.started_ms >= until_ms)
    losses = {}
    for each in (name, "prevalence"):
        baseline = BASELINES[each]()
        baseline.fit(cut(events, until_ms), 0)
        known = test.purchase != UNKNOWN
        losses[each] = log_losses(test.purchase[known].astype(np.int64), baseline.predict(test).purchase[known]).mean()
    assert losses[name] < losses["prevalence"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["no purchase", "views alone", "few", "no item", "one session", "everybody buys"])
def test_a_poor_log_fits_too(name: str, kind: str) -> None:
    """One class, one type of event, 50 sessions or a single one, no items: an honest forecast, no crash."""
    log = cut(poor(kind))
    baseline = BASELINES[name]()
    baseline.fit(log, 0)
    check(baseline.predict(log), log, log)
    nothing = log.select(np.zeros(log.sessions, bool))
    assert len(baseline.predict(nothing).purchase) == 0


def poor(kind: str) -> list[ClickEvent]:
    events = list(simulate(load_shop("rees46"), 50, 4, START_MS, hours=72).events())
    match kind:
        case "no purchase":
            return [event for event in events if event.event_type != "purchase"]
        case "views alone":
            return [event for event in events if event.event_type == "view"]
        case "no item":
            return [ClickEvent(e.event_id, e.event_time, e.visitor_id, e.event_type, e.session_id) for e in events]
        case "one session":
            return [event for event in events if event.session_id == events[0].session_id]
        case "everybody buys":
            last = {event.session_id: event for event in events}
            bought = [
                ClickEvent(f"b{e.event_id}", e.event_time + 1000, e.visitor_id, "purchase", e.session_id) for e in last.values()
            ]
            return sorted(events + bought, key=lambda event: event.event_time)
    return events


def check(said: Forecast, log: SessionLog, learned: SessionLog) -> None:
    assert said.purchase.shape == (len(log),)
    assert ((said.purchase >= 0) & (said.purchase <= 1)).all()
    shapes = {"next_type": NEXT_TYPES, "next_category": learned.categories + 1}
    for name, classes in shapes.items():
        p = getattr(said, name)
        if p is not None:
            assert p.shape == (len(log), classes)
            assert (p >= 0).all()
            np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-4)
    if said.next_items is not None:
        assert said.next_items.shape == (len(log), LISTED)
        assert said.next_items.min(initial=-1) >= -1
        assert said.next_items.max(initial=-1) < learned.items
        for row in said.next_items:
            listed = row[row >= 0]
            assert len(set(listed.tolist())) == len(listed)


def same(said: Forecast, other: Forecast, at: np.ndarray, tolerance: float) -> None:
    """`other` says of its events what `said` says of the events `at`."""
    for name in ("purchase", "next_type", "next_category"):
        one, two = getattr(said, name), getattr(other, name)
        assert (one is None) == (two is None)
        if one is not None:
            np.testing.assert_allclose(two, one[at], rtol=0, atol=tolerance, err_msg=name)
    if said.next_items is not None:
        assert other.next_items is not None
        alike = (said.next_items[at] == other.next_items).mean()
        assert alike >= (1.0 if tolerance == 0 else 0.999), "only neighbours of equal scores may change places"


def not_above(losses: np.ndarray, prior: np.ndarray, session: np.ndarray) -> bool:
    """Whether the mean difference is at most three of its standard errors, by sessions, or next to nothing."""
    _, of = np.unique(session, return_inverse=True)
    by_session = np.bincount(of, losses - prior)
    return bool(by_session.sum() <= 3 * np.sqrt((by_session**2).sum()) + NOTHING * prior.sum())


def test_every_field_of_a_forecast_is_looked_at() -> None:
    """A new field has to be put under the laws."""
    assert Forecast._fields == ("purchase", "next_type", "next_category", "next_items")
