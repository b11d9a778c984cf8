"""Events a second of `inkling audit`: the command as it is, over clicks and the scores that a worker has written for them."""

import asyncio
import contextlib
import json
import resource
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
_LOOK_S = 0.2


class _Run(NamedTuple):
    seconds: float  # from the start of the command to its end
    cpu_s: float  # of all its processes
    memory_mb: float  # the most that they had together


def measure(bootstrap: str, clicks: str, events: int, rounds: int, work: Path) -> dict[str, float]:
    """The medians of some rounds. `clicks` is a topic that holds so many events."""
    settings = Settings(
        kafka=KafkaSettings(bootstrap_servers=bootstrap),
        topics=fresh_topics(bootstrap, clicks),
        worker=WorkerSettings(group=f"bench-audit-{clicks}"),
    )
    asyncio.run(_score(settings, events, work / "audited.log"))
    runs = [_audit(settings, events, work / "audit.json") for _ in range(rounds)]
    seconds, cpu_s, memory_mb = (statistics.median(column) for column in zip(*runs, strict=True))
    return {
        "events": events,
        "processes": Options().processes,
        "events_s": round(events / seconds),
        "cpu_us_an_event": round(cpu_s / events * 1e6, 2),
        "memory_mb": round(memory_mb),
    }


async def _score(settings: Settings, events: int, log: Path) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    with running(module("tests.support.constant_worker", "--delay-s", "0"), log, environment(settings)):
        while await committed(settings) < events:
            if time.monotonic() > deadline:
                raise SystemExit(f"error: the worker did not finish in time\n{log.read_text()[-2000:]}")
            await asyncio.sleep(0.5)


def _audit(settings: Settings, events: int, output: Path) -> _Run:
    started, used_before, most = time.monotonic(), _children_cpu_s(), 0
    with output.open("wb") as file, output.with_suffix(".log").open("wb") as log:
        command = module("worker", "audit", "--json")
        process = subprocess.Popen(command, stdout=file, stderr=log, env=environment(settings), start_new_session=True)
    while process.poll() is None:
        most = max(most, _resident_bytes(process.pid))
        time.sleep(_LOOK_S)
    seconds = time.monotonic() - started
    counts = {} if process.returncode else json.loads(output.read_text())["counts"]
    if counts.get("clicks") != events or counts.get("scores") != events:
        raise SystemExit(f"error: the audit found something wrong\n{output.read_text()[-2000:]}")
    return _Run(seconds, _children_cpu_s() - used_before, most / 2**20)


def _children_cpu_s() -> float:
    """CPU time of the processes that were started here and have ended, with theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _resident_bytes(session: int) -> int:
    """Memory of the processes of a session."""
    pages = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            fields = stat.read_text().rpartition(")")[2].split()
            pages += int(fields[21]) if int(fields[3]) == session else 0
    return pages * resource.getpagesize()
