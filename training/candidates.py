"""Items that a version can name as next ones."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from training.examples import Examples
from training.history import Ints
from training.labels import UNKNOWN

#: Items that can be named: the most frequent ones of the training data. Each takes some 270 bytes of a version.
MAX_CANDIDATES = 2**17


@dataclass(frozen=True)
class Candidates:
    """Items that can be named as next ones, the most frequent first, with their numbers of events."""

    ids: tuple[str, ...]
    counts: tuple[int, ...]

    @classmethod
    def most_frequent(cls, items: Counter[str], limit: int = MAX_CANDIDATES) -> "Candidates":
        """The `limit` most frequent items; among equals the smaller id, so that the choice is stable."""
        best = sorted(items.items(), key=lambda pair: (-pair[1], pair[0]))[:limit]
        return cls(tuple(name for name, _ in best), tuple(count for _, count in best))

    def merged(self, items: Counter[str], limit: int = MAX_CANDIDATES) -> "Candidates":
        """The most frequent of these and of further events' items together."""
        return self.most_frequent(Counter(dict(zip(self.ids, self.counts, strict=True))) + items, limit)

    def numbers_of(self, examples: Examples) -> Ints:
        """Which candidate the item of each row of the examples' log is; UNKNOWN where it is none."""
        number = {name: k for k, name in enumerate(self.ids)}
        # The last entry stands for "no item".
        of_item = np.array([*(number.get(name, UNKNOWN) for name in examples.items), UNKNOWN], np.int64)
        return np.asarray(of_item[examples.item])

    def next_numbers_of(self, examples: Examples) -> Ints:
        """The same of the item that follows each row; UNKNOWN also where it is not known which does."""
        follows = np.append(self.numbers_of(examples)[1:], UNKNOWN)
        return np.where(examples.labels.next_item != UNKNOWN, follows, UNKNOWN)
