"""Event to score with the shipped model in Triton, at fixed rates up to saturation. Nothing waits for an answer before it sends.

Latency is from the time that an event was due to be sent (its record's timestamp) to Kafka's append time of its score.
"""

import asyncio
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from deploy.local.stack import LocalStack
from tests.benchmarks.broker import committed, fresh_topics, read
from tests.benchmarks.clicks import Click, send_all, send_at_rate
from tests.benchmarks.process import environment, module, running
from worker.control import point_at
from worker.settings import (
    KafkaSettings,
    MetricsSettings,
    ModelSettings,
    ScoringSettings,
    Settings,
    TritonSettings,
    WorkerSettings,
)

SHARES = (0.25, 0.5, 0.75, 0.9)
#: The first seconds at a rate are not counted: connections open, and Triton sees new shapes.
_WARM_UP_S = 3.0
_TIMEOUT_S = 180.0
_SATURATION_EVENTS = 200_000
#: Before anything is counted half of what seems to be saturation is held for so long: a broker that has just started compiles
#: itself, which takes most of a minute of full load, and until then twice as much of the machine.
_BROKER_WARM_UP_S = 40.0
#: While saturation is searched, no answer is late: the fallback would answer faster than the model.
_NO_DEADLINE_MS = 60_000.0


class _Score(msgspec.Struct):
    scored_at: int
    age_ms: int
    path: str


_scores = msgspec.json.Decoder(_Score)


def measure(stack: LocalStack, clicks: Sequence[Click], seconds: float, work: Path) -> dict[str, Any]:
    """Saturation in events/s, then the latency at each share of it, `seconds` each."""
    return asyncio.run(_measure(stack, clicks, seconds, work))


async def _measure(stack: LocalStack, clicks: Sequence[Click], seconds: float, work: Path) -> dict[str, Any]:
    cold = await _saturation(stack, clicks, work)
    await _at_rate(stack, clicks, 0.5, 0.5 * cold, _BROKER_WARM_UP_S, work)
    saturation = await _saturation(stack, clicks, work)
    rows = [await _at_rate(stack, clicks, share, saturation * share, seconds, work) for share in SHARES]
    return {"saturation_events_s": round(saturation), "deadline_ms": ScoringSettings().deadline_ms, "rates": rows}


async def _saturation(stack: LocalStack, clicks: Sequence[Click], work: Path) -> float:
    """Events/s when all are there at the start, between the first and the last score."""
    settings = await _settings(stack, _NO_DEADLINE_MS)
    clicks = clicks[:_SATURATION_EVENTS]
    await send_all(settings.kafka.bootstrap_servers, settings.topics.clicks, clicks)
    with running(module("worker", "worker"), work / "latency.log", environment(settings)) as worker:
        await _until_committed(settings, len(clicks), worker)
    times = [record.timestamp for record in await read(settings, settings.topics.scores)]
    seconds: float = (max(times) - min(times)) / 1000
    return len(times) / seconds


async def _at_rate(
    stack: LocalStack, clicks: Sequence[Click], share: float, rate: float, seconds: float, work: Path
) -> dict[str, Any]:
    settings = await _settings(stack, ScoringSettings().deadline_ms)
    events = clicks[: int(rate * (seconds + _WARM_UP_S))]
    with running(module("worker", "worker"), work / "latency.log", environment(settings)) as worker:
        # One event shows that the worker has joined: its start is not what is measured.
        await send_all(settings.kafka.bootstrap_servers, settings.topics.clicks, clicks[-1:])
        await _until_committed(settings, 1, worker)
        started_ms = time.time() * 1000
        late = await send_at_rate(settings.kafka.bootstrap_servers, settings.topics.clicks, events, rate)
        await _until_committed(settings, len(events) + 1, worker)
    found = [(record.timestamp, _scores.decode(record.value)) for record in await read(settings, settings.topics.scores)]
    # The record's timestamp is what the score's age was reckoned from.
    due = np.array([score.scored_at - score.age_ms for _, score in found])
    counted = due >= started_ms + _WARM_UP_S * 1000
    latency = (np.array([appended for appended, _ in found]) - due)[counted]
    by_model = np.array([score.path == "model" for _, score in found])[counted]
    p50, p99, p999 = np.percentile(latency, (50, 99, 99.9))
    return {
        "share": share, "events_s": round(rate), "scores": int(counted.sum()),
        "p50_ms": round(float(p50)), "p99_ms": round(float(p99)), "p99.9_ms": round(float(p999)),
        "by_model": round(float(by_model.mean()), 4), "sender_late_ms": round(late * 1000),
    }  # fmt: skip


async def _settings(stack: LocalStack, deadline_ms: float) -> Settings:
    addresses = stack.addresses
    assert addresses.triton_grpc is not None
    topics = await asyncio.to_thread(fresh_topics, addresses.kafka)
    settings = Settings(
        kafka=KafkaSettings(bootstrap_servers=addresses.kafka),
        topics=topics,
        triton=TritonSettings(url=addresses.triton_grpc),
        scoring=ScoringSettings(deadline_ms=deadline_ms),
        model=ModelSettings(repository=Path(addresses.model_repository)),
        metrics=MetricsSettings(port=0),
        worker=WorkerSettings(group=topics.scores.replace("scores", "group"), commit_interval_s=0.2),
    )
    await point_at(settings, "1", by="benchmark", why="the default version")
    return settings


async def _until_committed(settings: Settings, events: int, worker: "subprocess.Popen[Any]") -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while (at := await committed(settings)) < events:
        if worker.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"error: the worker had {at} of {events} committed when it ended, or after {_TIMEOUT_S:g} s")
        await asyncio.sleep(0.1)
