"""A second worker joins under load, then one is killed: pauses, copies and losses; alone, and under a supervisor."""

import asyncio
import itertools
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import ConsumerRecord

from tests.benchmarks.broker import committed, ends, fresh_topics, read
from tests.benchmarks.clicks import Click, send_at_rate
from tests.benchmarks.process import environment, module, running
from worker.settings import KafkaSettings, Settings, WorkerSettings

_RATE = 500.0  # events/s: enough that every partition has an event every few milliseconds
_PHASE_S = 10.0
_TIMEOUT_S = 60.0
#: What the killed worker had on the wire is appended by then.
_WIRE_S = 0.1
_WORKER = "tests.support.constant_worker"


class _Id(msgspec.Struct):
    score_id: str


_ids = msgspec.json.Decoder(_Id)


def measure(bootstrap: str, clicks: Sequence[Click], work: Path) -> dict[str, float]:
    """Two real workers but for the model (a constant after 20 ms), with the default session timeout."""
    alone = asyncio.run(_alone(_settings(bootstrap, "alone"), clicks, work / "failover.log"))
    supervised = asyncio.run(_supervised(_settings(bootstrap, "supervised"), clicks, work / "failover-supervised.log"))
    return alone | {f"supervised_{name}": value for name, value in supervised.items()}


def _settings(bootstrap: str, group: str) -> Settings:
    kafka, worker = KafkaSettings(bootstrap_servers=bootstrap), WorkerSettings(group=f"bench-failover-{group}")
    return Settings(kafka=kafka, topics=fresh_topics(bootstrap), worker=worker)


async def _alone(settings: Settings, clicks: Sequence[Click], log: Path) -> dict[str, float]:
    command, variables = module(_WORKER), environment(settings)
    with running(command, log, variables) as first:
        await _until_assigned(log, 1)
        sending = _send(settings, clicks)
        await asyncio.sleep(_PHASE_S)
        joined = time.time()
        with running(command, log, variables):
            await _until_assigned(log, 3)  # each of both again
            await asyncio.sleep(_PHASE_S)
            killed = _kill(first.pid)
            await asyncio.sleep(_PHASE_S)
            sent = await _stop(sending, settings)
            await _until_committed(settings, sent)
    scores = await read(settings, settings.topics.scores)
    before = [score for score in scores if score.timestamp / 1000 < killed]
    return {
        "session_timeout_s": settings.worker.session_timeout_s,
        "join_duplicates": len(before) - len(_distinct(before)),
        "join_longest_pause_s": round(_longest_pause(before, joined), 2),
        **_after_kill(scores, killed, sent),
    }


async def _supervised(settings: Settings, clicks: Sequence[Click], log: Path) -> dict[str, float]:
    with running(module(_WORKER, "--processes", "2"), log, environment(settings)) as supervisor:
        await _until_assigned(log, 2)
        sending = _send(settings, clicks)
        await asyncio.sleep(_PHASE_S)
        killed = _kill(_children(supervisor)[0])
        await asyncio.sleep(_PHASE_S)
        sent = await _stop(sending, settings)
        await _until_committed(settings, sent)
        workers = len(_children(supervisor))
    scores = await read(settings, settings.topics.scores)
    longest = _longest_pause(scores, killed + _WIRE_S)
    return {
        **_after_kill(scores, killed, sent),
        "later_longest_pause_s": round(longest, 2),
        "workers_at_the_end": workers,
    }


def _send(settings: Settings, clicks: Sequence[Click]) -> "asyncio.Task[float]":
    return asyncio.create_task(send_at_rate(settings.kafka.bootstrap_servers, settings.topics.clicks, clicks, _RATE))


async def _stop(sending: "asyncio.Task[float]", settings: Settings) -> int:
    """End the sending; how many clicks have arrived. There must have been more of them than the phases took."""
    if sending.done():
        raise SystemExit("error: all clicks were sent before the end; give more")
    sending.cancel()
    await asyncio.wait([sending])
    return sum((await ends(settings.kafka.bootstrap_servers, settings.topics.clicks)).values())


def _kill(pid: int) -> float:
    """SIGKILL; when that was, on the broker's clock."""
    now = time.time()
    os.kill(pid, signal.SIGKILL)
    return now


def _after_kill(scores: Sequence[ConsumerRecord], killed: float, events: int) -> dict[str, float]:
    before = [score for score in scores if score.timestamp / 1000 < killed]
    distinct = len(_distinct(scores))
    return {
        "kill_to_first_score_s": round(_first_after(scores, killed + _WIRE_S) - killed, 2),
        "kill_duplicates": len(scores) - distinct - (len(before) - len(_distinct(before))),
        "lost": events - distinct,
    }


def _children(process: "subprocess.Popen[Any]") -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


async def _until_assigned(log: Path, times: int) -> None:
    """Until workers were given partitions so many times, by what they log."""
    deadline = time.monotonic() + _TIMEOUT_S
    while log.read_text().count('"partitions assigned"') < times:
        if time.monotonic() > deadline:
            raise SystemExit(f"error: the workers got no partitions (log: {log.read_text()[-2000:]})")
        await asyncio.sleep(0.1)


async def _until_committed(settings: Settings, events: int) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while await committed(settings) < events:
        if time.monotonic() > deadline:
            raise SystemExit("error: the second worker did not finish what the first left")
        await asyncio.sleep(0.2)


def _distinct(scores: Sequence[ConsumerRecord]) -> set[str]:
    return {_ids.decode(score.value).score_id for score in scores}


def _longest_pause(scores: Sequence[ConsumerRecord], since: float) -> float:
    """The longest time that a partition was without a new score, in seconds."""
    longest = 0.0
    for times in _times(scores, since).values():
        longest = max([longest, *(later - earlier for earlier, later in itertools.pairwise(times))])
    return longest


def _first_after(scores: Sequence[ConsumerRecord], moment: float) -> float:
    """When the last of the partitions got its first score: those of the killed worker waited the longest."""
    return max(times[0] for times in _times(scores, moment).values())


def _times(scores: Sequence[ConsumerRecord], since: float) -> dict[int, list[float]]:
    times: dict[int, list[float]] = {}
    for score in scores:
        if score.timestamp / 1000 >= since:
            times.setdefault(score.partition, []).append(score.timestamp / 1000)
    return times
