"""How good the scores turned out to be, by version, on labels that have matured."""

from collections import OrderedDict, deque
from math import log

from worker.console.snapshot import Quality, shown
from worker.contract.events import HORIZONS, OutcomeEvent
from worker.quality import FALLBACK, WINDOW

#: Newest matured labels behind a figure: as many as behind the metrics.
LABELS = WINDOW
#: Below this many labels a log-loss is mostly chance, and is not shown.
MIN_LABELS = 20

HEAD = "purchase"

# A probability of exactly 0 or 1 would make one label infinitely bad.
_CLIP = 1e-6


class _Window:
    """The newest labels of one version and horizon, with running sums."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, float, int]] = deque()
        self._loss = self._p = 0.0
        self._positive = 0

    def add(self, p: float, label: int) -> None:
        kept = min(max(p, _CLIP), 1 - _CLIP)
        loss = -log(kept if label else 1 - kept)
        self._count((loss, p, label), 1)
        self._kept.append((loss, p, label))
        if len(self._kept) > LABELS:
            self._count(self._kept.popleft(), -1)

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def logloss(self) -> float:
        return max(0.0, self._loss / len(self._kept))

    def view(self, version: str, horizon: str) -> Quality:
        labels = len(self._kept)
        rate = self._positive / labels
        base = -(rate * log(rate) + (1 - rate) * log(1 - rate)) if 0 < rate < 1 else 0.0
        return Quality(shown(version), horizon, labels, round(self.logloss, 5), round(base, 5), round(self._p / labels, 5), rate)

    def _count(self, entry: tuple[float, float, int], sign: int) -> None:
        loss, p, label = entry
        self._loss += sign * loss
        self._p += sign * p
        self._positive += sign * label


class OnlineQuality:
    """Log-loss and calibration for the newest versions, and for the fallback. Censored outcomes and other heads are left out."""

    def __init__(self, versions: int = 6) -> None:
        self._limit = versions
        self._windows: OrderedDict[str, dict[str, _Window]] = OrderedDict()  # by version, then horizon
        self.matured = 0  # labels counted since the start

    def add(self, outcome: OutcomeEvent) -> None:
        """Counts one outcome."""
        if outcome.head != HEAD or outcome.censored or outcome.label is None:
            return
        self.matured += 1
        version = outcome.version if outcome.path == "model" else FALLBACK
        horizons = self._windows.setdefault(version, {})
        self._windows.move_to_end(version)
        if len(self._windows) > self._limit:
            self._windows.popitem(last=False)
        horizons.setdefault(outcome.horizon, _Window()).add(outcome.p, outcome.label)

    def logloss(self, version: str, horizon: str) -> float | None:
        """The present log-loss, None while there are too few labels."""
        window = self._windows.get(version, {}).get(horizon)
        return round(window.logloss, 5) if window is not None and len(window) >= MIN_LABELS else None

    def views(self) -> list[Quality]:
        """Every version and horizon with enough labels, the latest labelled version first."""
        return [
            horizons[horizon].view(version, horizon)
            for version, horizons in reversed(self._windows.items())
            for horizon in HORIZONS
            if horizon in horizons and len(horizons[horizon]) >= MIN_LABELS
        ]
