"""Events a second of one and of two processes under the supervisor: the same clicks, the same cores."""

import asyncio
import statistics
import time
from pathlib import Path

from tests.benchmarks.broker import committed, fresh_topics, read
from tests.benchmarks.process import environment, module, running
from worker.settings import KafkaSettings, Settings, WorkerSettings

_COUNTS = (1, 2)
_TIMEOUT_S = 300.0
#: Between these parts of the scores all processes are at work: before, they join; after, one may have finished earlier.
_FROM, _TO = 0.2, 0.9


def measure(bootstrap: str, clicks: str, events: int, rounds: int, work: Path) -> dict[str, float]:
    """The median of some rounds, which are run alternately. `clicks` is a topic that holds so many events."""
    rates: dict[int, list[float]] = {count: [] for count in _COUNTS}
    for number in range(rounds):
        for count in _COUNTS:
            group = f"bench-processes-{number}-{count}"
            settings = Settings(
                kafka=KafkaSettings(bootstrap_servers=bootstrap),
                topics=fresh_topics(bootstrap, clicks),
                worker=WorkerSettings(group=f"{group}-{clicks}"),
            )
            rates[count].append(asyncio.run(_rate(settings, events, count, work / f"{group}.log")))
    medians = {count: statistics.median(rates[count]) for count in _COUNTS}
    return {f"events_s_{count}_processes": round(rate) for count, rate in medians.items()} | {
        "two_to_one": round(medians[2] / medians[1], 2)
    }


async def _rate(settings: Settings, events: int, processes: int, log: Path) -> float:
    command = module("tests.support.constant_worker", "--delay-s", "0", "--processes", str(processes))
    deadline = time.monotonic() + _TIMEOUT_S
    with running(command, log, environment(settings)):
        while await committed(settings) < events:
            if time.monotonic() > deadline:
                raise SystemExit(f"error: {processes} processes did not finish in time\n{log.read_text()[-2000:]}")
            await asyncio.sleep(0.5)
    times = sorted(score.timestamp for score in await read(settings, settings.topics.scores))
    begin, end = times[int(_FROM * len(times))], times[int(_TO * len(times)) - 1]
    return (_TO - _FROM) * len(times) / ((end - begin) / 1000)
