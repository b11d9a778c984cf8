"""How good the scores turned out to be: log-loss, calibration error and AUC over the newest matured labels."""

from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from worker import metrics
from worker.contract.events import OutcomeEvent

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

#: Newest matured labels behind a figure.
WINDOW = 2000
#: Versions that have figures: the champion, the one before it, and one that is tried. Bounds the number of series.
VERSIONS = 3
#: What the figures of the fallback's answers are filed under: they say nothing about the version that was down.
FALLBACK = "fallback"

_BINS = 10
# A probability of exactly 0 or 1 would make one label infinitely bad.
_CLIP = 1e-6


class Series(NamedTuple):
    """What a figure is about."""

    head: str
    horizon: str
    version: str


class Figures(NamedTuple):
    """Quality over `labels` labels. `auc` is NaN while they are all the same."""

    labels: int
    logloss: float
    ece: float
    auc: float


class OnlineQuality:
    """The newest labels of the newest versions, and the figures over them. Censored outcomes are left out."""

    def __init__(self) -> None:
        self._versions: OrderedDict[str, dict[tuple[str, str], deque[tuple[float, int]]]] = OrderedDict()
        self._shown: set[Series] = set()

    def observe(self, outcomes: Iterable[OutcomeEvent]) -> None:
        """Count outcomes."""
        for outcome in outcomes:
            if outcome.label is None:
                continue
            version = outcome.version if outcome.path == "model" else FALLBACK
            series = self._versions.setdefault(version, {})
            self._versions.move_to_end(version)
            window = series.get((outcome.head, outcome.horizon))
            if window is None:
                window = series[outcome.head, outcome.horizon] = deque(maxlen=WINDOW)
            window.append((outcome.p, outcome.label))
        while len(self._versions) > VERSIONS:
            self._versions.popitem(last=False)

    def figures(self) -> dict[Series, Figures]:
        """The figures now."""
        return {
            Series(head, horizon, version): _figures(window)
            for version, series in self._versions.items()
            for (head, horizon), window in series.items()
        }

    def publish(self) -> None:
        """Set the metrics, and end the series of versions that are gone."""
        figures = self.figures()
        gauges = (metrics.online_labels, metrics.online_logloss, metrics.online_ece, metrics.online_auc)
        for series, values in figures.items():
            for gauge, value in zip(gauges, values, strict=True):
                gauge.labels(*series).set(value)
        for series in self._shown - figures.keys():
            for gauge in gauges:
                gauge.remove(*series)
        self._shown = set(figures)


def log_loss(p: Floats, happened: Bools) -> float:
    """Mean log-loss of probabilities [N] for what happened [N]."""
    kept = np.clip(p, _CLIP, 1 - _CLIP)
    return float(-np.log(np.where(happened, kept, 1 - kept)).mean())


def calibration_error(p: Floats, happened: Bools) -> float:
    """Expected calibration error over ten bins of equal count: mean gap between mean probability and rate."""
    order = np.argsort(p, kind="stable")
    bins = np.array_split(order, min(_BINS, len(p)))
    return float(sum(abs(p[bin_].sum() - happened[bin_].sum()) for bin_ in bins) / len(p))


def roc_auc(p: Floats, happened: Bools) -> float:
    """Chance that one to which it happened had the higher probability; ties count half. NaN when there is one kind only."""
    positive = int(happened.sum())
    negative = len(p) - positive
    if not positive or not negative:
        return float("nan")
    _, inverse, counts = np.unique(p, return_inverse=True, return_counts=True)
    last_rank = np.cumsum(counts)
    mean_rank = last_rank - (counts - 1) / 2  # of each distinct value
    ranks = float(mean_rank[inverse][happened].sum())
    return (ranks - positive * (positive + 1) / 2) / (positive * negative)


def _figures(window: deque[tuple[float, int]]) -> Figures:
    table = np.array(window, np.float64)  # [N, 2]
    p, happened = table[:, 0], table[:, 1] > 0
    return Figures(len(window), log_loss(p, happened), calibration_error(p, happened), roc_auc(p, happened))
