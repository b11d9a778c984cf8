"""The truth: p is the exact posterior."""

import math
from itertools import product
from statistics import NormalDist

import numpy as np
import pytest

from training.simulate import Clickstream, Shop, load_shop, simulate
from training.simulator.fidelity import calibration, log_loss
from training.simulator.observe import Session, observe, sessions_of
from training.simulator.shop import Category, Checkout, Group, State
from training.simulator.tables import MAX_GAP_S, tables_of
from training.simulator.truth import purchase_probability
from worker.contract.events import ClickEvent

pytestmark = pytest.mark.slow

START_MS = 1_767_571_200_000

#: Two states, two groups, and every kind of event that has a rule of its own.
SMALL = Shop(
    name="small",
    source="made up",
    states=(
        State(
            "idle",
            {"view": 0.8, "search": 0.1, "cart": 0.05, "remove_from_cart": 0.05},
            5.5,
            1.4,
            (0.7, 0.2, 0.1),
            0.4,
            0.8,
            0.02,
            0.18,
        ),
        State(
            "keen",
            {"view": 0.5, "search": 0.1, "cart": 0.2, "remove_from_cart": 0.2},
            0.6,
            0.9,
            (0.3, 0.4, 0.3),
            0.9,
            0.7,
            0.15,
            0.15,
        ),
    ),
    transitions=((0.8, 0.2), (0.3, 0.7)),
    groups=(Group("a", (0.9, 0.1), 0.5), Group("b", (0.4, 0.6), -0.5)),
    categories=(
        Category("a.one", 0, 0.5, 30, 3, 3.0, 0.5),
        Category("a.two", 0, 0.2, 30, 3, 3.0, 0.5),
        Category("b.one", 1, 0.3, 30, 3, 3.0, 0.5),
    ),
    checkout=Checkout(4.0, 0.5, 0.4),
)


@pytest.fixture(scope="module")
def stream() -> Clickstream:
    return simulate(load_shop(), 100_000, 1, START_MS, sessions_per_hour=500)


@pytest.mark.slow
def test_p_is_calibrated(stream: Clickstream) -> None:
    """In each tenth of over 600 thousand events, purchases come as often as p says, within 3 standard errors."""
    assert len(stream) > 600_000
    for each in calibration(stream.truth, stream.labels(), stream.clicks.session):
        assert abs(each.z) <= 3, each


def test_nothing_nearby_is_better(stream: Clickstream) -> None:
    """Log-loss of p is below that of the mean rate and of p shifted, sharpened or flattened, and far below the first."""
    p, label = stream.truth, stream.labels()
    best = log_loss(p, label)
    assert best < log_loss(np.full(len(p), label.mean()), label) - 0.02
    logit = np.log(p / (1 - p))
    for changed in (
        logit + 0.15,
        logit - 0.15,
        1.1 * logit,
        0.9 * logit,
        logit + np.random.default_rng(0).normal(0, 0.3, len(p)),
    ):
        assert best < log_loss(1 / (1 + np.exp(-changed)), label)


def test_label_means_strictly_later_in_the_session() -> None:
    """An event has the label if and only if its own session has a purchase after it; a purchase alone gives itself none."""
    stream = simulate(SMALL, 400, 2, START_MS, hours=100)
    events = list(stream.events())
    for event, label in zip(events, stream.labels().tolist(), strict=True):
        later = [e for e in events if e.session_id == event.session_id and e.event_time > event.event_time]
        assert label == any(e.event_type == "purchase" for e in later)


@pytest.mark.slow
def test_filter_agrees_with_all_paths_of_states() -> None:
    """On whole sessions p equals the sum over every path of hidden states, computed from the model's definition alone."""
    sessions = [session for session in sessions_of(simulate(SMALL, 400, 5, START_MS, hours=100).events()) if len(session) <= 7]
    assert any(event.event_type == "purchase" for session in sessions for event in session[:-1])
    assert any(event.event_type == "remove_from_cart" for session in sessions for event in session)
    found = _filtered(SMALL, sessions)
    for session in sessions:
        for at, event in enumerate(session):
            assert found[event.event_id] == pytest.approx(_by_all_paths(SMALL, session[: at + 1]), abs=1e-10)


def test_filter_uses_only_what_the_events_show() -> None:
    """The p that comes with the events is the p computed from the events alone, read back as a stranger's log."""
    for shop in (load_shop(), SMALL):
        stream = simulate(shop, 2_000, 3, START_MS, hours=200)
        found = _filtered(shop, sessions_of(stream.events()))
        for event_id, p in stream.truth_by_id().items():
            assert found[event_id] == pytest.approx(p, abs=1e-9)


def test_the_future_does_not_leak() -> None:
    """Sessions cut short have the same p at the events that remain."""
    sessions = sessions_of(simulate(SMALL, 500, 4, START_MS, hours=100).events())
    whole = _filtered(SMALL, sessions)
    cut = _filtered(SMALL, [session[: (len(session) + 1) // 2] for session in sessions])
    assert cut == {event_id: pytest.approx(whole[event_id], abs=1e-12) for event_id in cut}


def _filtered(shop: Shop, sessions: list[Session]) -> dict[str, float]:
    category_of: dict[str | None, int] = {category.name: i for i, category in enumerate(shop.categories)}
    group_of: dict[str | None, int] = {category.name: category.group for category in shop.categories}
    observation = observe(sessions, group_of, category_of)
    p = purchase_probability(tables_of(shop), observation.observed)
    places = zip(observation.session.tolist(), observation.step.tolist(), p.tolist(), strict=True)
    return {sessions[session][step].event_id: value for session, step, value in places}


def _by_all_paths(shop: Shop, events: Session) -> float:
    """P(purchase later | events), summing over all paths of hidden states since the last purchase."""
    group = shop.groups[next(c.group for c in shop.categories if c.name == events[0].category)]
    after = _buys_within(shop, group, 200)
    if events[-1].event_type == "purchase":
        return shop.checkout.proceed * sum(s * a for s, a in zip(group.start, after, strict=True))
    begin = max((i + 1 for i, event in enumerate(events) if event.event_type == "purchase"), default=0)
    total = later = 0.0
    for path in product(range(len(shop.states)), repeat=len(events) - begin):
        weight = group.start[path[0]]
        for at, state in enumerate(path):
            if at:
                weight *= _outcome(shop, group, path[at - 1])[0] * shop.transitions[path[at - 1]][state]
            weight *= _likelihood(shop.states[state], events[: begin + at + 1])
        total += weight
        later += weight * after[path[-1]]
    return later / total


def _outcome(shop: Shop, group: Group, state: int) -> tuple[float, float]:
    """Probabilities of going on and of a purchase."""
    s = shop.states[state]
    odds = s.purchase * math.exp(group.purchase_log_odds)
    return s.proceed / (s.proceed + s.end + odds), odds / (s.proceed + s.end + odds)


def _buys_within(shop: Shop, group: Group, steps: int) -> list[float]:
    buys = [0.0] * len(shop.states)
    for _ in range(steps):
        buys = [
            _outcome(shop, group, i)[1] + _outcome(shop, group, i)[0] * sum(a * b for a, b in zip(row, buys, strict=True))
            for i, row in enumerate(shop.transitions)
        ]
    return buys


def _likelihood(state: State, events: list[ClickEvent]) -> float:
    """Of the last event, given those before it, in one hidden state."""
    *before, event = events
    since_purchase = max((i + 1 for i, e in enumerate(before) if e.event_type == "purchase"), default=0)
    cart: set[str | None] = set()
    for e in before[since_purchase:]:
        if e.event_type == "cart":
            cart.add(e.item_id)
        elif e.event_type == "remove_from_cart":
            cart.discard(e.item_id)
    types = state.types if cart else {name: p for name, p in state.types.items() if name != "remove_from_cart"}
    result = types[event.event_type] / sum(types.values())
    items = {e.item_id for e in before} - {None}
    on_show = next((e.item_id for e in reversed(before) if e.item_id is not None), None)
    new = event.item_id not in items
    if event.event_type == "view" and items:
        chances = dict(zip(("new", "older", "same"), state.repeat, strict=True))
        if len(items) == 1:
            del chances["older"]
        what = "new" if new else "same" if event.item_id == on_show else "older"
        result *= chances[what] / sum(chances.values())
    if before and (event.event_type == "search" or new):
        result *= state.stay if event.category == before[-1].category else 1 - state.stay
    if before:
        normal, top = NormalDist(state.gap_mu, state.gap_sd), math.log1p(MAX_GAP_S)
        x = math.log1p((event.event_time - before[-1].event_time) / 1000)
        result *= (normal.pdf(x) + normal.pdf(-x)) / (normal.cdf(top) - normal.cdf(-top))
    return result
