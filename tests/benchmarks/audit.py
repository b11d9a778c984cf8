"""Events a second of `inkling audit`: the command as it is, over clicks and the scores that a worker has written for them."""

import asyncio
import json
import os
import statistics
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.broker import committed, fresh_topics
from tests.benchmarks.process import environment, module, running
from worker.audit.run import Options
from worker.settings import KafkaSettings, Settings, WorkerSettings

_TIMEOUT_S = 600.0


class _Run(NamedTuple):
    seconds: float  # from the start of the command to its end
    cpu_s: float  # of all its processes
    largest_mb: float  # of the largest of them


def measure(bootstrap: str, clicks: str, events: int, rounds: int, work: Path) -> dict[str, float]:
    """The medians of some rounds. `clicks` is a topic that holds so many events."""
    settings = Settings(
        kafka=KafkaSettings(bootstrap_servers=bootstrap),
        topics=fresh_topics(bootstrap, clicks),
        worker=WorkerSettings(group=f"bench-audit-{clicks}"),
    )
    asyncio.run(_score(settings, events, work / "audited.log"))
    runs = [_audit(settings, events, work / "audit.json") for _ in range(rounds)]
    seconds, cpu_s, largest_mb = (statistics.median(column) for column in zip(*runs, strict=True))
    return {
        "events": events,
        "processes": Options().processes,
        "events_s": round(events / seconds),
        "cpu_us_an_event": round(cpu_s / events * 1e6, 2),
        "largest_process_mb": round(largest_mb),
    }


async def _score(settings: Settings, events: int, log: Path) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    with running(module("tests.support.constant_worker", "--delay-s", "0"), log, environment(settings)):
        while await committed(settings) < events:
            if time.monotonic() > deadline:
                raise SystemExit(f"error: the worker did not finish in time\n{log.read_text()[-2000:]}")
            await asyncio.sleep(0.5)


def _audit(settings: Settings, events: int, output: Path) -> _Run:
    started = time.monotonic()
    with output.open("wb") as file, output.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(module("worker", "audit", "--json"), stdout=file, stderr=log, env=environment(settings))
        _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    counts = {} if process.returncode else json.loads(output.read_text())["counts"]
    if counts.get("clicks") != events or counts.get("scores") != events:
        raise SystemExit(f"error: the audit found something wrong\n{output.read_text()[-2000:]}")
    return _Run(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
