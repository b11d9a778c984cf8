"""What stands between processes and broker: time, loss, pauses and crashes."""

import asyncio
import contextvars
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

from aiokafka.errors import KafkaConnectionError, RequestTimedOutError

T = TypeVar("T")

#: Where a process can be killed or paused, in the order of a batch's walk.
FAILPOINTS = (
    "owned", "take", "fold", "score", "scores-sent", "scores-confirmed", "state-sent", "state-committed", "state-confirmed",
    "before-commit", "after-commit", "revoked", "drained",
)  # fmt: skip

_TIMEOUT_S = 0.15
#: Shorter than any latency, longer than nothing: what is ready to run has run by then.
_SOON_S = 1e-6

#: The process that a task belongs to.
_running: contextvars.ContextVar["Process | None"] = contextvars.ContextVar("process", default=None)


def own_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Have the loop note which process makes a task, so that a crash ends them all."""

    def make(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T], context: Any = None) -> "asyncio.Task[T]":
        task = asyncio.Task(coroutine, loop=loop, context=context)
        process = _running.get()
        if process is not None:
            process.tasks[task] = None
        return task

    loop.set_task_factory(make)


class Process:
    """One run of one program: alive or not, awake or paused."""

    def __init__(self, name: str, note: Callable[..., None], counts: Counter[str]) -> None:
        self.name = name
        self.alive = True
        self.armed: dict[str, float] = {}  # failpoint -> seconds of pause, or 0 for a crash
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self._paused_until = 0.0
        self._note = note
        self._counts = counts

    def run(self, main: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Start the program."""
        context = contextvars.copy_context()
        context.run(_running.set, self)
        return context.run(asyncio.create_task, main)

    def reach(self, failpoint: str) -> None:
        """The program is at a failpoint. To be followed by `awake` where more is to come."""
        pause_s = self.armed.pop(failpoint, None)
        if pause_s is None or not self.alive:
            return
        self._counts[f"{'pause' if pause_s else 'crash'} at {failpoint}"] += 1
        if pause_s:
            self.pause(pause_s)
        else:
            self.crash()

    def reach_soon(self, failpoint: str) -> None:
        """At a failpoint as soon as everything that can run now has run."""
        if failpoint in self.armed:
            asyncio.get_running_loop().call_later(_SOON_S, self.reach, failpoint)

    async def awake(self) -> None:
        """Go on at once, when the pause is over, or never."""
        loop = asyncio.get_running_loop()
        while self.alive and self._paused_until > loop.time():
            await asyncio.sleep(self._paused_until - loop.time())
        if not self.alive:
            await _never()

    def pause(self, pause_s: float) -> None:
        """Like SIGSTOP: what was sent is on its way, and nothing else happens."""
        self._note(self.name, "paused for", pause_s)
        self._paused_until = asyncio.get_running_loop().time() + pause_s

    def wake(self) -> None:
        """Like SIGCONT."""
        self._paused_until = 0.0

    def crash(self) -> None:
        """Like SIGKILL: what was sent is on its way."""
        self._note(self.name, "killed")
        self.alive = False
        for task in self.tasks:
            task.cancel()


class Network:
    """Carries requests. `unruly` is the share of them that something happens to."""

    def __init__(self, dice: random.Random, unruly: float, counts: Counter[str]) -> None:
        self._dice = dice
        self.unruly = unruly
        self._counts = counts
        self._away_until = 0.0

    def cut(self, for_s: float) -> None:
        """The broker is away: new requests fail, those that are there wait."""
        self._away_until = max(self._away_until, asyncio.get_running_loop().time() + for_s)

    def heal(self) -> None:
        """From now on everything arrives."""
        self.unruly = 0.0
        self._away_until = 0.0

    def send(self, arrive: Callable[[bool], None], answer: "asyncio.Future[Any]") -> None:
        """Have a request arrive, or not; when its answer will be lost, or it comes late, the sender hears of a timeout."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now < self._away_until:
            self._counts["requests while away"] += 1
            loop.call_later(0.01, self.answer, answer, None, KafkaConnectionError())
            return
        latency = self._dice.uniform(0.001, 0.01)
        if self._dice.random() >= self.unruly:
            loop.call_later(latency, self._arrive, arrive, True)
            return
        match self._dice.randrange(4):
            case 0:  # never arrives
                self._counts["requests lost"] += 1
            case 1:  # arrives, the answer does not
                self._counts["answers lost"] += 1
                loop.call_later(latency, self._arrive, arrive, False)
            case 2:  # arrives after the sender has given it up
                self._counts["requests late"] += 1
                loop.call_later(_TIMEOUT_S + self._dice.uniform(0.0, 1.5), self._arrive, arrive, False)
            case _:  # is slow
                loop.call_later(latency + 0.1, self._arrive, arrive, True)
        loop.call_later(_TIMEOUT_S, self.answer, answer, None, RequestTimedOutError())

    def answer(self, answer: "asyncio.Future[Any]", result: Any = None, error: Exception | None = None) -> None:
        """Answer a request, if nobody has."""
        if answer.done():
            return
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)
            answer.exception()

    def _arrive(self, arrive: Callable[[bool], None], heard: bool) -> None:
        """At a broker that is away it waits in the queue."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._away_until:
            loop.call_at(self._away_until + 0.001, self._arrive, arrive, heard)
        else:
            arrive(heard)


async def _never() -> NoReturn:
    await asyncio.get_running_loop().create_future()
    raise AssertionError("unreachable")
