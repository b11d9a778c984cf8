"""The consumer group's coordinator: members, generations, the range assignment, and who may commit."""

import asyncio
from collections.abc import Callable, Mapping

from aiokafka.errors import CommitFailedError

SESSION_TIMEOUT_S = 0.6
REBALANCE_TIMEOUT_S = 1.2
_SWEEP_S = 0.2

Assignment = tuple[int, tuple[int, ...]]


class Group:
    """A group over partitions 0..n-1. `on_commit` is told of every commit before it counts."""

    def __init__(self, partitions: int, on_commit: Callable[[str, Mapping[int, int]], None]) -> None:
        self.partitions = partitions
        self.committed: dict[int, int] = {}
        self.generation = 0
        self._on_commit = on_commit
        self._heard: dict[str, float] = {}  # members, and when they were last heard of
        self._joining: dict[str, asyncio.Future[Assignment]] = {}
        self._begun: float | None = None  # when the rebalance that is under way began

    async def run(self) -> None:
        """Let members expire, for ever."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            now = _now()
            if self._begun is not None:
                if now - self._begun > REBALANCE_TIMEOUT_S:
                    self._complete()
                continue
            gone = [name for name, heard in self._heard.items() if now - heard > SESSION_TIMEOUT_S]
            for name in gone:
                self.leave(name)

    def join(self, name: str, answer: "asyncio.Future[Assignment]") -> None:
        """JoinGroup and SyncGroup; answered when the rebalance is complete."""
        self._heard[name] = _now()
        self._joining[name] = answer
        self._rebalance()

    def leave(self, name: str) -> None:
        """Leave, or be thrown out."""
        self._joining.pop(name, None)
        if self._heard.pop(name, None) is not None:
            self._rebalance()

    def heartbeat(self, name: str, generation: int) -> bool:
        """Whether the member may go on; otherwise it has to join again."""
        if name not in self._heard or generation != self.generation:
            return False
        self._heard[name] = _now()
        return self._begun is None

    def commit(self, name: str, generation: int, offsets: Mapping[int, int]) -> None:
        """Raises CommitFailedError for all but members of the present generation."""
        if name not in self._heard or generation != self.generation:
            raise CommitFailedError
        self._on_commit(name, offsets)
        self.committed.update(offsets)

    def _rebalance(self) -> None:
        if self._begun is None:
            self._begun = _now()
        if self._heard and self._heard.keys() <= self._joining.keys():
            self._complete()

    def _complete(self) -> None:
        """Those who came make the next generation."""
        self._heard = dict.fromkeys(sorted(self._joining), _now())
        answers, self._joining, self._begun = self._joining, {}, None
        self.generation += 1
        members = sorted(answers)
        for place, name in enumerate(members):
            share, extra = divmod(self.partitions, len(members))
            first = place * share + min(place, extra)
            mine = tuple(range(first, first + share + (place < extra)))
            if not answers[name].done():
                answers[name].set_result((self.generation, mine))


def _now() -> float:
    return asyncio.get_running_loop().time()
