"""How far the worker is behind, looked at now and then: a worker that is stuck shows it as well as one that is slow."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from aiokafka.structs import TopicPartition

from worker import metrics

_CHECK_S = 0.5


class Progress(Protocol):
    """What is asked how far it is."""

    def finished(self) -> Mapping[TopicPartition, int]:
        """The offset below which all is done, by partition that it owns."""

    def oldest_ms(self) -> Mapping[TopicPartition, int]:
        """The Kafka timestamp of the oldest record that was taken and is not finished, by partition that has one."""


class LagMetrics:
    """Sets the lag metrics of the partitions that are owned, and ends those of partitions that are not any more."""

    def __init__(self, progress: Progress, end_offset: Callable[[TopicPartition], int | None]) -> None:
        self._progress = progress
        self._end_offset = end_offset
        self._shown: set[int] = set()

    def show(self, now_ms: int) -> None:
        """Records are in order, so the oldest unfinished one stands for all that wait behind it, in Kafka too."""
        finished, oldest_ms = self._progress.finished(), self._progress.oldest_ms()
        for tp, done in finished.items():
            waits_since_ms = oldest_ms.get(tp)
            lag_s = 0.0 if waits_since_ms is None else max(now_ms - waits_since_ms, 0) / 1000
            metrics.consumer_lag.labels(tp.partition).set(lag_s)
            end = self._end_offset(tp)
            if end is not None:
                metrics.consumer_lag_events.labels(tp.partition).set(max(end - done, 0))
        owned = {tp.partition for tp in finished}
        for partition in self._shown - owned:
            for gauge in (metrics.consumer_lag, metrics.consumer_lag_events, metrics.live_sessions):
                gauge.remove(partition)
        self._shown = owned


async def watch_lag(lag: LagMetrics) -> None:
    """Shows the lag until cancelled."""
    while True:
        await asyncio.sleep(_CHECK_S)
        lag.show(time.time_ns() // 1_000_000)
