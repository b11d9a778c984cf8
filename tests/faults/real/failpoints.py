"""Named moments at which a real worker kills or stops itself, put around public methods from outside."""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer

from worker.delivery import Delivery
from worker.owner import Owner

#: In the order of a batch's walk. `sent` is a moment after sending began, so that the request is on its way, or answered.
FAILPOINTS = (
    "fold", "score", "scores-sent", "scores-confirmed", "state-sent", "state-confirmed", "before-commit", "commit-sent",
    "after-commit",
)  # fmt: skip

#: The environment variable that arms a worker.
VARIABLE = "FAULT_AT"


class Armed(NamedTuple):
    """What to do when `failpoint` is reached for the `count`-th time; where it is about sending, `delay_ms` after it began."""

    failpoint: str
    count: int
    delay_ms: float = 0.0
    signal: str = "SIGKILL"

    def __str__(self) -> str:
        return f"{self.failpoint}:{self.count}:{self.delay_ms:g}:{self.signal}"

    @classmethod
    def parse(cls, text: str) -> "Armed":
        failpoint, count, delay_ms, signal_name = text.split(":")
        return cls(failpoint, int(count), float(delay_ms), signal_name)


def arm(armed: Armed, scorer: type) -> None:
    """Have this process do so. `scorer` is the class whose `score` the pipeline calls."""
    here = _Countdown(armed)
    match armed.failpoint:
        case "fold":
            _around(scorer, "score", before=here)
        case "score":
            _around(scorer, "score", after=here)
        case "scores-sent":
            _around(Delivery, "publish", sent=here)
        case "scores-confirmed":
            _around(Owner, "write", before=here)
        case "state-sent":
            _around(Owner, "write", sent=here)
        case "state-confirmed":
            _around(Owner, "write", after=here)
        case "before-commit":
            _around(AIOKafkaConsumer, "commit", before=here)
        case "commit-sent":
            _around(AIOKafkaConsumer, "commit", sent=here)
        case "after-commit":
            _around(AIOKafkaConsumer, "commit", after=here)
        case unknown:
            raise ValueError(f"no failpoint {unknown}")


class _Countdown:
    """Counts how often the failpoint was reached."""

    def __init__(self, armed: Armed) -> None:
        self.delay_s = armed.delay_ms / 1000
        self._armed = armed
        self._left = armed.count

    def is_due(self) -> bool:
        self._left -= 1
        return self._left == 0

    def now(self) -> None:
        """Killed, this does not return; stopped, it goes on when somebody sends SIGCONT."""
        os.write(2, f"{self._armed.signal} at {self._armed.failpoint}\n".encode())
        os.kill(os.getpid(), signal.Signals[self._armed.signal])


def _around(
    owner: type, name: str, before: _Countdown | None = None, sent: _Countdown | None = None, after: _Countdown | None = None
) -> None:
    inner: Callable[..., Any] = getattr(owner, name)

    async def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        if before is not None and before.is_due():
            before.now()
        if sent is not None and sent.is_due():
            under_way = asyncio.ensure_future(inner(self, *args, **kwargs))
            await asyncio.sleep(sent.delay_s)
            sent.now()
            await under_way
        result = await inner(self, *args, **kwargs)
        if after is not None and after.is_due():
            after.now()
        return result

    setattr(owner, name, wrapped)
