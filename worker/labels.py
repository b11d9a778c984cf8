"""The outcome join: what really happened after each score, once it can be known. Pure: one partition's clicks and scores in,
outcomes out.

Definitions, all in event time of the shop:
 - An event is *later* than a score when (event time, offset) is greater than that of the score's event.
 - `purchase` and `cart`: such an event of the visitor follows, at most the horizon later. A longer horizon contains the shorter.
 - `session`: the visitor's session, which ends when no event follows within the gap, but at most 24 h.
 - `churn`: no event follows in the session.
 - A horizon is *due* at its end plus the grace period. It has *matured* when the partition's newest event time reaches that.
   A session's end is its last event plus the gap. A longer horizon is never due before a shorter one.
 - What arrives after a horizon has matured does not change it. So an outcome depends on the log alone, not on when the
   join reads it or when the score arrives.
 - A horizon that had matured before the score's own event arrived is *censored*: its label cannot be known in fairness.
   So is one whose clicks were already deleted from the topic.
 - An event id counts once for a visitor.
 - Outcomes are about an event's first score, which is what could be acted on. One made anew after a late event has none.

What is kept: events of the last 7 days plus grace of event time, and whatever scores to come may still need. Scores may come
out of order (after a crash, or from a worker that was paused) by `COPY_REACH` offsets; what comes later than that is a copy.
"""

import heapq
from array import array
from collections import deque
from typing import Literal, cast

import msgspec

from worker.contract.events import HAZARD_HEADS, HORIZONS, ClickEvent, OutcomeEvent, ScoreEvent, revision_of
from worker.contract.session import SessionPolicy
from worker.visitor_log import SessionRest, VisitorLog

#: Length of each horizon; a session ends by its gap, and has this as its cap.
HORIZON_MS: dict[str, int] = {"5m": 300_000, "30m": 1_800_000, "session": 86_400_000, "24h": 86_400_000, "7d": 604_800_000}
#: Outcomes of one score.
OUTCOMES_PER_SCORE = len(HAZARD_HEADS) * len(HORIZONS) + 1
#: The newest progress of a join, as JSON, on the last record of every portion of outcomes that it writes.
PROGRESS_HEADER = "inkling-progress"
#: By how many offsets a score may come after a later one.
COPY_REACH = 100_000

_Head = Literal["purchase", "cart", "churn"]
_Horizon = Literal["5m", "30m", "session", "24h", "7d"]
_HEADS = cast(tuple[_Head, ...], HAZARD_HEADS)
_NAMES = cast(tuple[_Horizon, ...], HORIZONS)
_LENGTH_MS = tuple(HORIZON_MS[horizon] for horizon in HORIZONS)
_SESSION = HORIZONS.index("session")
_CAP_MS = HORIZON_MS["session"]
_LONGEST_MS = max(_LENGTH_MS)
#: Forgetting looks at every visitor, so it waits until this much event time has passed.
_SWEEP_MS = 12 * 3_600_000
#: The newest event time is noted every so many clicks, to know later what it was at an offset.
_NOTE_EVERY = 1024
_NEVER = -(2**62)

_CHURN = OUTCOMES_PER_SCORE - 1


class Progress(msgspec.Struct, frozen=True):
    """How far a join has come. An outcome is out if its score stands below `scores` in the score topic, its event below
    `clicks`, and it was due by `newest_ms`. `lowest_open` is the score topic's offset below which every outcome is out.
    """

    lowest_open: int
    scores: int
    clicks: int
    newest_ms: int


class _Pending:
    """A score that waits for a horizon: index `horizon`, due at `due_ms`. `found` has the events seen in shorter ones."""

    __slots__ = ("censored_from_ms", "due_ms", "event_id", "found", "horizon", "offset", "p", "path", "place", "score_id",
                 "time_ms", "version", "visitor_id")  # fmt: skip

    def __init__(self, score: ScoreEvent, place: int, offset: int) -> None:
        self.place = place  # offset of the score in its own topic
        self.offset = offset  # offset of its event
        self.score_id = score.score_id
        self.event_id = score.event_id
        self.visitor_id = score.visitor_id
        self.time_ms = score.event_time
        self.version = score.version
        self.path = score.path
        self.p = array("d", _said(score))  # a third of a list's memory
        self.horizon = 0
        self.due_ms = _NEVER
        self.censored_from_ms = _NEVER  # horizons due by then are censored
        self.found: list[int | None] = [None] * len(HAZARD_HEADS)


class OutcomeJoin:
    """The join of one partition. Give it every click in order of offset, every score in order of the score topic, and call
    `advance` after any of them; clicks and scores need not keep pace with each other.

    `resume`: leave out what was already out when that progress was made.
    """

    def __init__(self, policy: SessionPolicy, resume: Progress | None = None) -> None:
        self._gap_ms = policy.gap_ms
        self._grace_ms = policy.grace_ms
        self._resume = resume
        self._visitors: dict[str, VisitorLog] = {}
        self._newest_ms = _NEVER
        self._first_click: int | None = None
        self._next_click = 0
        self._next_score = 0
        self._stragglers: dict[int, int] = {}  # offset: newest event time when it arrived
        self._notes: deque[tuple[int, int]] = deque()  # (offset, newest event time there)
        self._swept_ms = _NEVER
        self._scored: set[int] = set()
        self._frontier = -1  # highest offset that has a score
        self._early: list[tuple[int, _Pending]] = []  # heap: scores whose click was not read yet
        self._due: list[tuple[int, int, _Pending]] = []  # heap
        self._open: deque[int] = deque()  # places in the score topic, rising
        self._closed: set[int] = set()

    @property
    def pending(self) -> int:
        """Scores with outcomes still to come."""
        return len(self._early) + len(self._due)

    @property
    def next_click(self) -> int:
        """The offset after the newest click taken."""
        return self._next_click

    @property
    def progress(self) -> Progress:
        """How far it has come when all that `advance` returned is out. Only right after `advance`."""
        while self._open and self._open[0] in self._closed:
            self._closed.remove(self._open.popleft())
        lowest = self._open[0] if self._open else self._next_score
        # When `advance` left some for later, what is due by then is not out yet.
        newest_ms = min(self._newest_ms, self._due[0][0] - 1) if self._due else self._newest_ms
        return Progress(lowest, self._next_score, self._next_click, newest_ms)

    def add_click(self, event: ClickEvent | None, offset: int) -> None:
        """Take the record at `offset`; None for one that is no event."""
        self._next_click = offset + 1
        if self._first_click is None:
            self._first_click = offset
        if event is None:
            return
        visitor = self._visitors.get(event.visitor_id)
        if visitor is None:
            visitor = self._visitors[event.visitor_id] = VisitorLog()
        visitor.add(event, offset, self._newest_ms, self._gap_ms, self._grace_ms)
        if self._newest_ms >= event.event_time + self._grace_ms:
            self._stragglers[offset] = self._newest_ms
        self._newest_ms = max(self._newest_ms, event.event_time)
        if offset % _NOTE_EVERY == 0:
            self._notes.append((offset, self._newest_ms))

    def add_score(self, score: ScoreEvent, place: int) -> None:
        """Take the score at offset `place` of the score topic. Copies and revisions are left out.

        Raises ValueError when the score's id names no offset, or a head or horizon is missing.
        """
        self._next_score = place + 1
        if revision_of(score.score_id)[1]:
            return
        pending = _pending(score, place)
        offset = pending.offset
        if offset in self._scored or offset <= self._frontier - COPY_REACH:
            return
        self._scored.add(offset)
        self._frontier = max(self._frontier, offset)
        if len(self._scored) > 2 * COPY_REACH:
            self._scored = {known for known in self._scored if known > self._frontier - COPY_REACH}
        if self._resume is not None and place < self._resume.lowest_open:
            return
        self._open.append(place)
        heapq.heappush(self._early, (offset, pending))

    def advance(self, at_most: int | None = None, until_ms: int | None = None) -> list[OutcomeEvent]:
        """The outcomes that have matured since the last call: all, or those of the earliest horizons when there are more
        than about `at_most`; with `until_ms` only what was due by then. None are left when none come.
        """
        while self._early and self._early[0][0] < self._next_click:
            self._begin(heapq.heappop(self._early)[1])
        outcomes: list[OutcomeEvent] = []
        stop_after_ms = self._newest_ms if until_ms is None else min(until_ms, self._newest_ms)
        while self._due and self._due[0][0] <= stop_after_ms:
            due_ms, _, pending = heapq.heappop(self._due)
            self._mature(pending, outcomes)
            if at_most is not None and len(outcomes) >= at_most:
                stop_after_ms = due_ms  # never between two of the same time: progress is told in times
        self._forget()
        return outcomes

    def _begin(self, pending: _Pending) -> None:
        assert self._first_click is not None
        if pending.offset < self._first_click:
            pending.censored_from_ms = 2**62
        else:
            pending.censored_from_ms = self._stragglers.get(pending.offset, _NEVER)
        self._await(pending)

    def _await(self, pending: _Pending) -> None:
        """Queue it for its horizon's end, as early as that can be."""
        length_ms = self._gap_ms if pending.horizon == _SESSION else _LENGTH_MS[pending.horizon]
        pending.due_ms = max(pending.due_ms, pending.time_ms + length_ms + self._grace_ms)
        heapq.heappush(self._due, (pending.due_ms, pending.offset, pending))

    def _mature(self, pending: _Pending, outcomes: list[OutcomeEvent]) -> None:
        """Settle the horizon that it waits for, if that is due indeed, and queue it for the next."""
        visitor = self._visitors.get(pending.visitor_id) or VisitorLog()
        time_ms, offset, horizon = pending.time_ms, pending.offset, pending.horizon
        rest: SessionRest | None = None
        if horizon == _SESSION:
            rest = visitor.session_rest(time_ms, offset, self._gap_ms, self._grace_ms, _CAP_MS)
            if rest.due_ms > pending.due_ms:  # the session went on
                pending.due_ms = rest.due_ms
                heapq.heappush(self._due, (rest.due_ms, offset, pending))
                return
        for head, known_ms in enumerate(pending.found):
            if known_ms is not None:  # a longer horizon contains the shorter
                continue
            if rest is not None:
                pending.found[head] = rest.found[head]
            elif head in visitor.of_head:
                until_ms = time_ms + _LENGTH_MS[horizon]
                pending.found[head] = visitor.of_head[head].first_within(time_ms, offset, until_ms, pending.due_ms)
        if not self._is_out(pending):
            for head, found_ms in enumerate(pending.found):
                outcomes.append(_outcome(pending, _HEADS[head], head * len(HORIZONS) + horizon, found_ms is not None, found_ms))
            if rest is not None:
                outcomes.append(_outcome(pending, "churn", _CHURN, rest.next_ms is None, rest.next_ms))
        pending.horizon += 1
        if pending.horizon < len(HORIZONS):
            self._await(pending)
        else:
            self._closed.add(pending.place)

    def _is_out(self, pending: _Pending) -> bool:
        resume = self._resume
        return (
            resume is not None
            and pending.place < resume.scores
            and pending.offset < resume.clicks
            and pending.due_ms <= resume.newest_ms
        )

    def _forget(self) -> None:
        """Drop events that no pending score and no score to come can need.

        A score to come belongs to an offset above the frontier minus COPY_REACH. If its event is older than what is
        dropped here, all of its horizons had matured before it arrived, and are censored.
        """
        settled = self._frontier - COPY_REACH
        settled_ms = _NEVER
        while self._notes and self._notes[0][0] < settled:
            settled_ms = self._notes.popleft()[1]
        if settled_ms < self._swept_ms + _SWEEP_MS:
            return
        self._swept_ms = settled_ms
        before_ms = settled_ms - _LONGEST_MS - self._grace_ms
        self._visitors = {name: visitor for name, visitor in self._visitors.items() if visitor.forget(before_ms)}
        self._stragglers = {offset: known for offset, known in self._stragglers.items() if offset > settled}


def _outcome(pending: _Pending, head: _Head, p_index: int, label: bool, happened_ms: int | None) -> OutcomeEvent:
    horizon = _NAMES[pending.horizon]
    censored = pending.due_ms <= pending.censored_from_ms
    return OutcomeEvent(
        outcome_id=f"{pending.score_id}/{head}/{horizon}",
        score_id=pending.score_id,
        event_id=pending.event_id,
        visitor_id=pending.visitor_id,
        head=head,
        horizon=horizon,
        label=None if censored else int(label),
        censored=censored,
        time_to_event_s=None if censored or happened_ms is None else (happened_ms - pending.time_ms) / 1000.0,
        event_time=pending.time_ms,
        p=pending.p[p_index],
        version=pending.version,
        path=pending.path,
    )


def _pending(score: ScoreEvent, place: int) -> _Pending:
    try:
        return _Pending(score, place, int(score.score_id.rsplit(":", 1)[1]))
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"score {score.score_id} cannot be joined: {error!r}") from error


def _said(score: ScoreEvent) -> list[float]:
    """What a score said, by head and horizon, churn last."""
    said: list[float] = []
    for head in HAZARD_HEADS:
        by_horizon = cast(dict[str, float], score.scores[head])
        said += [by_horizon[horizon] for horizon in HORIZONS]
    said.append(cast(float, score.scores["churn"]))
    return said
