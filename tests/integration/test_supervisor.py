"""Workers that look after themselves, on genuine Kafka: under a supervisor one is killed; alone one is shut out."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.local.process import ProcessId
from tests.support.constant_worker import run_constant_worker
from tests.support.topics import committed, read, read_scores, send, shop_records, wait_committed
from worker.membership import leave_group
from worker.owner import Owner
from worker.settings import KafkaSettings, Settings, TopicSettings, WorkerSettings

_PROCESSES = 3


@pytest.fixture
def settings(kafka: str, topics: TopicSettings) -> Settings:
    """Settings of workers with topics and a group of their own, and a session that does not time out during a test."""
    return Settings(
        kafka=KafkaSettings(bootstrap_servers=kafka),
        topics=topics,
        worker=WorkerSettings(group=f"group-{topics.clicks}", max_batch=32, commit_interval_s=0.2, session_timeout_s=60),
    )


class Crew:
    """A supervisor with its workers, or a worker alone, and the lines that they log."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self.log = log
        self.seen: set[ProcessId] = set()

    def workers(self) -> list[ProcessId]:
        """The workers that run now."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        found = [worker for pid in children if (worker := ProcessId.of(int(pid))) is not None]
        self.seen.update(found)
        return found

    def assigned(self) -> int:
        """How often workers were given partitions."""
        return self.log.read_text().count('"partitions assigned"')


@asynccontextmanager
async def _crew(settings: Settings, log: Path, processes: int = _PROCESSES) -> AsyncIterator[Crew]:
    environment = {
        f"INKLING_{group}__{name}".upper(): str(value)
        for group in ("kafka", "topics", "worker")
        for name, value in getattr(settings, group).model_dump(exclude_none=True).items()
    }
    with log.open("ab") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.constant_worker", "--processes", str(processes)),
            env={**os.environ, **environment},
            stderr=file,
        )
    crew = Crew(process, log)
    try:
        await _until(lambda: processes == 1 or len(crew.workers()) == processes)
        yield crew
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await _until(lambda: not any(worker.alive() for worker in crew.seen), within_s=5)


async def _until(condition: Callable[[], bool], within_s: float = 30) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        await asyncio.sleep(0.05)


async def test_a_killed_worker_is_replaced_at_once_and_nothing_is_lost(settings: Settings, tmp_path: Path) -> None:
    """Its partitions go on long before its session times out, it is started again, and SIGTERM drains all in mid-stream."""
    records = shop_records(1500)
    async with _crew(settings, tmp_path / "log") as crew:
        await send(settings, records[:600])
        await _until(lambda: crew.assigned() >= _PROCESSES)
        await wait_committed(settings, 100)
        victim = crew.workers()[0]
        os.kill(victim.pid, signal.SIGKILL)
        killed = time.monotonic()
        await wait_committed(settings, 600)
        assert time.monotonic() - killed < settings.worker.session_timeout_s / 3
        await _until(lambda: len(crew.workers()) == _PROCESSES)
        assert victim not in crew.workers()
        await send(settings, records[600:])
        await wait_committed(settings, 700)
        crew.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(crew.process.wait(), 20) == 0
        assert not any(worker.alive() for worker in crew.seen)
    # Told to end they finished what they had taken, and committed it.
    done = {score.score_id for score in await read_scores(settings)}
    assert len(done) == await committed(settings) < len(records)
    stop = asyncio.Event()
    rest = asyncio.create_task(run_constant_worker(settings, stop))
    await wait_committed(settings, len(records))
    stop.set()
    await rest
    scores = await read_scores(settings)
    # Copies are identical but for when they were made.
    values = {(score.score_id, score.event_id, score.position, score.input_hash) for score in scores}
    assert len(values) == len({score.score_id for score in scores}) == len(records)
    assert await read(settings, settings.topics.dead) == []


async def test_a_worker_that_is_shut_out_comes_back_by_itself(settings: Settings, tmp_path: Path) -> None:
    """As after a pause in which another worker took its partition over: the same process begins anew, nothing is lost."""
    records = shop_records(300)
    half = len(records) // 2
    # What is shut out cannot be drained, and is waited for in vain.
    worker = settings.worker.model_copy(update={"drain_s": 1.0})
    async with _crew(settings.model_copy(update={"worker": worker}), tmp_path / "log", processes=1) as crew:
        await send(settings, records[:half])
        await wait_committed(settings, half)
        for partition in range(settings.topics.partitions):
            thief = Owner(settings, partition)
            await thief.open()
            await thief.close()
        await send(settings, records[half:])
        await wait_committed(settings, len(records))
        assert "shut out, beginning anew" in crew.log.read_text()
        crew.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(crew.process.wait(), 20) == 0
    assert len({score.score_id for score in await read_scores(settings)}) == len(records)


async def test_a_missing_kafka_ends_the_command_with_one_line(tmp_path: Path) -> None:
    """What no restart mends is not tried for ever."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "worker", "worker", "--processes", "2"),
        env={**os.environ, "INKLING_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    assert said.decode().splitlines()[-1].startswith("error: no Kafka at 127.0.0.1:1")
    assert said.count(b"error: ") == 1


async def test_leaving_on_behalf_of_nobody_is_harmless(settings: Settings) -> None:
    """A worker that left by itself, and a group that never was."""
    assert await leave_group(settings.kafka, settings.worker.group, "nobody") == 0
