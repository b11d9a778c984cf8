"""Sessions whose visitors have not come for a while, packed: by visitor's key."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Protocol

from worker.contract.packed import seen_ms_of


class Cold(Protocol):
    """What a slab asks of where they are kept."""

    def __len__(self) -> int: ...

    def __setitem__(self, key: bytes, packed: bytes, /) -> None: ...

    def get(self, key: bytes, /) -> bytes | None: ...

    def pop(self, key: bytes, default: None, /) -> bytes | None: ...

    def add(self, sessions: Iterable[tuple[bytes, bytes]]) -> None:
        """Keep these, of which none is there."""

    def items(self) -> Iterable[tuple[bytes, bytes]]: ...

    def take_seen(self, until_ms: int, most: int) -> list[bytes]:
        """Remove up to so many that last changed at this event time of the partition or before; returns their keys."""

    def close(self) -> None:
        """Remove all."""


class InMemory(dict[bytes, bytes]):
    """They stay in memory."""

    def add(self, sessions: Iterable[tuple[bytes, bytes]]) -> None:
        self.update(sessions)

    def take_seen(self, until_ms: int, most: int) -> list[bytes]:
        keys = list(itertools.islice(self._seen(until_ms), most))
        for key in keys:
            del self[key]
        return keys

    def close(self) -> None:
        self.clear()

    def _seen(self, until_ms: int) -> Iterator[bytes]:
        return (key for key, packed in self.items() if seen_ms_of(packed) <= until_ms)
