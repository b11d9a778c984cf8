"""A log folded once, kept as the rows of every session: what examples, labels and evaluation are cut from."""

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.read import LoggedEvent
from worker.contract.events import ClickEvent
from worker.contract.features import ROW, FeatureSpec
from worker.contract.fold import Fold
from worker.contract.session import Outcome, Session, SessionPolicy

Ints = npt.NDArray[np.int64]
#: An array of dtype `features.ROW`.
Rows = npt.NDArray[np.void]


@dataclass(frozen=True)
class History:
    """Sessions of all visitors, a visitor's one after the other in time.

    rows       ROW [N]      as the fold left them: in a session by time, then by arrival
    start      int64 [S+1]  session s is rows[start[s]:start[s + 1]]
    visitor    int64 [S]    number of the session's visitor
    newest_ms  int64 [S]    newest event time of the session's partition: labels up to here can be known
    shop       int64 [N]    number of the row's session by the shop's own session id, -1 where the shop gave none
    items, categories  events by item id, by category
    item, category     int64 [N]  number of the row's item in `items`, of its category in `categories`, -1 where it has none
    currencies events with a price by currency
    outcomes   events by what they did to their session
    """

    rows: Rows
    start: Ints
    visitor: Ints
    newest_ms: Ints
    shop: Ints
    items: Counter[str]
    categories: Counter[str]
    item: Ints
    category: Ints
    currencies: Counter[str]
    outcomes: Counter[Outcome]
    spec: FeatureSpec
    policy: SessionPolicy

    @property
    def sessions(self) -> int:
        return len(self.visitor)

    @property
    def session_of_row(self) -> Ints:
        """int64 [N]: each row's session."""
        return np.repeat(np.arange(self.sessions), np.diff(self.start))


def fold_log(events: Iterable[LoggedEvent], spec: FeatureSpec, policy: SessionPolicy, until_ms: int | None = None) -> History:
    """Fold the log as the worker does. Events at or after `until_ms` are left out as if they had never been."""
    folds: defaultdict[int, Fold] = defaultdict(lambda: Fold(spec, policy))
    newest: defaultdict[int, int] = defaultdict(int)
    recorder = _Recorder()
    currencies: Counter[str] = Counter()
    outcomes: Counter[Outcome] = Counter()
    for event, partition, offset in events:
        if until_ms is not None and event.event_time >= until_ms:
            continue
        fold = folds[partition]
        before = fold.sessions.get(event.visitor_id)
        session, outcome, _ = fold.apply(event, offset)
        newest[partition] = max(newest[partition], event.event_time)
        outcomes[outcome] += 1
        if not outcome.changed:
            continue
        recorder.note_shop(event, partition, offset)
        recorder.items.note(event.item_id, partition, offset)
        recorder.categories.note(event.category, partition, offset)
        if event.price is not None and event.currency:
            currencies[event.currency] += 1
        if before is not None:
            recorder.note(before, session, outcome)
    return _history(folds, newest, recorder, currencies, outcomes, spec, policy)


class _Named:
    """What each event names, by number: names are counted in order of their first event."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        self._number: dict[str, int] = {}
        self._offsets: defaultdict[int, array[int]] = defaultdict(lambda: array("q"))
        self._numbers: defaultdict[int, array[int]] = defaultdict(lambda: array("q"))

    def note(self, name: str | None, partition: int, offset: int) -> None:
        """Remember what the event names, if anything."""
        if not name:
            return
        self.events[name] += 1
        self._offsets[partition].append(offset)
        self._numbers[partition].append(self._number.setdefault(name, len(self._number)))

    def of(self, partition: int, offsets: Ints) -> Ints:
        """The number of what each row of the partition names, -1 where it names nothing."""
        return _looked_up(self._offsets[partition], self._numbers[partition], offsets)


class _Recorder:
    """Keeps the rows that the fold lets go: those of ended sessions and those that fell out of a window."""

    def __init__(self) -> None:
        self.ended: defaultdict[str, list[bytes]] = defaultdict(list)
        self.fallen: dict[str, bytes] = {}
        self.items, self.categories = _Named(), _Named()
        self._shop_offsets: defaultdict[int, array[int]] = defaultdict(lambda: array("q"))
        self._shop_numbers: defaultdict[int, array[int]] = defaultdict(lambda: array("q"))
        self._shop_session: dict[str, tuple[str, int]] = {}
        self._shop_sessions = 0

    def note_shop(self, event: ClickEvent, partition: int, offset: int) -> None:
        """Remember to which of the shop's own sessions the event belongs. One that comes back after another is a new one."""
        if not event.session_id:
            return
        name, number = self._shop_session.get(event.visitor_id, ("", -1))
        if name != event.session_id:
            number, self._shop_sessions = self._shop_sessions, self._shop_sessions + 1
            self._shop_session[event.visitor_id] = event.session_id, number
        self._shop_offsets[partition].append(offset)
        self._shop_numbers[partition].append(number)

    def shop_of(self, partition: int, offsets: Ints) -> Ints:
        """The number of the shop's own session of each row of the partition, -1 where there is none."""
        return _looked_up(self._shop_offsets[partition], self._shop_numbers[partition], offsets)

    def note(self, before: Session, after: Session, outcome: Outcome) -> None:
        visitor = before.visitor_id
        if outcome is Outcome.NEW_SESSION:
            self.ended[visitor].append(self.fallen.pop(visitor, b"") + before.rows)
        elif len(after.rows) <= len(before.rows):
            # A late event that fell out with the older half at once is lost to training: it never was in a window.
            gone, kept = np.frombuffer(before.rows, ROW), np.frombuffer(after.rows, ROW)["offset"]
            self.fallen[visitor] = self.fallen.get(visitor, b"") + gone[~np.isin(gone["offset"], kept)].tobytes()


def _looked_up(offsets: "array[int]", numbers: "array[int]", wanted: Ints) -> Ints:
    """The number that was noted at each wanted offset, -1 where none was."""
    known = np.array(offsets, np.int64)
    if not len(known):
        return np.full(len(wanted), -1)
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[at] == wanted, np.array(numbers, np.int64)[at], -1)


def _history(
    folds: dict[int, Fold],
    newest: dict[int, int],
    recorder: _Recorder,
    currencies: Counter[str],
    outcomes: Counter[Outcome],
    spec: FeatureSpec,
    policy: SessionPolicy,
) -> History:
    parts: list[bytes] = []
    visitor: list[int] = []
    newest_ms: list[int] = []
    shop: list[Ints] = [np.zeros(0, np.int64)]
    item: list[Ints] = [np.zeros(0, np.int64)]
    category: list[Ints] = [np.zeros(0, np.int64)]
    number = 0
    for partition in sorted(folds):
        first = len(parts)
        for visitor_id, session in folds[partition].sessions.items():
            of_visitor = [*recorder.ended.get(visitor_id, ()), recorder.fallen.get(visitor_id, b"") + session.rows]
            parts += of_visitor
            visitor += [number] * len(of_visitor)
            newest_ms += [newest[partition]] * len(of_visitor)
            number += 1
        offsets = np.frombuffer(b"".join(parts[first:]), ROW)["offset"]
        shop.append(recorder.shop_of(partition, offsets))
        item.append(recorder.items.of(partition, offsets))
        category.append(recorder.categories.of(partition, offsets))
    lengths = [len(part) // ROW.itemsize for part in parts]
    return History(
        rows=np.frombuffer(b"".join(parts), ROW),
        start=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
        visitor=np.array(visitor, np.int64),
        newest_ms=np.array(newest_ms, np.int64),
        shop=np.concatenate(shop),
        items=recorder.items.events,
        categories=recorder.categories.events,
        item=np.concatenate(item),
        category=np.concatenate(category),
        currencies=currencies,
        outcomes=outcomes,
        spec=spec,
        policy=policy,
    )
