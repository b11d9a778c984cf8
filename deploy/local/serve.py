"""Keeps a stack up until it is told to end."""

import signal
import time
from collections import deque
from collections.abc import Callable
from types import FrameType

from deploy.local.errors import StackError
from deploy.local.stack import LocalStack, Part, Progress
from deploy.local.state import Addresses

_LOOK_EVERY_S = 0.5
# A part that dies this often within this time will not be mended by yet another start.
_RESTARTS = 3
_WITHIN_S = 60.0


def serve(stack: LocalStack, progress: Progress, on_ready: Callable[[Addresses], None] = lambda _: None) -> None:
    """Starts the stack, starts again what dies, and stops everything on SIGTERM or SIGINT. Main thread only.

    Raises:
        StackError: it could not be started, or a part dies again and again.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    try:
        stack.start(progress)
        with stack:
            on_ready(stack.addresses)
            _watch(stack, progress)
    except _Leave:
        progress("stopped")


def _watch(stack: LocalStack, progress: Progress) -> None:
    restarts: deque[float] = deque(maxlen=_RESTARTS)
    while True:
        time.sleep(_LOOK_EVERY_S)
        for part in stack.dead_parts():
            if len(restarts) == _RESTARTS and time.monotonic() - restarts[0] < _WITHIN_S:
                raise _gone_for_good(part)
            restarts.append(time.monotonic())
            progress(f"{part.name} ended by itself: starting it again")
            stack.restart(part, progress)


def _gone_for_good(part: Part) -> StackError:
    assert part.child is not None
    return part.child.failure("ends again and again")


class _Leave(BaseException):
    """Raised in the main thread by a signal, wherever it is, so that even a start is given up in order."""


def _leave(number: int, frame: FrameType | None) -> None:
    for other in (signal.SIGTERM, signal.SIGINT):
        signal.signal(other, signal.SIG_IGN)  # stopping is not to be stopped halfway
    raise _Leave
