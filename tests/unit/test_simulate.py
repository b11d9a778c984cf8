"""The simulator's stream: what comes out, in which order, and whose it is."""

from itertools import islice, pairwise

import numpy as np
import pytest

from training.simulate import Clickstream, Drift, load_shop, simulate, stream_events
from training.simulator.tables import SESSION_GAP_S
from worker.contract.codec import decode, encode
from worker.contract.events import ClickEvent

pytestmark = pytest.mark.slow

START_MS = 1_767_571_200_000
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def stream() -> Clickstream:
    return simulate(load_shop(), 6_000, 7, START_MS, hours=14 * 24)


def test_same_seed_same_stream() -> None:
    """Two runs with one seed give the same events and the same truth, another seed gives others."""
    first, again, other = (simulate(load_shop(), 300, seed, START_MS, sessions_per_hour=100) for seed in (1, 1, 2))
    assert list(first.events()) == list(again.events())
    assert first.truth.tolist() == again.truth.tolist()
    assert [e.item_id for e in first.events()] != [e.item_id for e in other.events()]
    assert not {e.event_id for e in first.events()} & {e.event_id for e in other.events()}


def test_a_stream_can_be_moved_in_time(stream: Clickstream) -> None:
    """A moved stream ends when told, with the same gaps, ids and truth."""
    moved = stream.ending_at(START_MS)
    assert moved.clicks.time_ms[-1] == START_MS
    assert np.array_equal(np.diff(moved.clicks.time_ms), np.diff(stream.clicks.time_ms))
    assert moved.truth_by_id() == stream.truth_by_id()


def test_events_are_in_order_of_time_and_interleaved(stream: Clickstream) -> None:
    """Event times never fall, and sessions overlap."""
    times = [event.event_time for event in stream.events()]
    assert times == sorted(times)
    assert times[0] >= START_MS
    sessions = [event.session_id for event in stream.events()]
    switches = sum(a != b for a, b in pairwise(sessions))
    assert switches > len(set(sessions))


def test_the_contract_takes_every_event(stream: Clickstream) -> None:
    """Each event survives encoding and the worker's decoding, unchanged, and ids are unique."""
    events = list(stream.events())
    for event in events:
        assert decode(encode(event), event.visitor_id.encode(), event.event_time, 0) == event
    assert len({event.event_id for event in events}) == len(events)


def test_whole_sessions_in_the_number_asked_for(stream: Clickstream) -> None:
    """There are as many sessions as asked for, each with its steps from 0 on without a hole, in order of time."""
    by_session: dict[str | None, list[ClickEvent]] = {}
    for event in stream.events():
        by_session.setdefault(event.session_id, []).append(event)
    assert len(by_session) == 6_000
    for events in by_session.values():
        assert [int(event.event_id.rsplit("-")[-1]) for event in events] == list(range(len(events)))
        assert all(a.event_time < b.event_time for a, b in pairwise(events))
        assert events[0].event_type != "purchase"


def test_sessions_by_half_hour_gap_are_the_shops_sessions(stream: Clickstream) -> None:
    """Within a session no gap reaches the session gap; between two sessions of a visitor every gap exceeds it."""
    last: dict[str, ClickEvent] = {}
    returns = 0
    for event in stream.events():
        before = last.get(event.visitor_id)
        if before is not None:
            same = before.session_id == event.session_id
            gap_s = (event.event_time - before.event_time) / 1000
            assert gap_s < SESSION_GAP_S if same else gap_s > SESSION_GAP_S
            returns += not same
        last[event.visitor_id] = event
    assert returns > 1_000


def test_later_horizons_see_more_purchases(stream: Clickstream) -> None:
    """Visitors come back and buy: more buy within 24 hours than in the session, and more still within 7 days."""
    by_visitor: dict[str, list[ClickEvent]] = {}
    for event in stream.events():
        by_visitor.setdefault(event.visitor_id, []).append(event)
    first_week = START_MS + 7 * 24 * HOUR_MS
    session = day = week = 0
    for events in by_visitor.values():
        now = events[0]
        if now.event_time >= first_week:
            continue
        buys = [event for event in events[1:] if event.event_type == "purchase"]
        session += any(event.session_id == now.session_id for event in buys)
        day += any(event.event_time - now.event_time <= 24 * HOUR_MS for event in buys)
        week += any(event.event_time - now.event_time <= 7 * 24 * HOUR_MS for event in buys)
    assert session * 1.1 < day < week / 1.05


def test_the_default_shop_is_rich(stream: Clickstream) -> None:
    """6 to 10 sessions in a hundred buy, a session has 5 to 8 events, and all kinds of events, prices and brands occur."""
    clicks = stream.clicks
    events = list(stream.events())
    assert 5 < len(stream) / 6_000 < 8
    assert 0.06 < len(np.unique(clicks.session[clicks.type == 5])) / 6_000 < 0.10
    assert {event.event_type for event in events} == {"view", "search", "favourite", "cart", "remove_from_cart", "purchase"}
    assert 2_000 <= stream.catalogue.size <= 5_000
    for event in events:
        if event.event_type == "search":
            assert event.item_id is None
            assert event.query
        else:
            assert event.item_id
            assert event.brand
            assert event.price
            assert event.currency


def test_carts_and_purchases_make_sense(stream: Clickstream) -> None:
    """Nothing leaves a cart that is not in it, and a purchase is of something in the cart, or seen where the cart is empty."""
    carts: dict[str | None, set[str | None]] = {}
    seen: dict[str | None, set[str | None]] = {}
    for event in stream.events():
        cart = carts.setdefault(event.session_id, set())
        known = seen.setdefault(event.session_id, set())
        match event.event_type:
            case "cart":
                cart.add(event.item_id)
            case "remove_from_cart":
                assert event.item_id in cart
                cart.remove(event.item_id)
            case "purchase":
                assert event.item_id in cart or (not cart and (event.item_id in known or not known))
                cart.clear()
        if event.item_id is not None:
            known.add(event.item_id)


def test_an_item_is_always_the_same_item(stream: Clickstream) -> None:
    """An item id has one category, brand and price."""
    facts: dict[str, tuple[object, ...]] = {}
    for event in stream.events():
        if event.item_id is not None:
            assert facts.setdefault(event.item_id, (event.category, event.brand, event.price)) == (
                event.category,
                event.brand,
                event.price,
            )


def test_traffic_follows_the_hours_at_the_rate_asked_for() -> None:
    """The mean rate is the one asked for, from the first day on, and busy hours have several times the sessions of quiet ones."""
    stream = simulate(load_shop(), 20_000, 3, START_MS, sessions_per_hour=200)
    starts = stream.clicks.time_ms[stream.clicks.step == 0]
    days = np.bincount((starts - START_MS) // (24 * HOUR_MS))[:4]
    assert np.all(np.abs(days / (24 * 200) - 1) < 0.08)
    hours = np.bincount(starts // HOUR_MS % 24, minlength=24)
    assert hours[20] > 3 * hours[3]


def test_stream_goes_on_in_order_of_time() -> None:
    """The endless stream is in order across its blocks, has unique ids and true probabilities, and is the same each time."""
    first, again = (list(islice(stream_events(load_shop(), 5, START_MS, 400, block_sessions=64), 5_000)) for _ in range(2))
    assert first == again
    times = [event.event_time for event, _ in first]
    assert times == sorted(times)
    assert len({event.event_id for event, _ in first}) == len(first)
    assert all(0 <= p <= 1 for _, p in first)
    steps: dict[str | None, int] = {}
    for event, _ in first:
        step = int(event.event_id.rsplit("-")[-1])
        assert step == steps.get(event.session_id, -1) + 1
        steps[event.session_id] = step


def test_stream_before_the_drift_is_the_stream_without() -> None:
    """A drift changes nothing in the blocks before it: both streams begin alike and differ later."""
    drift = Drift("new_items", START_MS + 12 * HOUR_MS)
    plain = list(islice(stream_events(load_shop(), 5, START_MS, 400, block_sessions=64), 30_000))
    drifted = list(islice(stream_events(load_shop(), 5, START_MS, 400, drift, block_sessions=64), 30_000))
    assert plain[:10_000] == drifted[:10_000]
    assert plain != drifted


@pytest.mark.parametrize(("sessions", "traffic"), [(0, {"hours": 1}), (5, {}), (5, {"hours": 1, "sessions_per_hour": 5})])
def test_arguments_that_make_no_sense_are_refused(sessions: int, traffic: dict[str, float]) -> None:
    """No sessions, or traffic given twice or not at all, is an error."""
    with pytest.raises(ValueError, match="sessions"):
        simulate(load_shop(), sessions, 1, START_MS, **traffic)  # type: ignore[arg-type]
