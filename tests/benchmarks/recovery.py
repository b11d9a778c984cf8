"""How long a worker takes to read its sessions back, and how large they are."""

import asyncio
import json
import resource
import sys
import time
from pathlib import Path

from tests.benchmarks.broker import fresh_topics
from tests.benchmarks.process import environment, module, running
from tests.logs import fold_events
from worker import metrics
from worker.contract.events import ClickEvent
from worker.contract.features import FeatureSpec
from worker.delivery import Delivery
from worker.pipeline import warm_up
from worker.record_batch import Records
from worker.settings import KafkaSettings, Settings
from worker.store import KafkaSource, PartitionState, restore

_EVENTS_A_SESSION = 5
_BATCH = 1000
_SPEC = FeatureSpec()
_START_MS = 1_760_000_000_000


def measure(bootstrap: str, sessions: int, work: Path) -> dict[str, float]:
    """Recovery of K sessions of five events each, all four partitions by one process that has nothing else to do."""
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=bootstrap), topics=fresh_topics(bootstrap))
    written = asyncio.run(_write(settings, sessions))
    log = work / "recovery.log"
    with running(module("tests.benchmarks.recovery"), log, environment(settings)) as process:
        if process.wait(600):
            raise SystemExit(f"error: recovery failed\n{log.read_text()[-2000:]}")
    found: dict[str, float] = json.loads(log.read_text().splitlines()[-1])
    if found.pop("sessions") != sessions:
        raise SystemExit("error: recovery did not find every session")
    return {"sessions": sessions, "events_a_session": _EVENTS_A_SESSION, "changelog_bytes_a_session": written, **found}


async def _write(settings: Settings, sessions: int) -> float:
    """Fold and write K sessions through the worker's own store and delivery; returns bytes in the changelog for each."""
    delivery = Delivery(settings)
    await delivery.start()
    before = metrics.state_bytes._value.get()
    try:
        partitions = settings.topics.partitions
        for partition in range(partitions):
            owner = await delivery.own(partition)
            state = PartitionState(_SPEC, settings.session.policy)
            visitors = range(partition, sessions, partitions)
            for start in range(0, len(visitors), _BATCH):
                events = [event for visitor in visitors[start : start + _BATCH] for event in _events(visitor)]
                end = (start + _BATCH) * _EVENTS_A_SESSION
                fold_events(state.fold, events, range(end - len(events), end), encode=False)
                await delivery.keep(owner, Records.of([]), [], [], state.changes(end))
            delivery.disown(owner)
    finally:
        await delivery.stop()
    written: float = metrics.state_bytes._value.get() - before
    return round(written / sessions, 1)


def _events(visitor: int) -> list[ClickEvent]:
    return [
        ClickEvent(
            event_id=f"e{visitor}-{number}",
            event_time=_START_MS + number * 20_000,
            visitor_id=f"v{visitor:08d}",
            event_type="view",
            item_id=f"item-{visitor * 7 % 5000 + number}",
            category=f"category-{visitor % 40}",
            price=9.9,
        )
        for number in range(_EVENTS_A_SESSION)
    ]


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


async def _restore(settings: Settings) -> dict[str, float]:
    warm_up()  # as a worker does at its start
    before = _resident_bytes()
    started = time.monotonic()
    states = await restore(KafkaSource(settings), settings, range(settings.topics.partitions), _SPEC)
    seconds = time.monotonic() - started
    sessions = sum(len(state.fold) for state in states.values())
    memory = (_resident_bytes() - before) / sessions
    return {"sessions": sessions, "seconds": round(seconds, 3), "memory_bytes_a_session": round(memory)}


if __name__ == "__main__":
    json.dump(asyncio.run(_restore(Settings())), sys.stdout)
