"""What a scenario plays on: topics, a group and clicks of its own, on a Kafka that all scenarios share."""

import asyncio
import contextlib
import random
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from aiokafka import TopicPartition

from deploy.local.stack import LocalStack
from deploy.local.topics import TopicSpec, create_topics, standard_topics
from tests.faults.real.check import Verdict, check
from tests.faults.real.failpoints import Armed
from tests.faults.real.processes import WorkerProcess
from tests.faults.real.traffic import Record, Shares, Traffic, send
from worker.settings import (
    KafkaSettings,
    MetricsSettings,
    ModelSettings,
    ScoringSettings,
    SessionSettings,
    Settings,
    StateSettings,
    TopicSettings,
    TritonSettings,
    WorkerSettings,
)
from worker.span import bounds, read_span, reader
from worker.topic import committed_offsets

#: How long workers may take to finish what is there, once nothing hinders them.
FINISH_S = 180.0
#: How long a worker may take to start on a busy machine, with a member of the group to be given up.
JOIN_S = 60.0
#: How long it may take to end when told to: what it has is drained within 10 s.
END_S = 30.0
_POLL_S = 0.1
_SENDINGS = 60
#: At the end of a partition there is a record among so many offsets.
_LOOKED_AT = 10


class Failed(AssertionError):
    """What should have happened did not."""


class Setup(Protocol):
    """What of a scenario decides its stage."""

    @property
    def name(self) -> str: ...
    @property
    def session_timeout_s(self) -> float: ...
    @property
    def shares(self) -> Shares: ...
    @property
    def delivery(self) -> Literal["at_least_once", "exactly_once"]: ...
    @property
    def hot_sessions(self) -> int | None: ...
    @property
    def follow_users(self) -> bool: ...


class Stage:
    """One scenario's world. `dice` decides all that is left open; `events` is how many clicks there are for it to send, and
    `rounds` how often it does its harm, if it does so more than once. `bug` is a known one that all workers have.
    """

    def __init__(self, stack: LocalStack, setup: Setup, seed: int, events: int, work: Path, rounds: int, bug: str) -> None:
        self.stack = stack
        self.events = events
        self.rounds = rounds
        self.sent = 0
        self.dice = random.Random(f"{seed} {setup.name}")
        self.work = work / setup.name
        self.work.mkdir(parents=True, exist_ok=True)
        self.workers: list[WorkerProcess] = []
        self.settings = _settings(stack, f"{setup.name}-{seed}-{secrets.token_hex(2)}", setup, self.work)
        now_ms = time.time_ns() // 1_000_000
        self.traffic = Traffic(self.dice.randrange(2**32), events, self.topics.partitions, now_ms, setup.shares)
        self.copies_allowed = True
        self.findings: list[str] = []
        self._bug = bug

    @property
    def topics(self) -> TopicSettings:
        return self.settings.topics

    async def make_topics(self, clicks_config: Mapping[str, str]) -> None:
        """All of them, as they are meant to be but for what is said of the clicks topic."""
        specs = standard_topics(self.topics)
        await asyncio.to_thread(
            create_topics,
            self.settings.kafka.bootstrap_servers,
            [TopicSpec(s.name, s.partitions, {**s.config, **clicks_config} if s.name == self.topics.clicks else s.config)
             for s in specs],
        )  # fmt: skip

    def worker(self, armed: Armed | None = None, *, with_model: bool = False, delay_ms: float | None = None) -> WorkerProcess:
        """Start a worker; slow enough, if nothing else is said, that there are batches under way at any moment."""
        delay_ms = self.dice.choice((2.0, 10.0, 25.0)) if delay_ms is None else delay_ms
        worker = WorkerProcess(
            self.settings, self.work / f"worker-{len(self.workers)}.log", armed, with_model, delay_ms, self._bug
        )
        self.workers.append(worker)
        return worker

    async def joined(self, *workers: WorkerProcess) -> None:
        """Wait until the group has taken them in. Raises Failed."""
        for worker in workers:
            await self.until(lambda: worker.has_joined, JOIN_S, lambda: f"a worker did not join: {worker.said[-300:]}")  # noqa: B023

    async def send(self, number: int) -> None:
        """The next so many clicks."""
        await self.send_records(self.traffic.take(number))

    async def backlog(self) -> None:
        """Half of the time, half of the clicks at once: then workers are always in the middle of something."""
        if self.dice.random() < 0.5:
            await self.send(self.events // 2)

    @contextlib.asynccontextmanager
    async def flowing(self, for_s: float, number: int | None = None) -> AsyncIterator[None]:
        """While inside, clicks keep coming, what is left of them or so many: evenly over `for_s` seconds, the rest at the end."""
        records = self.traffic.take(self.events - self.sent if number is None else number)
        left = asyncio.Event()

        async def flow() -> None:
            step = len(records) // _SENDINGS + 1
            for start in range(0, len(records), step):
                await self.send_records(records[start : start + step])
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(left.wait(), for_s / _SENDINGS)

        flowing = asyncio.create_task(flow())
        try:
            yield
            left.set()
            await flowing
        finally:
            flowing.cancel()
            await asyncio.gather(flowing, return_exceptions=True)

    async def committed(self) -> dict[int, int]:
        """What the group has committed, by partition."""
        return await committed_offsets(self.settings.kafka, self.settings.worker.group, self.topics.clicks)

    async def all_committed(self) -> bool:
        """Whether the group has committed all that is on the topic, be it sent or copied."""
        committed = await self.committed()
        async with reader(self.settings.kafka) as consumer:
            for partition in range(self.topics.partitions):
                tp = TopicPartition(self.topics.clicks, partition)
                start, end = await bounds(consumer, tp)
                # A transaction's end takes an offset, too, and is no record.
                async for records in read_span(consumer, tp, max(start, end - _LOOKED_AT), end):
                    if records and records[-1].offset >= committed.get(partition, 0):
                        return False
        return True

    async def until_committed(self, number: int, within_s: float = FINISH_S) -> None:
        """Wait until so many clicks are committed. Raises Failed."""
        done = 0

        async def enough() -> bool:
            nonlocal done
            done = sum((await self.committed()).values())
            return done >= number

        await self.until(enough, within_s, lambda: f"only {done} of {number} clicks committed")

    async def until(self, condition: Callable[[], Any], within_s: float, told: Callable[[], str] | str) -> None:
        """Wait for a condition, which may be a coroutine function. Raises Failed."""
        end = time.monotonic() + within_s
        while True:
            answer = condition()
            if await answer if asyncio.iscoroutine(answer) else answer:
                return
            if time.monotonic() > end:
                raise Failed(f"{told if isinstance(told, str) else told()} after {within_s:g} s")
            await asyncio.sleep(_POLL_S)

    async def finish(self, *, with_model: bool = False) -> None:
        """Let a worker finish what is there, and another one, from the state that it left, one more click of each visitor."""
        if not await self.all_committed():
            await self._finish(with_model)
        await self.send_records(self.traffic.probes())
        await self._finish(with_model)

    async def end(self, worker: WorkerProcess, *, may_be_shut_out: bool = False) -> None:
        """SIGTERM; anything but an end in order is a finding."""
        if may_be_shut_out and self.check_shut_out(worker):
            return
        try:
            status = await worker.stop(END_S)
        except TimeoutError:
            worker.send(signal.SIGUSR1)
            await asyncio.sleep(1.0)
            self.findings.append(f"a worker did not end {END_S:g} s after SIGTERM: {worker.said[-2000:]}")
            worker.destroy()
            return
        if status != 0 and not (may_be_shut_out and self.check_shut_out(worker)):
            self.findings.append(f"a worker that nobody disturbed ended with {status}: {worker.said[-300:]}")

    def check_shut_out(self, worker: WorkerProcess) -> bool:
        """Whether a worker that was paused, or cut off, has ended; if so, it must have said that it found itself shut out."""
        if worker.status is None:
            return False
        if worker.status != 1 or "has another owner now" not in worker.said:
            self.findings.append(f"a worker that should only be shut out ended with {worker.status}: {worker.said[-300:]}")
        return True

    async def judge(self) -> Verdict:
        """What the checker says to all that is on the topics now."""
        verdict = await check(self.settings, self.sent)
        verdict.findings += self.findings
        if verdict.copies and not self.copies_allowed:
            verdict.findings.append(f"{verdict.copies} copies, although nothing failed")
        return verdict

    def clear(self) -> None:
        """End every worker."""
        for worker in self.workers:
            worker.destroy()

    async def _finish(self, with_model: bool) -> None:
        worker = self.worker(with_model=with_model, delay_ms=0.0)
        await self.joined(worker)
        await self.until(self.all_committed, FINISH_S, "not all clicks committed")
        await self.end(worker)

    async def send_records(self, records: list[Record]) -> None:
        """These records, confirmed."""
        await send(self.settings.kafka.bootstrap_servers, self.topics.clicks, records, self.traffic.now_ms)
        self.sent += len(records)


def _settings(stack: LocalStack, name: str, setup: Setup, work: Path) -> Settings:
    addresses = stack.addresses
    return Settings(
        kafka=KafkaSettings(bootstrap_servers=addresses.kafka),
        topics=TopicSettings(
            clicks=f"clicks-{name}", scores=f"scores-{name}", dead=f"dead-{name}", outcomes=f"outcomes-{name}",
            changelog=f"changelog-{name}", control=f"control-{name}",
        ),
        state=StateSettings(dir=work / "state", hot_sessions=setup.hot_sessions),
        triton=TritonSettings(url=addresses.triton_grpc or TritonSettings().url),
        model=ModelSettings(repository=Path(addresses.model_repository)),
        scoring=ScoringSettings(deadline_ms=5000),
        session=SessionSettings(follow_users=setup.follow_users),
        worker=WorkerSettings(
            group=f"group-{name}", max_batch=64, commit_interval_s=0.2, session_timeout_s=setup.session_timeout_s,
            delivery=setup.delivery,
        ),
        metrics=MetricsSettings(port=0),
    )  # fmt: skip
