"""Batches without end, from a place that can be written down and taken up again."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from training.distributed import processes, rank
from training.examples import Batch, Examples
from training.history import Ints


@dataclass
class _Pass:
    """One pass over the windows of a source: how the generator stood when their order was drawn, and how many were taken."""

    source: Examples
    events: int
    began: dict[str, Any] | None = None
    groups: list[Ints] = field(default_factory=list)
    taken: int = 0


class Sampler:
    """Batches of some sources, of about so many events each, in an order that one generator draws anew for each pass.

    A source that is empty, or of which nothing is asked, is left out.
    """

    def __init__(self, sources: Sequence[Examples], sizes: Sequence[int], seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._passes = [_Pass(source, size) for source, size in zip(sources, sizes, strict=True) if size and len(source)]

    def __next__(self) -> list[tuple[Batch, float]]:
        """This process's part of the next batch of each source, and by how much its mean loss counts."""
        total = sum(one.events for one in self._passes)
        parts = []
        for one in self._passes:
            windows = self._next(one)
            mine = windows[rank() :: processes()]
            if len(mine):
                events = one.source.stop - one.source.first
                share = events[mine].sum() / events[windows].sum()
                parts.append((one.source.batch(mine), one.events / total * float(share)))
        return parts

    def _next(self, one: _Pass) -> Ints:
        if one.taken == len(one.groups):
            one.began, one.taken = dict(self._rng.bit_generator.state), 0
            one.groups = one.source.groups(one.events, self._rng)
        one.taken += 1
        return one.groups[one.taken - 1]

    @property
    def position(self) -> dict[str, Any]:
        """Where the next batches come from, fit for JSON."""
        passes = [{"began": one.began, "taken": one.taken} for one in self._passes]
        return {"generator": self._rng.bit_generator.state, "passes": passes}

    def go_to(self, position: dict[str, Any]) -> None:
        """Go on from a `position` of a sampler of the same sources and sizes."""
        for one, at in zip(self._passes, position["passes"], strict=True):
            if at["began"] is not None:
                self._rng.bit_generator.state = at["began"]
                one.began, one.taken = at["began"], at["taken"]
                one.groups = one.source.groups(one.events, self._rng)
        self._rng.bit_generator.state = position["generator"]
