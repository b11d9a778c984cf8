"""A log as sessions with what each event's future held: what baselines learn from, and what any of them is judged by."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from training.event_names import EventNames
from training.history import History, Ints, Rows
from training.labels import UNKNOWN
from worker.contract.events import EVENT_TYPES
from worker.contract.features import CODES, TYPE_CODE

#: The class of "no event follows" among the next types, after those of EVENT_TYPES.
END = len(EVENT_TYPES)
NEXT_TYPES = END + 1

#: Whose sessions: those that the shop names, or those that the worker cuts by gap.
Cut = Literal["shop", "gap"]


@dataclass(frozen=True)
class SessionLog:
    """N events in S sessions, the sessions in order of their start, one after the other.

    rows           ROW [N]   as the worker had them when the event came
    event          [N]       the event's number in the log
    start          [S + 1]   session s is the events start[s]..start[s + 1] - 1
    started_ms     [S]       when it began
    item, category [N]       numbered by first appearance in the log (`EventNames`); UNKNOWN where not said
    purchase       int8 [N]  1 when the session holds a purchase strictly later, 0 when not. UNKNOWN from the session's first
                             purchase on, and where it is not known yet
    next_type      [N]       index in EVENT_TYPES of the session's next event, END, or UNKNOWN
    next_item, next_category [N]  of the next event; UNKNOWN where there is none or it does not say
    items, categories        how many the log names: numbers from there on appear in a longer log only
    history, names           the folded log that these sessions are of, whole even when only some are selected
    """

    rows: Rows
    event: Ints
    start: Ints
    started_ms: Ints
    item: Ints
    category: Ints
    purchase: npt.NDArray[np.int8]
    next_type: Ints
    next_item: Ints
    next_category: Ints
    items: int
    categories: int
    history: History
    names: EventNames

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def sessions(self) -> int:
        return len(self.started_ms)

    @property
    def session(self) -> Ints:
        """[N]: each event's session."""
        return np.repeat(np.arange(self.sessions), np.diff(self.start))

    @property
    def position(self) -> Ints:
        """[N]: each event's place in its session, from 1."""
        return np.arange(len(self)) - np.repeat(self.start[:-1], np.diff(self.start)) + 1

    @property
    def type(self) -> Ints:
        """[N]: index in EVENT_TYPES."""
        return np.asarray(self.rows["codes"][:, CODES.index("type")].astype(np.int64) - 1)

    def select(self, sessions: npt.NDArray[np.bool_]) -> "SessionLog":
        """These sessions only, by mask."""
        chosen = np.repeat(sessions, np.diff(self.start))
        lengths = np.diff(self.start)[sessions]
        per_event = {
            name: getattr(self, name)[chosen]
            for name in ("rows", "event", "item", "category", "purchase", "next_type", "next_item", "next_category")
        }
        return SessionLog(
            **per_event,
            start=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            started_ms=self.started_ms[sessions],
            items=self.items,
            categories=self.categories,
            history=self.history,
            names=self.names,
        )

    def split(self, share: float) -> tuple["SessionLog", "SessionLog"]:
        """The earlier `share` of the sessions, and the rest."""
        earlier = np.arange(self.sessions) < round(share * self.sessions)
        return self.select(earlier), self.select(~earlier)


def session_log(history: History, names: EventNames, cut: Cut, known_ms: int | None = None) -> SessionLog:
    """The events of a history that was folded through `names`.

    With `known_ms` only that is known of a session's future which could be known then: a session is over once its gap and the
    grace for late events have passed, and before that neither "no" nor an early "yes" is used. Without it the log's end ends all.
    """
    order = np.argsort(history.rows["offset"], kind="stable")
    event = history.rows["offset"][order].astype(np.int64)
    key = history.session_of_row[order]
    if cut == "shop":
        named = names.session[event]
        key = np.where(named == UNKNOWN, -1 - key, named)
    _, first, of = np.unique(key, return_index=True, return_inverse=True)
    # Events are in order of time, so that a session's first event says which session began first.
    rank = np.argsort(np.argsort(first))[of]
    grouped = np.argsort(rank, kind="stable")
    rows, event = history.rows[order][grouped], event[grouped]
    start = np.concatenate([[0], np.cumsum(np.bincount(rank, minlength=len(first)))]).astype(np.int64)
    session = rank[grouped]
    time = rows["event_time"].astype(np.int64)
    last_ms = time[start[1:] - 1]
    wait_ms = history.policy.gap_ms + history.policy.grace_ms
    over = np.full(len(first), True) if known_ms is None else last_ms + wait_ms <= known_ms
    item, category = names.item[event], names.category[event]
    follows = np.append(session[1:] == session[:-1], False) if len(rows) else np.zeros(0, bool)
    types = rows["codes"][:, CODES.index("type")].astype(np.int64) - 1
    return SessionLog(
        rows=rows,
        event=event,
        start=start,
        started_ms=time[start[:-1]],
        item=item,
        category=category,
        purchase=_purchase(types, time, start, session, over),
        next_type=np.where(follows, np.roll(types, -1), np.where(over[session], END, UNKNOWN)),
        next_item=np.where(follows, np.roll(item, -1), UNKNOWN),
        next_category=np.where(follows, np.roll(category, -1), UNKNOWN),
        items=int(item.max(initial=-1)) + 1,
        categories=int(category.max(initial=-1)) + 1,
        history=history,
        names=names,
    )


def _purchase(types: Ints, time: Ints, start: Ints, session: Ints, over: npt.NDArray[np.bool_]) -> npt.NDArray[np.int8]:
    never = np.iinfo(np.int64).max
    bought_ms = np.full(len(start) - 1, never)
    bought = types == TYPE_CODE["purchase"] - 1
    np.minimum.at(bought_ms, session[bought], time[bought])
    ahead = time < bought_ms[session]
    return np.where(ahead & over[session], bought_ms[session] != never, UNKNOWN).astype(np.int8)
