"""Counts alone: how popular things are, and what followed the last few events (a k-gram Markov chain)."""

import numpy as np
import numpy.typing as npt
from scipy import sparse

from training.baselines.corrected import LEARNED_SHARE
from training.baselines.heads import (
    MOST_CLASSES,
    LateCorrection,
    in_chunks,
    most_popular,
    prior,
    shares,
    to_classes,
    top_items,
)  # fmt: skip
from training.forecast import Forecast
from training.history import Ints
from training.labels import UNKNOWN
from training.metrics.draws import Doubles
from training.session_log import NEXT_TYPES, SessionLog
from worker.contract.events import EVENT_TYPES
from worker.contract.features import NUMBERS

_CHUNK = 2048


class Prevalence:
    """The same for every event: shares of the training log, no lists of items. What every other baseline must beat."""

    def fit(self, log: SessionLog, seed: int) -> None:
        """See `Baseline`."""
        self._purchase, self._next_type = prior(log.purchase), shares(log.next_type, NEXT_TYPES)
        classes = log.categories + 1
        self._category = shares(to_classes(log.next_category, classes), classes) if classes <= MOST_CLASSES else None

    def predict(self, log: SessionLog) -> Forecast:
        """See `Baseline`."""
        category = None if self._category is None else np.broadcast_to(self._category, (len(log), len(self._category)))
        return Forecast(np.full(len(log), self._purchase), np.tile(self._next_type, (len(log), 1)), category)


class Popularity:
    """The most popular items for everybody; the purchase by how often sessions with the item at hand bought."""

    #: Events that the overall rate is worth when an item's own is smoothed towards it.
    _PRIOR_EVENTS = 20.0

    def fit(self, log: SessionLog, seed: int) -> None:
        """See `Baseline`."""
        earlier, later = log.split(LEARNED_SHARE)
        self._constant = Prevalence()
        self._constant.fit(log, seed)
        self._learn(earlier)
        self._correction = LateCorrection(self._rate(later), later, prior(log.purchase))
        self._learn(log)
        self._popular = most_popular(log.item, log.items)

    def predict(self, log: SessionLog) -> Forecast:
        """See `Baseline`."""
        listed = np.tile(self._popular, (len(log), 1))
        return self._constant.predict(log)._replace(purchase=self._correction(self._rate(log)), next_items=listed)

    def _learn(self, log: SessionLog) -> None:
        known = (log.purchase != UNKNOWN) & (log.item != UNKNOWN)
        self._events = np.bincount(log.item[known], minlength=log.items)
        self._bought = np.bincount(log.item[known], log.purchase[known], log.items)
        self._overall = prior(log.purchase)

    def _rate(self, log: SessionLog) -> Doubles:
        seen = (log.item != UNKNOWN) & (log.item < len(self._events))
        item = np.where(seen, log.item, 0)
        events = np.where(seen, self._events[item], 0) if len(self._events) else np.zeros(len(log))
        bought = np.where(seen, self._bought[item], 0.0) if len(self._events) else np.zeros(len(log))
        return np.asarray((bought + self._PRIOR_EVENTS * self._overall) / (events + self._PRIOR_EVENTS))


class Markov:
    """A k-gram Markov chain over (type, gap, repeat) tokens, each order smoothed towards the next shorter one.

    Items and categories follow each other by the transitions from the last two.
    """

    ORDER = 4
    #: What the shorter context's estimate counts. A session's events share one label, so a purchase needs more doubt.
    _PURCHASE_DOUBT, _TYPE_DOUBT, _CATEGORY_DOUBT = 60.0, 10.0, 2.0

    def fit(self, log: SessionLog, seed: int) -> None:
        """See `Baseline`."""
        known = log.purchase != UNKNOWN
        bought = np.stack([log.purchase == 0, log.purchase == 1], axis=1)[known]
        base = np.array([1 - prior(log.purchase), prior(log.purchase)])
        contexts = _contexts(log, self.ORDER)
        self._purchase = _Backoff([context[known] for context in contexts], bought, base, self._PURCHASE_DOUBT)
        known = log.next_type != UNKNOWN
        follows = log.next_type[known, None] == np.arange(NEXT_TYPES)
        self._next_type = _Backoff(
            [context[known] for context in contexts], follows, shares(log.next_type, NEXT_TYPES), self._TYPE_DOUBT
        )
        self._items = log.items
        self._popular = most_popular(log.item, log.items)
        self._one, self._two = _transitions(log)
        self._pairs = np.unique(_pair(log, log.items)[log.next_item != UNKNOWN])
        self._categories = log.categories + 1
        if self._categories <= MOST_CLASSES:
            label = to_classes(log.next_category, self._categories)
            self._category_shares = shares(label, self._categories)
            known = label != UNKNOWN
            here = to_classes(log.category, self._categories)[known]
            self._category = np.zeros((self._categories + 1, self._categories))  # the last row is for "no category"
            np.add.at(self._category, (here, label[known]), 1.0)

    def predict(self, log: SessionLog) -> Forecast:
        """See `Baseline`."""
        contexts = _contexts(log, self.ORDER)
        category = None
        if self._categories <= MOST_CLASSES:
            counts = self._category[to_classes(log.category, self._categories)]
            total = counts.sum(axis=1, keepdims=True)
            category = (counts + self._CATEGORY_DOUBT * self._category_shares) / (total + self._CATEGORY_DOUBT)
        return Forecast(
            self._purchase(contexts)[:, 1],
            self._next_type(contexts),
            category,
            in_chunks(len(log), _CHUNK, lambda part: top_items(self._scores(log, part), self._popular)),
        )

    def _scores(self, log: SessionLog, part: slice) -> sparse.csr_matrix:
        """[n, items]: the shares of what followed the last item, and, counted as much again, of what followed the last two."""
        item = log.item[part]
        one = _rows(np.where((item >= 0) & (item < self._items), item, -1), self._items) @ self._one
        pair = _pair(log, self._items)[part]
        at = np.minimum(np.searchsorted(self._pairs, pair), max(len(self._pairs) - 1, 0))
        held = (self._pairs[at] == pair) if len(self._pairs) else np.zeros(len(pair), bool)
        return (one + _rows(np.where(held, at, -1), len(self._pairs)) @ self._two).tocsr()


class _Backoff:
    """Distributions by context: counts of the longest one, smoothed towards what the next shorter one says, and so on."""

    def __init__(self, contexts: list[Ints], happened: npt.NDArray[np.bool_], base: Doubles, doubt: float) -> None:
        """contexts: [n] each, from the shortest on; happened [n, C]; base [C]."""
        self._base, self._doubt = base, doubt
        self._tables: list[tuple[Ints, Doubles]] = []
        for context in contexts:
            names, at = np.unique(context, return_inverse=True)
            counts = np.zeros((len(names), len(base)))
            np.add.at(counts, at, happened)
            self._tables.append((names, counts))

    def __call__(self, contexts: list[Ints]) -> Doubles:
        """[n, C]"""
        p = np.tile(self._base, (len(contexts[0]), 1))
        for context, (names, counts) in zip(contexts, self._tables, strict=True):
            if not len(names):
                continue
            at = np.minimum(np.searchsorted(names, context), len(names) - 1)
            held = np.where((names[at] == context)[:, None], counts[at], 0.0)
            p = (held + self._doubt * p) / (held.sum(axis=1, keepdims=True) + self._doubt)
        return p


def _contexts(log: SessionLog, order: int) -> list[Ints]:
    """Numbers [N] of the last 1..order tokens; token 0 stands before the session's first."""
    numbers = log.rows["numbers"]
    gap = np.searchsorted([0.0, 10.0, 60.0, 600.0], numbers[:, NUMBERS.index("gap_s")], side="left")
    repeated = np.minimum(numbers[:, NUMBERS.index("repeats")], 2).astype(np.int64)
    tokens = 1 + (log.type * 5 + gap) * 3 + repeated
    base = 1 + len(EVENT_TYPES) * 5 * 3
    position = log.position
    contexts = [tokens]
    for back in range(1, order):
        earlier = np.where(position > back, np.roll(tokens, back), 0)
        contexts.append(contexts[-1] * base + earlier)
    return contexts


def _transitions(log: SessionLog) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Shares of next items after an item [items, items], and after a pair of items [pairs, items]."""
    known = log.next_item != UNKNOWN
    target = log.next_item[known]
    pairs, at = np.unique(_pair(log, log.items)[known], return_inverse=True)
    item = log.item[known]
    from_item = item != UNKNOWN
    one = sparse.csr_matrix((np.ones(from_item.sum()), (item[from_item], target[from_item])), (log.items, log.items))
    two = sparse.csr_matrix((np.ones(len(target)), (at, target)), (len(pairs), log.items))
    return _by_row(one), _by_row(two)


def _by_row(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Counts over their row's sum and a little more: few counts say less than many."""
    total = np.asarray(counts.sum(axis=1)).reshape(-1)
    return (sparse.diags(1 / (total + 1.0)) @ counts).tocsr()


def _pair(log: SessionLog, items: int) -> Ints:
    """[N]: a number for the last item and the one before; items that training did not see are one of them."""
    here = np.where(log.item == UNKNOWN, -1, np.minimum(log.item, items))
    before = np.where(log.position > 1, np.roll(here, 1), -2)
    return np.asarray((here + 2) * (items + 3) + before + 2)


def _rows(at: Ints, width: int) -> sparse.csr_matrix:
    """[n, width]: 1 at each row's place; nothing where that is -1."""
    rows = np.flatnonzero(at >= 0)
    return sparse.csr_matrix((np.ones(len(rows)), (rows, at[rows])), (len(at), width))
