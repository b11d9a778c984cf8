"""The process behind `inkling worker --processes N`: starts N workers, restarts the dead, hands their partitions over.

    child ends ─► its member is taken out of the group ─► the others take over ─► a pause ─► it is started again, and joins

The children are forked by the main thread, the one that lives as long as the process: the kernel ends them with it
(`exec_guard`). Each has a session of its own, so that Ctrl-C reaches the supervisor alone, which then drains them all.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from aiokafka.errors import KafkaError
from structlog import get_logger

from worker.errors import ConfigurationError, InklingError
from worker.exec_guard import guarded
from worker.member import Member
from worker.membership import leave_group
from worker.restarts import Exit, Restarts
from worker.settings import Settings

log = get_logger()

#: What is kept of a child's stdout: its last line is the error that it ended with.
_LAST_WORDS_BYTES = 4096
#: A broker that does not answer must not keep a dead worker from its restart.
_HAND_OVER_S = 5.0

#: The command line of a member.
Command = Callable[[Member], Sequence[str]]


class _End(NamedTuple):
    """What is known of a child that has ended. A signal's status is below 0."""

    status: int
    lived_s: float
    last_words: str


async def supervise(settings: Settings, stop: asyncio.Event, processes: int, command: Command) -> None:
    """Keep `processes` workers running until `stop`, then drain them all.

    Raises InklingError with a worker's own words when it ended with what no restart mends; the others are drained then.
    """

    if settings.metrics.port + processes > 65536:
        raise ConfigurationError(f"INKLING_METRICS__PORT {settings.metrics.port} leaves no port for each of {processes} workers")

    async def hand_over(member: Member) -> int:
        mine = member.settings(settings)
        async with asyncio.timeout(_HAND_OVER_S):
            return await leave_group(settings.kafka, settings.worker.group, mine.kafka.client_id)

    await Supervisor(processes, command, hand_over).run(stop)


class Supervisor:
    """Keeps a number of processes running.

    `hand_over` gives away what a dead one held and says of how many members that was. It may raise KafkaError or TimeoutError.
    """

    def __init__(self, processes: int, command: Command, hand_over: Callable[[Member], Awaitable[int]]) -> None:
        crew = secrets.token_hex(4)
        self._members = [Member(crew, number) for number in range(processes)]
        self._command = command
        self._hand_over = hand_over
        self._restarts = Restarts()
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._ending = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. Cancelled, it kills what still runs."""
        keepers = [asyncio.create_task(self._keep(member, stop)) for member in self._members]
        stopped = asyncio.create_task(stop.wait())
        try:
            # A keeper ends by itself only when it gives up.
            await asyncio.wait([stopped, *keepers], return_when=asyncio.FIRST_COMPLETED)
            self._ending.set()
            log.info("ending all workers", running=len(self._running))
            for process in self._running.values():
                _terminate(process)
            await asyncio.wait(keepers)
        finally:
            for task in (stopped, *keepers):
                task.cancel()
        for keeper in keepers:
            keeper.result()

    async def _keep(self, member: Member, stop: asyncio.Event) -> None:
        while not self._ending.is_set():
            end = await self._live(member)
            if self._ending.is_set():
                if stop.is_set() and end.status not in set(Exit):
                    # One that was told to end while it joined does not leave by itself, and who comes next would wait for it.
                    await self._give_away(member)
                return
            pause_s = self._restarts.after(member.number, end.status, end.lived_s)
            if pause_s is None:
                raise InklingError(end.last_words or f"worker {member.number} ended with status {end.status}")
            log.warning(
                "a worker ended and will be started again",
                process=member.number,
                status=end.status,
                reason=end.last_words or None,
                lived_s=round(end.lived_s, 1),
                pause_s=pause_s,
            )
            # Before it is started again: the new process has the same client id.
            await self._give_away(member)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), pause_s)

    async def _give_away(self, member: Member) -> None:
        try:
            if members := await self._hand_over(member):
                log.info("its partitions are handed over", process=member.number, members=members)
        except (KafkaError, TimeoutError) as error:
            log.warning("its partitions are handed over when its session times out", process=member.number, error=repr(error))

    async def _live(self, member: Member) -> _End:
        """One life of a worker, from its start to its end."""
        started = time.monotonic()
        try:
            process = await asyncio.create_subprocess_exec(
                *guarded(self._command(member)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:  # no memory or no process left; there may be later
            return _End(1, 0.0, str(error))
        log.info("worker process started", process=member.number, pid=process.pid)
        self._running[member.number] = process
        try:
            if self._ending.is_set():
                _terminate(process)
            assert process.stdout is not None
            said = b""
            while more := await process.stdout.read(_LAST_WORDS_BYTES):
                said = (said + more)[-_LAST_WORDS_BYTES:]
            status = await process.wait()
        finally:
            del self._running[member.number]
            if process.returncode is None:
                process.kill()
        last_words = said.decode(errors="replace").strip().rpartition("\n")[2]
        return _End(status, time.monotonic() - started, last_words)


def _terminate(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
