"""Sessions with their futures: labels, cuts, and what could be known when."""

import numpy as np
import pytest

from tests.unit.training.shop import MINUTE, T0, random_log
from training.event_names import EventNames
from training.history import fold_log
from training.labels import UNKNOWN
from training.session_log import END, SessionLog, session_log
from worker.contract.events import EVENT_TYPES, ClickEvent
from worker.contract.features import FeatureSpec
from worker.contract.session import SessionPolicy

SPEC = FeatureSpec(window=16, item_buckets=64, category_buckets=16, brand_buckets=16)
POLICY = SessionPolicy()
VIEW, CART, PURCHASE = (EVENT_TYPES.index(name) for name in ("view", "cart", "purchase"))


def click(number: int, minute: float, kind: str, session: str | None, item: str | None = "i", visitor: str = "v") -> ClickEvent:
    time_ms = T0 + round(minute * MINUTE)
    return ClickEvent(f"e{number}", time_ms, visitor, kind, session_id=session, item_id=item)  # type: ignore[arg-type]


def cut(
    events: list[ClickEvent], by: str = "shop", until_ms: int | None = None, known_ms: int | None = None, partitions: int = 3
) -> SessionLog:
    names = EventNames()
    history = fold_log(names.through(events, partitions), SPEC, POLICY, until_ms)
    return session_log(history, names, by, known_ms)  # type: ignore[arg-type]


def test_labels_of_a_session_with_a_purchase() -> None:
    """Events ahead of the first purchase are positive; the purchase and what comes with or after it is not asked about."""
    log = cut([
        click(0, 0, "view", "a", "x"), click(1, 1, "cart", "a", "x"), click(2, 2, "purchase", "a", "x"),
        click(3, 2, "view", "a", "y"), click(4, 3, "view", "a", None), click(5, 0.5, "view", "b", "y", "w"),
    ])  # fmt: skip
    assert log.event.tolist() == [0, 1, 2, 3, 4, 5]
    assert log.purchase.tolist() == [1, 1, UNKNOWN, UNKNOWN, UNKNOWN, 0]
    assert log.next_type.tolist() == [CART, PURCHASE, VIEW, VIEW, END, END]
    assert log.next_item.tolist() == [0, 0, 1, UNKNOWN, UNKNOWN, UNKNOWN]
    assert log.position.tolist() == [1, 2, 3, 4, 5, 1]


def test_the_shops_sessions_and_the_workers() -> None:
    """By the shop's name a pause is none; by gap a name is none; events without a name are cut by gap."""
    events = [click(0, 0, "view", "a"), click(1, 50, "view", "a"), click(2, 51, "view", "b"), click(3, 52, "view", None)]
    assert np.diff(cut(events).start).tolist() == [2, 1, 1]
    assert np.diff(cut(events, "gap").start).tolist() == [1, 3]


def test_sessions_are_in_order_of_their_start() -> None:
    """Whatever visitor and partition they are of."""
    log = cut(random_log(3))
    assert (np.diff(log.started_ms) >= 0).all()
    assert sorted(log.event.tolist()) == list(range(len(log)))


def test_what_could_not_be_known_is_not() -> None:
    """A session that may go on has no label yet, not even an early yes, but what has followed is known."""
    events = [click(0, 0, "view", "a"), click(1, 1, "view", "a"), click(2, 2, "purchase", "a")]
    soon, late = (cut(events, known_ms=T0 + minutes * MINUTE) for minutes in (10, 200))
    assert soon.purchase.tolist() == [UNKNOWN] * 3
    assert soon.next_type.tolist() == [VIEW, PURCHASE, UNKNOWN]
    assert late.purchase.tolist() == [1, 1, UNKNOWN]
    assert late.next_type.tolist() == [VIEW, PURCHASE, END]


@pytest.mark.parametrize("seed", range(3))
def test_a_shorter_log_is_numbered_alike(seed: int) -> None:
    """Cut off at any time, events keep their rows and their items' numbers, and no item of later events is counted."""
    events = random_log(seed)
    until_ms = events[len(events) // 2].event_time
    whole, shorter = cut(events), cut(events, until_ms=until_ms)
    at = np.argsort(whole.event)[shorter.event]
    assert whole.rows[at].tobytes() == shorter.rows.tobytes()
    assert (whole.item[at] == shorter.item).all()
    assert shorter.items == len({event.item_id for event in events if event.event_time < until_ms and event.item_id})


def test_selected_sessions_keep_what_is_theirs() -> None:
    """Selecting is the same as looking at those sessions' events alone."""
    log = cut(random_log(1))
    chosen = np.arange(log.sessions) % 3 == 1
    some = log.select(chosen)
    inside = chosen[log.session]
    assert some.sessions == chosen.sum()
    assert (some.event == log.event[inside]).all()
    assert (some.position == log.position[inside]).all()
    assert (some.next_item == log.next_item[inside]).all()
    earlier, later = log.split(0.7)
    assert earlier.sessions == round(0.7 * log.sessions)
    assert len(earlier) + len(later) == len(log)
    assert earlier.started_ms.max() <= later.started_ms.min()
