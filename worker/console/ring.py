"""Counts per second over the newest stretch of time, in constant memory."""

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]


class Ring:
    """`width` counters for each of the newest `seconds` seconds.

    Times are whole seconds on any one scale. They may arrive out of order; older ones than the ring holds are left out.
    """

    def __init__(self, seconds: int, width: int = 1) -> None:
        self.seconds = seconds
        self._counts: Counts = np.zeros((seconds, width), np.int64)
        self._newest = 0

    def add(self, second: int, column: int = 0, count: int = 1) -> None:
        """Counts something that happened in `second`."""
        if second > self._newest:
            self._advance(second)
        if second > self._newest - self.seconds:
            self._counts[second % self.seconds, column] += count

    def window(self, end: int, seconds: int) -> Counts:
        """The seconds [end - seconds, end), oldest first: int64 [seconds, width]. Nothing is known of later ones: zeros."""
        wanted = np.arange(end - seconds, end)
        counts: Counts = self._counts[wanted % self.seconds]
        counts[(wanted > self._newest) | (wanted <= self._newest - self.seconds)] = 0
        return counts

    def _advance(self, second: int) -> None:
        gone = min(second - self._newest, self.seconds)
        self._counts[np.arange(second - gone + 1, second + 1) % self.seconds] = 0
        self._newest = second


# Buckets 5% apart from 1 ms to about half an hour: a percentile is off by 2.5% at most, far below what a page can show.
_GROWTH = np.log(1.05)
_LATENCY_BUCKETS = 300


class LatencyRing:
    """Latencies per second, for percentiles over any part of the window."""

    def __init__(self, seconds: int) -> None:
        self._ring = Ring(seconds, _LATENCY_BUCKETS)

    def add(self, second: int, latency_ms: float) -> None:
        """Counts one latency that was observed in `second`."""
        bucket = int(np.log1p(max(0.0, latency_ms)) / _GROWTH)
        self._ring.add(second, min(bucket, _LATENCY_BUCKETS - 1))

    def percentiles(self, end: int, seconds: int, shares: tuple[float, ...]) -> tuple[float | None, ...]:
        """Latency in ms below which each share lies, over [end - seconds, end); None where nothing was observed."""
        counts = self._ring.window(end, seconds).sum(axis=0)
        total = counts.sum()
        if not total:
            return (None,) * len(shares)
        reached = np.searchsorted(counts.cumsum(), np.array(shares) * total)
        return tuple(_middle_ms(int(bucket)) for bucket in reached)

    def series(self, end: int, seconds: int, share: float) -> list[float | None]:
        """One percentile for each second of [end - seconds, end)."""
        return [self.percentiles(second + 1, 1, (share,))[0] for second in range(end - seconds, end)]


def _middle_ms(bucket: int) -> float:
    return round(float(np.expm1((bucket + 0.5) * _GROWTH)), 1)
