"""Logistic regression: the yardstick that a sequence model has to beat."""

from training.baselines.features import Standard, features
from training.baselines.heads import BinaryHead, ClassHead
from training.forecast import Forecast
from training.session_log import NEXT_TYPES, SessionLog

#: Of the penalty on the weights of standardised features.
_STRENGTH = 10.0


class Logistic:
    """Logistic regression of the purchase and softmax regression of the next type on the table of features."""

    def fit(self, log: SessionLog, seed: int) -> None:
        """See `Baseline`."""
        values = features(log)
        self._standard = Standard(values)
        values = self._standard(values)
        self._purchase = BinaryHead(values, log.purchase, _STRENGTH, seed)
        self._next_type = ClassHead(values, log.next_type, NEXT_TYPES, _STRENGTH, seed)

    def predict(self, log: SessionLog) -> Forecast:
        """See `Baseline`."""
        values = self._standard(features(log))
        return Forecast(self._purchase(values), self._next_type(values))
