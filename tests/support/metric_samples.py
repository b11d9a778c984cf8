"""Synthetic samples for every metric of the worker, so that queries have something to find.

Always in a process of its own: metrics are global, and other tests count with them.
"""

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import generate_latest

from worker import metrics
from worker.contract.events import HAZARD_HEADS, HORIZONS, Reason
from worker.http import process_routes, serve

_STAGES = ("fold", "score", "publish")
_DROPPED = ("duplicate", "too_late")
_OUTCOMES = ("appended", "new_session", "late", *_DROPPED)
_RESULTS = ("ok", "deadline", "rejected", "unavailable", "breaker_open", "unverified")


def exposition(filled: bool = True) -> str:
    """What /metrics of a fresh process shows, with samples or without."""
    command = [sys.executable, "-m", __name__, "print" if filled else "print-empty"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@contextmanager
def exporter() -> Iterator[str]:
    """`host:port` of a process that serves /metrics and adds samples five times a second."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip().removeprefix("http://")
    finally:
        process.stdin.close()  # which ends it
        process.stdout.close()
        process.wait(timeout=10)


def fill(partitions: int = 4, versions: int = 2, seed: int = 1) -> None:
    """One burst of traffic on every metric, with every label value that there is."""
    draw = random.Random(seed)
    for partition in range(partitions):
        metrics.events.labels(partition).inc(draw.randrange(100, 200))
        metrics.consumer_lag.labels(partition).set(draw.random() / 10)
        metrics.consumer_lag_events.labels(partition).set(draw.randrange(20))
        metrics.live_sessions.labels(partition).set(draw.randrange(500, 600))
    metrics.scores.labels("model").inc(500)
    metrics.scores.labels("fallback").inc(3)
    for reason in Reason:
        metrics.dead_letters.labels(reason.value).inc(draw.randrange(3))
    for reason in _DROPPED:
        metrics.dropped.labels(reason).inc()
    for outcome in _OUTCOMES:
        metrics.outcomes.labels(outcome).inc(10)
    for _ in range(200):
        metrics.event_to_score.observe(draw.lognormvariate(-3.4, 0.6))
        metrics.loop_lag.observe(draw.random() / 100)
        metrics.batch_events.observe(draw.randrange(1, 300))
        metrics.scorer_seconds.observe(draw.lognormvariate(-4, 0.5))
        for stage in _STAGES:
            metrics.stage.labels(stage).observe(draw.lognormvariate(-4.5, 0.5))
    metrics.rebalance.observe(1.2)
    metrics.recovery.observe(0.7)
    metrics.state_bytes.inc(90_000)
    metrics.delivery_retries.inc()
    metrics.model_swaps.inc()
    metrics.breaker_open.set(0)
    metrics.model_info.info({"name": "intent", "version": str(versions)})
    metrics.model_trained_until.set(1_760_000_000)
    for result in _RESULTS:
        metrics.scorer_requests.labels(result).inc(5)
    metrics.labels_pending.set(1234)
    _fill_quality(versions, draw)


def _fill_quality(versions: int, draw: random.Random) -> None:
    series = [(head, horizon) for head in HAZARD_HEADS for horizon in HORIZONS] + [("churn", "session")]
    for head, horizon in series:
        metrics.labels_joined.labels(head, horizon).inc(400)
        for version in range(1, versions + 1):
            labels = (head, horizon, str(version))
            metrics.online_labels.labels(*labels).set(2000)
            metrics.online_logloss.labels(*labels).set(0.3 + draw.random() / 10)
            metrics.online_ece.labels(*labels).set(draw.random() / 50)
            metrics.online_auc.labels(*labels).set(0.75 + draw.random() / 10)


async def _serve() -> None:
    fill()
    server = await serve("127.0.0.1", 0, process_routes(lambda: (True, "ready")))
    print(server.url, flush=True)
    parent = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    while not parent.done():
        fill()
        await asyncio.sleep(0.2)
    await server.close()


if __name__ == "__main__":
    match sys.argv[1]:
        case "serve":
            asyncio.run(_serve())
        case "print":
            fill(partitions=64, versions=4)
            print(generate_latest().decode())
        case _:
            print(generate_latest().decode())
