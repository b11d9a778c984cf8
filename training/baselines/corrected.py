"""A baseline that is told how far its scores hold on sessions that it has not seen."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from training.baselines.base import Baseline
from training.baselines.heads import LateCorrection, prior, shares, to_classes
from training.forecast import Forecast
from training.history import Ints
from training.labels import UNKNOWN
from training.metrics.draws import Doubles
from training.session_log import NEXT_TYPES, SessionLog

#: The share of the sessions, the earlier ones, that scores learn from before they are corrected on the others.
LEARNED_SHARE = 0.8
_SHARES = np.linspace(0.0, 1.0, 21)
_LEAST = 1e-6


class Corrected:
    """Fitted twice: to the earlier sessions, to see on the later ones what its probabilities are worth, then to all.

    For techniques that know sessions by the ids of their items: these learn sessions by heart, and are far too sure of others.
    """

    def __init__(self, make: Callable[[], Baseline]) -> None:
        self._make = make

    def fit(self, log: SessionLog, seed: int) -> None:
        """See `Baseline`."""
        earlier, later = log.split(LEARNED_SHARE)
        trial = self._make()
        trial.fit(earlier, seed)
        said = trial.predict(later)
        self._purchase = LateCorrection(said.purchase, later, prior(log.purchase))
        self._type = _Blend(said.next_type, later.next_type, NEXT_TYPES, log.next_type)
        classes = log.categories + 1
        label, whole = to_classes(later.next_category, classes), to_classes(log.next_category, classes)
        self._category = _Blend(said.next_category, label, classes, whole)
        self._baseline = self._make()
        self._baseline.fit(log, seed)

    def predict(self, log: SessionLog) -> Forecast:
        """See `Baseline`."""
        said = self._baseline.predict(log)
        return said._replace(
            purchase=self._purchase(said.purchase),
            next_type=self._type(said.next_type),
            next_category=self._category(said.next_category),
        )


class _Blend:
    """Distributions mixed with the log's shares as it would have been best on later sessions."""

    def __init__(self, p: npt.NDArray[Any] | None, label: Ints, classes: int, whole: Ints) -> None:
        """p [n, classes] and label [n] of the later sessions; `whole` are the labels of the log."""
        self._shares = shares(whole, classes)
        known = label != UNKNOWN
        self._share = 0.0
        if p is not None and known.any():
            given, usual = p[known, label[known]].astype(np.float64), self._shares[label[known]]
            losses = [-np.log(np.maximum(share * given + (1 - share) * usual, _LEAST)).mean() for share in _SHARES]
            self._share = float(_SHARES[int(np.argmin(losses))])

    def __call__(self, p: npt.NDArray[Any] | None) -> Doubles | None:
        return None if p is None else np.asarray(self._share * p + (1 - self._share) * self._shares)
