"""What an event costs the worker's own code, whatever the number of sessions that it keeps."""

import gc
import multiprocessing
import random
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from aiokafka import ConsumerRecord

from tests.logs import fold_events
from worker.batch import fold_batch, score_records
from worker.cold import ColdStore, cold_store
from worker.contract.codec import encode
from worker.contract.events import ClickEvent
from worker.contract.features import FeatureSpec
from worker.fetched import Fetched
from worker.scoring.fake import ConstantScorer
from worker.settings import Settings, StateSettings
from worker.store import PartitionState

FEW, MANY = 10_000, 1_000_000
#: Of the many so many in memory where the others are on disk.
_HOT = 100_000
_EVENTS_A_SESSION = 5
_MEASURED = 200_000
_BATCH = 1000
_START_MS = 1_760_000_000_000
_STEP_MS = 20_000  # shorter than a session's gap, so that sessions stay alive


def measure() -> dict[str, Any]:
    """Decode, fold, encode, constant score, score records and state, without Kafka: microseconds of CPU an event.

    Visitors come by chance, the worst that sessions on disk can meet: nine of ten have to be read from there.
    """
    few, _ = _alone(FEW)
    many, bytes_a_session = _alone(MANY)
    on_disk, bytes_with_disk = _alone(MANY, _HOT)
    return {
        f"{FEW:,} sessions: us/event": round(few, 2),
        f"{MANY:,} sessions: us/event": round(many, 2),
        "ratio": round(many / few, 2),
        "memory_bytes_a_session": round(bytes_a_session),
        f"{_HOT:,} of them in memory: us/event": round(on_disk, 2),
        f"{_HOT:,} of them in memory: memory_bytes_a_session": round(bytes_with_disk),
    }


def _alone(sessions: int, most_hot: int | None = None) -> tuple[float, float]:
    """In a process of its own: memory that one part gave back would not be counted in the next."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(_cost, sessions, most_hot).result()


def _cost(sessions: int, most_hot: int | None) -> tuple[float, float]:
    with (
        tempfile.TemporaryDirectory(prefix="inkling-bench-") as directory,
        cold_store(StateSettings(dir=Path(directory), hot_sessions=most_hot)) as store,
    ):
        return _cost_with(store, sessions)


def _cost_with(store: ColdStore | None, sessions: int) -> tuple[float, float]:
    settings, scorer = Settings(), ConstantScorer(0.25)
    state = PartitionState(FeatureSpec(), settings.session.policy, store)
    before = _resident_bytes()
    for start in range(0, sessions, _BATCH):
        events = [_event(visitor, number) for visitor in range(start, start + _BATCH) for number in range(_EVENTS_A_SESSION)]
        fold_events(state.fold, events, range(len(events)), encode=False)
        state.changes(0)
    memory = (_resident_bytes() - before) / sessions
    draw = random.Random(1)
    visitors = [draw.randrange(sessions) for _ in range(_MEASURED)]
    records = Fetched.of([_record(visitor, offset) for offset, visitor in enumerate(visitors)])
    gc.collect()
    began = time.process_time()
    for start in range(0, _MEASURED, _BATCH):
        batch = fold_batch(state, records[start : start + _BATCH], 10**12)
        assert batch.inputs is not None
        score_records(batch, scorer.score_now(batch.inputs, "1"), 0, settings, _START_MS)
    return (time.process_time() - began) / _MEASURED * 1e6, memory


def _event(visitor: int, number: int, event_id: str = "") -> ClickEvent:
    return ClickEvent(
        event_id=event_id or f"e{visitor}-{number}",
        event_time=_START_MS + number * _STEP_MS,
        visitor_id=f"v{visitor:08d}",
        event_type="view",
        item_id=f"item-{visitor * 7 % 5000 + number}",
        category=f"category-{visitor % 40}",
        brand=f"brand-{visitor % 90}",
        price=9.9,
    )


def _record(visitor: int, offset: int) -> ConsumerRecord:
    event = _event(visitor, _EVENTS_A_SESSION, f"more-{offset}")
    key = event.visitor_id.encode()
    return ConsumerRecord("clicks", 0, offset, _START_MS, 0, key, encode(event), None, 0, 0, ())


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
