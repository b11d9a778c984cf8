"""asyncio without waiting: when nothing is ready to run, the clock jumps to the next timer."""

import asyncio
from typing import Any


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop with a clock of its own and no sockets. The same program runs the same way every time."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._selector = self  # what the base class asks for events, and how it sleeps

    def time(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> list[Any]:
        """What a selector does: wait for events. There are none, so time passes. Raises RuntimeError if forever."""
        if timeout is None:
            raise RuntimeError("every task waits for something that cannot happen")
        self._now += timeout
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        """Nothing: there are no sockets."""

    def _write_to_self(self) -> None:
        """Nothing: there are no other threads."""
