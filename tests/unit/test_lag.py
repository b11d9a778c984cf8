"""The lag metrics: what they say while the worker works, waits, is stuck, and gives partitions away."""

from collections.abc import Iterator

import pytest
from aiokafka.structs import TopicPartition
from prometheus_client import REGISTRY

from worker import metrics
from worker.lag import LagMetrics

NOW = 1_760_000_000_000
#: Partitions that no other test counts with.
ONE, TWO = TopicPartition("clicks", 901), TopicPartition("clicks", 902)


class Worker:
    """Progress as the test sets it."""

    def __init__(self) -> None:
        self.offsets = {ONE: 10, TWO: 20}
        self.waiting: dict[TopicPartition, int] = {}
        self.ends: dict[TopicPartition, int] = {}

    def finished(self) -> dict[TopicPartition, int]:
        return self.offsets

    def oldest_ms(self) -> dict[TopicPartition, int]:
        return self.waiting


@pytest.fixture
def worker() -> Iterator[Worker]:
    yield Worker()
    for gauge in (metrics.consumer_lag, metrics.consumer_lag_events, metrics.live_sessions):
        for tp in (ONE, TWO):
            gauge.remove(tp.partition)


def value(metric: str, tp: TopicPartition) -> float | None:
    return REGISTRY.get_sample_value(metric, {"partition": str(tp.partition)})


def test_nothing_waits(worker: Worker) -> None:
    """Idle is a lag of zero, not of the last record's age."""
    LagMetrics(worker, worker.offsets.get).show(NOW)
    assert value("inkling_consumer_lag_seconds", ONE) == 0
    assert value("inkling_consumer_lag_events", ONE) == 0


def test_a_stuck_worker_falls_behind_by_the_clock(worker: Worker) -> None:
    """When nothing gets finished, the lag grows though nobody reports anything."""
    worker.waiting = {TWO: NOW - 3_000}
    worker.ends = {TWO: 120}
    lag = LagMetrics(worker, worker.ends.get)
    lag.show(NOW)
    assert value("inkling_consumer_lag_seconds", TWO) == 3
    lag.show(NOW + 60_000)
    assert value("inkling_consumer_lag_seconds", TWO) == 63
    assert value("inkling_consumer_lag_seconds", ONE) == 0
    assert value("inkling_consumer_lag_events", TWO) == 100


def test_an_unknown_end_is_no_number(worker: Worker) -> None:
    """Before the first fetch nobody knows how many records wait."""
    LagMetrics(worker, lambda tp: None).show(NOW)
    assert value("inkling_consumer_lag_events", ONE) is None


def test_a_timestamp_in_the_future_is_no_negative_lag(worker: Worker) -> None:
    """A producer's clock that is ahead makes a lag of zero."""
    worker.waiting = {ONE: NOW + 5_000}
    LagMetrics(worker, worker.offsets.get).show(NOW)
    assert value("inkling_consumer_lag_seconds", ONE) == 0


def test_a_partition_that_is_given_away_takes_its_series_along(worker: Worker) -> None:
    """After a rebalance only the owner shows a partition's lag and sessions."""
    metrics.live_sessions.labels(TWO.partition).set(7)
    lag = LagMetrics(worker, worker.offsets.get)
    lag.show(NOW)
    del worker.offsets[TWO]
    lag.show(NOW)
    assert value("inkling_consumer_lag_seconds", TWO) is None
    assert value("inkling_consumer_lag_events", TWO) is None
    assert value("inkling_live_sessions", TWO) is None
    assert value("inkling_consumer_lag_seconds", ONE) == 0
