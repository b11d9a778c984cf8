"""Keeps requests from a server that is in trouble, and lets one through now and then to see whether it is back."""

import time
from collections.abc import Callable
from typing import Literal

State = Literal["closed", "open", "half-open"]


class Breaker:
    """Opens after `failures` in a row; then one probe each `reset_s` seconds, until one succeeds.

    `clock` is monotonic, in seconds. No lock: for use on one event loop.
    """

    def __init__(self, failures: int, reset_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = failures
        self._reset_s = reset_s
        self._clock = clock
        self._failures = 0
        self._next_probe: float | None = None  # None while closed

    @property
    def state(self) -> State:
        """closed: all pass. open: none. half-open: the next one passes, as a probe."""
        if self._next_probe is None:
            return "closed"
        return "open" if self._clock() < self._next_probe else "half-open"

    def allow(self) -> bool:
        """Whether a request may go out now. Followed by `succeeded` or `failed`, or by neither if it was cancelled."""
        match self.state:
            case "closed":
                return True
            case "open":
                return False
            case "half-open":
                # A probe that is never heard of again must not keep the breaker open: the next one goes in its turn.
                self._next_probe = self._clock() + self._reset_s
                return True

    def succeeded(self) -> None:
        """A request was answered: close."""
        self._failures = 0
        self._next_probe = None

    def failed(self) -> None:
        """A request was not answered: count it, and open at the limit."""
        self._failures += 1
        if self._failures >= self._limit:
            self._next_probe = self._clock() + self._reset_s
