"""Windows of rows with their labels: what one step of training or evaluation takes in."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from training.history import History, Ints, Rows
from training.item_vectors import ItemVectors
from training.labels import UNKNOWN, Bools, Labels, label
from worker.contract.features import FeatureSpec, ModelInputs, encode_rows
from worker.contract.session import SessionPolicy

#: Parts of the sessions; rates that a session is trained with leave out its own part.
FOLDS = 5


class Batch(NamedTuple):
    """B windows padded to T rows; labels only where `predict`, elsewhere UNKNOWN (or False).

    predict [B, T] · link int8 [B, T, 2, 5] · churn int8 [B, T] · next_type, next_item, next_category, pause int64 [B, T] ·
    row int64 [B, T] · fold int64 [B], see `rates`
    """

    inputs: ModelInputs
    predict: Bools
    link: npt.NDArray[np.int8]
    churn: npt.NDArray[np.int8]
    next_type: Ints
    next_item: Ints
    next_category: Ints
    pause: Ints
    row: Ints
    fold: Ints


@dataclass(frozen=True)
class Examples:
    """W windows over the rows of a log. Window w is rows[start[w]:stop[w]] and predicts from row first[w] on.

    Over all windows of a session each event is predicted once, with just the rows that the worker had for it.
    `session` numbers the windows' sessions and `started_ms` is when those began. `items`, `categories`,
    `item`, `category`: see `History`.
    """

    rows: Rows
    labels: Labels
    link: npt.NDArray[np.int8]
    start: Ints
    stop: Ints
    first: Ints
    session: Ints
    started_ms: Ints
    items: Counter[str]
    categories: Counter[str]
    item: Ints
    category: Ints
    spec: FeatureSpec
    policy: SessionPolicy
    vectors: ItemVectors | None = None

    def __len__(self) -> int:
        return len(self.start)

    @property
    def sessions(self) -> int:
        """How many sessions the windows are of."""
        return len(np.unique(self.session))

    @property
    def predicted(self) -> Ints:
        """The rows that are predicted, window by window."""
        if not len(self):
            return np.zeros(0, np.int64)
        return np.concatenate([np.arange(a, b) for a, b in zip(self.first, self.stop, strict=True)])

    def window_of(self, rows: Ints) -> Ints:
        """The window that predicts each of these rows, all of which are predicted."""
        predicted = self.predicted
        order = np.argsort(predicted)
        windows = np.repeat(np.arange(len(self)), self.stop - self.first)
        return np.asarray(windows[order[np.searchsorted(predicted[order], rows)]])

    def session_of(self, rows: Ints) -> Ints:
        """The session of each of these rows, all of which are predicted."""
        return self.session[self.window_of(rows)]

    def select(self, windows: npt.NDArray[np.bool_] | Ints) -> "Examples":
        """These windows only, by mask or by index."""
        return replace(
            self,
            start=self.start[windows],
            stop=self.stop[windows],
            first=self.first[windows],
            session=self.session[windows],
            started_ms=self.started_ms[windows],
        )

    def joined(self, other: "Examples") -> "Examples":
        """These windows and those of the other, if they are of the same log; otherwise these."""
        if other.rows is not self.rows:
            return self
        windows = ("start", "stop", "first", "session", "started_ms")
        return replace(self, **{name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in windows})

    def between(self, from_ms: int | None, until_ms: int | None) -> "Examples":
        """Windows of sessions that began at or after `from_ms` and before `until_ms`."""
        inside = np.ones(len(self), bool)
        if from_ms is not None:
            inside &= self.started_ms >= from_ms
        if until_ms is not None:
            inside &= self.started_ms < until_ms
        return self.select(inside)

    def split(self, share: float) -> tuple["Examples", "Examples"]:
        """The earlier `share` of the sessions by their start, and the rest."""
        ordered = np.unique(np.stack([self.started_ms, self.session], axis=1), axis=0)
        earlier = np.isin(self.session, ordered[: round(share * len(ordered)), 1])
        return self.select(earlier), self.select(~earlier)

    def batch(self, windows: Ints) -> Batch:
        """These windows as one batch."""
        spans = [(int(self.start[w]), int(self.stop[w])) for w in windows]
        inputs = encode_rows([self.rows[a:b].tobytes() for a, b in spans])
        steps = np.arange(inputs.codes.shape[1])
        row = np.minimum(self.start[windows][:, None] + steps, len(self.rows) - 1)  # [B, T]
        lead = (self.first - self.start)[windows][:, None]
        predict = (steps >= lead) & (steps < inputs.length)
        return Batch(
            inputs,
            predict,
            np.where(predict[..., None, None], self.link[row], np.int8(UNKNOWN)),
            np.where(predict, self.labels.churn[row], np.int8(UNKNOWN)),
            np.where(predict, self.labels.next_type[row], UNKNOWN),
            np.where(predict, self.labels.next_item[row], UNKNOWN),
            np.where(predict, self.labels.next_category[row], UNKNOWN),
            np.where(predict, self.labels.pause[row], UNKNOWN),
            row,
            self.session[windows] % FOLDS,
        )

    def batches(self, events: int, rng: np.random.Generator | None = None) -> Iterator[Batch]:
        """All windows once, in batches of about `events` predicted events (at least one window); in random order with `rng`."""
        return (self.batch(windows) for windows in self.groups(events, rng))

    def groups(self, events: int, rng: np.random.Generator | None = None) -> list[Ints]:
        """The windows of each of `batches`.

        Windows of like length come together, so that little is padding. Batches of equally many events keep every event's
        weight the same, whether its session is short or long.
        """
        length = self.stop - self.start
        jitter = np.zeros(len(self)) if rng is None else rng.uniform(0, 1, len(self))
        # Whole steps of padding decide, chance breaks the ties.
        order = np.lexsort((jitter, -(-length // 8)))
        number = (np.cumsum((self.stop - self.first)[order]) - 1) // events
        groups = np.split(order, np.flatnonzero(np.diff(number)) + 1) if len(self) else []
        if rng is not None:
            rng.shuffle(groups)
        return groups


def examples_of(history: History) -> Examples:
    """Every session of the log as windows, with labels."""
    labels = label(history)
    window, half = history.spec.window, history.spec.window // 2
    lengths = np.diff(history.start)
    # The first window holds `window` rows; each further one begins `half` later and adds up to `half` rows.
    further = np.maximum(-(-(lengths - window) // half), 0)
    session = np.repeat(np.arange(history.sessions), 1 + further)
    step = np.arange(len(session)) - np.repeat(np.cumsum(1 + further) - (1 + further), 1 + further)
    start = history.start[session] + step * half
    stop = np.minimum(start + window, history.start[session + 1])
    first = np.where(step == 0, start, start + window - half)
    return Examples(
        rows=history.rows,
        labels=labels,
        link=labels.link,
        start=start,
        stop=stop,
        first=first,
        session=session,
        started_ms=history.rows["event_time"][history.start[session]].astype(np.int64),
        items=history.items,
        categories=history.categories,
        item=history.item,
        category=history.category,
        spec=history.spec,
        policy=history.policy,
    )
