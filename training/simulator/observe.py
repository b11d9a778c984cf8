"""Real or simulated events as what the filter and the fit see of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from training.simulator.arrays import Bools, Ints
from training.simulator.tables import CART, NEW, NOT_DECIDED, OLDER, PURCHASE_CODE, REMOVE, SAME, SEARCH, SESSION_GAP_S, VIEW
from training.simulator.truth import Observed
from worker.contract.events import EVENT_TYPES, ClickEvent

Session = list[ClickEvent]


@dataclass(frozen=True)
class Observation:
    """`observed` and, for its events [N], the caller's place: number of the session in the list and step in it."""

    observed: Observed
    session: Ints
    step: Ints

    def purchase_later(self) -> Bools:
        """[N]: whether the session has a purchase strictly later."""
        last = np.full(len(self.observed.group), -1, dtype=np.int64)
        bought = self.observed.type == PURCHASE_CODE
        np.maximum.at(last, self.session[bought], self.step[bought])
        later: Bools = last[self.session] > self.step
        return later


def sessions_of(events: Iterable[ClickEvent], *, without: frozenset[str] = frozenset()) -> list[Session]:
    """Sessions by visitor and half-hour gap, each in order of time, in the shape that the model knows: purchases that follow one
    another are one order, and so one event; a session does not begin with one. Types in `without` are left out.

    Shops stamp orders late, some by hours: a purchase stays in the session that the shop's own `session_id` says.
    """
    by_visitor: dict[str, Session] = {}
    for event in events:
        if event.event_type not in without:
            by_visitor.setdefault(event.visitor_id, []).append(event)
    sessions = []
    for visits in by_visitor.values():
        visits.sort(key=lambda event: event.event_time)
        sessions += [shaped for session in _split_at_gaps(visits) if (shaped := _one_event_per_order(session))]
    sessions.sort(key=lambda session: session[0].event_time)
    return sessions


def observe(sessions: Sequence[Session], group_of: dict[str | None, int], category_of: dict[str | None, int]) -> Observation:
    """What the model sees of the sessions. Categories with the same number count as one; None has no number and decides nothing.

    Raises: KeyError for a category without a group.
    """
    lengths = np.array([len(session) for session in sessions], dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    counts = np.array([int((lengths > t).sum()) for t in range(int(lengths.max(initial=0)))], dtype=np.int64)
    rows = np.concatenate([_rows(session, category_of) for session in sessions])  # [N, 6], session after session
    first = np.cumsum(lengths) - lengths
    place = np.concatenate([first[order[:n]] + t for t, n in enumerate(counts.tolist())]).astype(np.int64)
    rows = rows[place]
    groups = np.array([group_of[session[0].category] for session in sessions], dtype=np.int64)
    observed = Observed(
        counts=counts,
        group=groups[order],
        type=rows[:, 0].astype(np.int64),
        gap_s=rows[:, 1],
        repeat=rows[:, 2].astype(np.int64),
        seen=rows[:, 3].astype(np.int64),
        stayed=rows[:, 4].astype(np.int64),
        carted=rows[:, 5] > 0,
    )
    step = np.repeat(np.arange(len(counts)), counts)
    return Observation(observed, np.concatenate([order[:n] for n in counts.tolist()]), step)


def _split_at_gaps(events: Session) -> Iterator[Session]:
    begin = 0
    for at in range(1, len(events)):
        before, event = events[at - 1], events[at]
        late_order = event.event_type == "purchase" and event.session_id is not None and event.session_id == before.session_id
        if event.event_time - before.event_time >= SESSION_GAP_S * 1000 and not late_order:
            yield events[begin:at]
            begin = at
    yield events[begin:]


def _one_event_per_order(session: Session) -> Session:
    kept: Session = []
    for event in session:
        if event.event_type != "purchase" or (kept and kept[-1].event_type != "purchase"):
            kept.append(event)
    return kept


def _rows(session: Session, category_of: dict[str | None, int]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """For each event: type, gap, repeat, seen, stayed, carted."""
    rows = np.empty((len(session), 6))
    items: set[str] = set()
    cart: set[str | None] = set()
    on_show: str | None = None
    category: int | None = None
    before = session[0].event_time
    for row, event in zip(rows, session, strict=True):
        type_ = EVENT_TYPES.index(event.event_type)
        item, here = event.item_id, category_of.get(event.category)
        repeat = NOT_DECIDED
        if type_ == VIEW and item is not None:
            repeat = SAME if item == on_show else OLDER if item in items else NEW
        roams = type_ == SEARCH or (type_ != PURCHASE_CODE and item is not None and item not in items)
        stayed = int(here == category) if roams and here is not None and category is not None else NOT_DECIDED
        row[:] = type_, (event.event_time - before) / 1000, repeat, min(len(items), 2), stayed, bool(cart)
        if item is not None:
            items.add(item)
            on_show = item
        if type_ == CART:
            cart.add(item)
        elif type_ == REMOVE:
            cart.discard(item)
        elif type_ == PURCHASE_CODE:
            cart.clear()
        category = here if here is not None else category
        before = event.event_time
    return rows
