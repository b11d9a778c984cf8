"""What the outcome join remembers of one visitor: when which event happened, and when it became known."""

from array import array
from bisect import bisect_left, bisect_right
from typing import NamedTuple

from worker.contract.events import HAZARD_HEADS, ClickEvent


class Timeline:
    """Events in order of (event time, offset), as three columns. Events of the same time are in order of arrival.

    `known_ms` is the partition's newest event time when the event arrived: what had matured by then does not know of it.
    """

    __slots__ = ("known_ms", "offsets", "times")

    def __init__(self) -> None:
        self.times = array("q")
        self.offsets = array("q")
        self.known_ms = array("q")

    def __len__(self) -> int:
        return len(self.times)

    def insert(self, time_ms: int, offset: int, known_ms: int) -> int:
        """Put an event in its place and return that. Events must be given in order of their offsets."""
        place = len(self.times)
        if place and self.times[-1] > time_ms:
            place = bisect_right(self.times, time_ms)
        self.times.insert(place, time_ms)
        self.offsets.insert(place, offset)
        self.known_ms.insert(place, known_ms)
        return place

    def after(self, time_ms: int, offset: int) -> int:
        """The place of the first event that is later than (time, offset)."""
        first = bisect_left(self.times, time_ms)
        if first == len(self.times) or self.times[first] != time_ms:
            return first
        return bisect_right(self.offsets, offset, first, bisect_right(self.times, time_ms, first))

    def first_within(self, time_ms: int, offset: int, until_ms: int, due_ms: int) -> int | None:
        """The time of the first event later than (time, offset), up to and with `until_ms`, that was known before `due_ms`."""
        for place in range(self.after(time_ms, offset), len(self.times)):
            if self.times[place] > until_ms:
                return None
            if self.known_ms[place] < due_ms:
                return self.times[place]
        return None

    def forget(self, before_ms: int) -> int:
        """Drop what is older; return how many events that were."""
        count = bisect_left(self.times, before_ms)
        if count:
            del self.times[:count], self.offsets[:count], self.known_ms[:count]
        return count


class SessionRest(NamedTuple):
    """What followed an event in its session. `due_ms` is when that is settled; the times are None when there was none."""

    due_ms: int
    next_ms: int | None
    found: tuple[int | None, ...]  # first event of each of HAZARD_HEADS


class VisitorLog:
    """The log of one visitor, without repetitions of an event id.

    A session goes on as long as the next event is less than `gap_ms` after the one before it. An event that arrived only
    after the session, as far as it was known, had been over for `grace_ms` does not belong to it any more.
    """

    __slots__ = ("_heads", "_ids", "_starts", "_stragglers", "_unique", "all", "of_head")

    def __init__(self) -> None:
        self.all = Timeline()
        self.of_head: dict[int, Timeline] = {}  # events of HAZARD_HEADS[n]; most visitors have none
        self._heads = array("b")  # beside `all`: the n of HAZARD_HEADS[n], or -1
        self._ids = array("q")  # beside `all`
        self._unique: set[int] = set()
        # Times at which a session starts, but for the first. Looked up instead of walking through a long session.
        self._starts = array("q")
        self._stragglers = False

    def add(self, event: ClickEvent, offset: int, known_ms: int, gap_ms: int, grace_ms: int) -> None:
        """Take an event, unless its id is known."""
        # Python's own hash: only compared within this process.
        identity = hash(event.event_id)
        if identity in self._unique:
            return
        self._unique.add(identity)
        place = self.all.insert(event.event_time, offset, known_ms)
        self._ids.insert(place, identity)
        if known_ms >= event.event_time + grace_ms:
            self._stragglers = True
        self._note_start(place, gap_ms)
        head = HAZARD_HEADS.index(event.event_type) if event.event_type in HAZARD_HEADS else -1
        self._heads.insert(place, head)
        if head >= 0:
            self.of_head.setdefault(head, Timeline()).insert(event.event_time, offset, known_ms)

    def first_of(self, head: int, time_ms: int, offset: int, until_ms: int, due_ms: int) -> int | None:
        """The time of the first event of HAZARD_HEADS[head] after (time, offset): see `Timeline.first_within`."""
        timeline = self.of_head.get(head)
        return None if timeline is None else timeline.first_within(time_ms, offset, until_ms, due_ms)

    def session_rest(self, time_ms: int, offset: int, gap_ms: int, grace_ms: int, cap_ms: int) -> SessionRest:
        """What followed (time, offset) in its session, at most `cap_ms` later, as far as it is known now."""
        place = self.all.after(time_ms, offset)
        alone = place == 0 or self.all.offsets[place - 1] != offset
        if self._stragglers or alone:
            return self._walk(place, time_ms, gap_ms, grace_ms, cap_ms)
        times = self.all.times
        start = bisect_right(self._starts, time_ms)
        last_ms = times[bisect_left(times, self._starts[start]) - 1] if start < len(self._starts) else times[-1]
        until_ms = min(last_ms, time_ms + cap_ms)
        follows = place < len(times) and times[place] <= until_ms
        due_ms = min(last_ms + gap_ms, time_ms + cap_ms) + grace_ms
        found = tuple(self.first_of(head, time_ms, offset, until_ms, due_ms) for head in range(len(HAZARD_HEADS)))
        return SessionRest(due_ms, times[place] if follows else None, found)

    def forget(self, before_ms: int) -> bool:
        """Drop what is older. Returns whether anything is left."""
        count = self.all.forget(before_ms)
        if count:
            self._unique.difference_update(self._ids[:count])
            del self._ids[:count], self._heads[:count], self._starts[: bisect_left(self._starts, before_ms)]
            for timeline in self.of_head.values():
                timeline.forget(before_ms)
        return bool(self.all)

    def _note_start(self, place: int, gap_ms: int) -> None:
        """Mend the session starts around a new event."""
        times = self.all.times
        time_ms = times[place]
        starts_here = place > 0 and time_ms - times[place - 1] >= gap_ms
        if place == len(times) - 1:
            if starts_here:
                self._starts.append(time_ms)
            return
        next_ms = times[place + 1]
        at = bisect_left(self._starts, next_ms)
        was_start = at < len(self._starts) and self._starts[at] == next_ms
        is_start = next_ms - time_ms >= gap_ms
        if was_start and not is_start:
            del self._starts[at]
        elif is_start and not was_start:
            self._starts.insert(at, next_ms)
        if starts_here:
            self._starts.insert(bisect_left(self._starts, time_ms), time_ms)

    def _walk(self, place: int, time_ms: int, gap_ms: int, grace_ms: int, cap_ms: int) -> SessionRest:
        """The same event by event: right for events that arrived late, too."""
        times, known_ms = self.all.times, self.all.known_ms
        end_ms = time_ms + cap_ms
        last_ms, next_ms = time_ms, None
        found: list[int | None] = [None] * len(HAZARD_HEADS)
        while place < len(times) and times[place] - last_ms < gap_ms and times[place] <= end_ms:
            if known_ms[place] < min(last_ms + gap_ms, end_ms) + grace_ms:
                last_ms = times[place]
                next_ms = last_ms if next_ms is None else next_ms
                head = self._heads[place]
                if head >= 0 and found[head] is None:
                    found[head] = last_ms
            place += 1
        return SessionRest(min(last_ms + gap_ms, end_ms) + grace_ms, next_ms, tuple(found))
