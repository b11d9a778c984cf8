"""Which category follows which: counted on the training log, mixed by what was likeliest on later sessions. Judged, not served.

A category's name is asked, not its bucket: where hundreds of categories share the buckets, counts by name foresee them better
than a network that sees buckets, and cost nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import sparse

from training.examples import Examples
from training.history import Ints
from training.labels import UNKNOWN
from training.next_items import BACK, likeliest_weights
from worker.errors import ModelError

#: Of more categories no distribution is made: it would not fit in memory.
MOST_CATEGORIES = 2000
#: Pairs that doubt is worth: a category that was seldom left says less of what follows it.
_DOUBT = 2.0
#: Events that each category is worth on top of its own, so that none is impossible.
_FLOOR = 0.1
_PARTS = BACK + 2
#: More events tell a few dozen weights no better.
_MOST_EVENTS = 20_000
_CHUNK = 20_000

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class NextCategories:
    """A mixture for the next event's category: those of the last `BACK` events, those that followed the newest one's, all.

    names      C categories in order of their first event
    counts     [C]         events of each
    following  [C, C]      how often the column's was next after the row's
    weight     [BACK, 8]   by number of events: the category of each, the newest first; what followed the newest; all
    """

    names: tuple[str, ...]
    counts: Ints
    following: sparse.csr_matrix
    weight: npt.NDArray[np.float64]

    def __call__(self, category: Ints, position: Ints, names: Sequence[str]) -> Floats | None:
        """Probabilities [N, len(names) + 1] of the category of the event behind each, as named, and of any other.

        category [N]: of each event, in `names`; UNKNOWN, or beyond them, where it has none of these. A session's events follow
        one another, and position [N] counts them from 1. None where there are too many or nothing was learned.
        """
        if len(names) > MOST_CATEGORIES or not len(self.names):
            return None
        number = {name: k for k, name in enumerate(self.names)}
        mine = np.array([*(number.get(name, UNKNOWN) for name in names), UNKNOWN], np.int64)  # [names + 1]
        known = np.flatnonzero(mine != UNKNOWN)
        out = np.zeros((len(category), len(names) + 1), np.float32)
        back = _back(mine[np.where(category < len(names), category, UNKNOWN)], position)
        for begin in range(0, len(category), _CHUNK):
            rows = slice(begin, begin + _CHUNK)
            p = self._mixed(back[rows], np.minimum(position[rows], BACK) - 1)
            out[rows, known] = p[:, mine[known]]
        # What is left is alike for each that the log did not hold, and for all that are not named.
        others = np.append(np.flatnonzero(mine[:-1] == UNKNOWN), len(names))
        out[:, others] = np.maximum(1.0 - out.sum(axis=1, keepdims=True), 0.0) / len(others)
        return out

    def fitted(self, category: Ints, position: Ints, target: Ints) -> "NextCategories":
        """With the weights under which the targets [N] of these events (see `__call__`; by own number) are likeliest."""
        at = np.flatnonzero(target != UNKNOWN)[:_MOST_EVENTS]
        if not len(at):
            return self
        back, wanted = _back(category, position)[at], target[at]
        share, following = self._share(), self._follows()
        given = np.zeros((len(at), _PARTS))
        given[:, :BACK] = back == wanted[:, None]
        newest = back[:, 0]
        followed = np.asarray(following[np.maximum(newest, 0), wanted]).reshape(-1)
        given[:, BACK] = followed + self._doubt(newest) * share[wanted]
        given[:, -1] = share[wanted]
        speaks = np.concatenate([back != UNKNOWN, newest[:, None] != UNKNOWN, np.ones((len(at), 1), bool)], axis=1)
        given[~speaks] = 0.0
        return replace(self, weight=likeliest_weights(given, speaks.astype(np.float64), np.minimum(position[at], BACK) - 1))

    def added(self, other: "NextCategories") -> "NextCategories":
        """The counts of both together, with the weights of this one."""
        number = {name: k for k, name in enumerate(self.names)}
        to = np.array([number.setdefault(name, len(number)) for name in other.names], np.int64)
        counts = np.zeros(len(number), np.int64)
        counts[: len(self.names)] = self.counts
        np.add.at(counts, to, other.counts)
        mine, theirs = self.following.tocoo(), other.following.tocoo()
        following = _pairs(
            np.concatenate([mine.row, to[theirs.row]]),
            np.concatenate([mine.col, to[theirs.col]]),
            np.concatenate([mine.data, theirs.data]),
            len(number),
        )
        return NextCategories(tuple(number), counts, following, self.weight)

    def to_json(self) -> dict[str, Any]:
        """As a version keeps it."""
        pairs = self.following.tocoo()
        return {
            "names": list(self.names),
            "counts": self.counts.tolist(),
            "following": [pairs.row.tolist(), pairs.col.tolist(), pairs.data.astype(np.int64).tolist()],
            "weight": self.weight.tolist(),
        }

    @classmethod
    def from_json(cls, document: bytes) -> "NextCategories":
        """Raises ModelError when the document is no such."""
        try:
            kept = msgspec.json.decode(document, type=_Kept)
            names, counts = tuple(kept.names), np.array(kept.counts, np.int64)
            source, target, worth = (np.array(column, np.int64) for column in kept.following)
            following = _pairs(source, target, worth, len(names))
            weight = np.array(kept.weight, np.float64)
            if len(counts) != len(names) or weight.shape != (BACK, _PARTS):
                raise ValueError("its parts do not fit each other")
        except (msgspec.DecodeError, ValueError) as error:
            raise ModelError(f"next categories cannot be read ({error}); take another version or train anew") from error
        return cls(names, counts, following, weight)

    def _mixed(self, back: Ints, length: Ints) -> npt.NDArray[np.float64]:
        """[n, C]: what the mixture gives each category; back [n, BACK], length [n] 0 .. BACK - 1."""
        newest = back[:, 0]
        speaks = np.concatenate([back != UNKNOWN, newest[:, None] != UNKNOWN, np.ones((len(back), 1), bool)], axis=1)
        weight = self.weight[length] * speaks
        weight /= weight.sum(axis=1, keepdims=True)
        p: npt.NDArray[np.float64] = self._follows()[np.maximum(newest, 0)].toarray() * weight[:, BACK, None]
        p += (weight[:, BACK] * self._doubt(newest) + weight[:, -1])[:, None] * self._share()
        for k in range(BACK):
            at = np.flatnonzero(back[:, k] != UNKNOWN)
            p[at, back[at, k]] += weight[at, k]
        return p

    def _share(self) -> npt.NDArray[np.float64]:
        """[C]: of all events. What was seen once tells how likely unseen ones are (Good 1953)."""
        unseen = ((self.counts == 1).sum() + _FLOOR) / (self.counts.sum() + 1.0)
        return np.asarray((1 - min(unseen, 0.5)) * (self.counts + _FLOOR) / (self.counts + _FLOOR).sum())

    def _left(self) -> npt.NDArray[np.float64]:
        return np.asarray(self.following.sum(axis=1), np.float64).reshape(-1)

    def _follows(self) -> sparse.csr_matrix:
        return (sparse.diags(1 / (self._left() + _DOUBT)) @ self.following).tocsr()

    def _doubt(self, newest: Ints) -> npt.NDArray[np.float64]:
        """[n]: what is not said of what follows the newest one's category, and so is left to all."""
        return np.asarray(_DOUBT / (self._left()[np.maximum(newest, 0)] + _DOUBT))


class _Kept(msgspec.Struct):
    names: list[str]
    counts: list[int]
    following: tuple[list[int], list[int], list[int]]
    weight: list[list[float]]


def count_categories(examples: Examples) -> NextCategories:
    """Counted on the examples' events, all parts alike likely; see `NextCategories.fitted`."""
    category, _, target = followed(examples)
    names = tuple(examples.categories)
    known = (category != UNKNOWN) & (target != UNKNOWN)
    return NextCategories(
        names=names,
        counts=np.bincount(category[category != UNKNOWN], minlength=len(names)),
        following=_pairs(category[known], target[known], np.ones(int(known.sum()), np.int64), len(names)),
        weight=np.full((BACK, _PARTS), 1 / _PARTS),
    )


def mixed_categories(earlier: Examples, later: Examples, examples: Examples) -> NextCategories:
    """Counted on all `examples`, with the weights that are likeliest on `later` for what was counted on `earlier`.

    All three are of the same log.
    """
    weight = count_categories(earlier).fitted(*followed(later)).weight
    return replace(count_categories(examples), weight=weight)


def continued(before: NextCategories | None, fresh: Examples) -> NextCategories:
    """What was counted before, and counted on with fresh examples."""
    counted = count_categories(fresh)
    return counted if before is None else before.added(counted)


def followed(examples: Examples) -> tuple[Ints, Ints, Ints]:
    """Of each predicted event, in order: its category, its place in its session from 1, the next event's category."""
    row = np.sort(examples.predicted)
    category, session = examples.category[row], examples.session_of(row)
    _, first = np.unique(session, return_index=True)
    start = np.zeros(len(row), np.int64)
    start[np.sort(first)] = np.sort(first)
    position = np.arange(len(row)) - np.maximum.accumulate(start) + 1
    following = np.minimum(row + 1, len(examples.rows) - 1)
    target = np.where(examples.labels.next_type[row] != UNKNOWN, examples.category[following], UNKNOWN)
    return category, position, target


def _back(category: Ints, position: Ints) -> Ints:
    """[N, BACK]: the category of each event, of the one before, and so on; UNKNOWN ahead of the session."""
    columns = [np.where(position > k, np.roll(category, k), UNKNOWN) for k in range(BACK)]
    return np.stack(columns, axis=1)


def _pairs(source: Ints, target: Ints, worth: Ints, size: int) -> sparse.csr_matrix:
    return sparse.csr_matrix((worth.astype(np.float64), (source, target)), (size, size))
