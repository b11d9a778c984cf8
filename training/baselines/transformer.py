"""Our own model as an entry among the others: learned, calibrated and asked as `inkling train` and `inkling score` do it."""

import numpy as np

from training.calibrate import calibrate
from training.evaluate import predict
from training.examples import Examples, examples_of
from training.forecast import LISTED, Forecast
from training.make_version import TRAINED_SHARE
from training.serving import Calibration, Candidates, ServingModel
from training.session_log import SessionLog
from training.train import train
from training.version_forecast import forecast_of

#: As in `make_version`: with fewer sessions all of them train.
_FEW_SESSIONS = 200


class SessionTransformer:
    """The session Transformer that is served. It sees the worker's sessions and windows, whatever the shop calls a session."""

    def fit(self, log: SessionLog, seed: int) -> None:
        """See `Baseline`."""
        self._model = _learned(examples_of(log.history), seed)

    def predict(self, log: SessionLog) -> Forecast:
        """See `Baseline`."""
        predictions = predict(self._model, examples_of(log.history), LISTED)
        return forecast_of(predictions, self._model.candidates, log.history, log.names, log)


def _learned(examples: Examples, seed: int) -> ServingModel:
    few = examples.sessions < _FEW_SESSIONS
    earlier, later = (examples, examples.select(np.zeros(0, np.int64))) if few else examples.split(TRAINED_SHARE)
    network = train(earlier, seed=seed)
    return ServingModel(
        network, calibrate(network, later) if len(later) else Calibration(), Candidates.most_frequent(examples.items)
    )
