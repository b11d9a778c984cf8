"""Our own model as an entry among the others: learned, calibrated and asked as `inkling train` and `inkling score` do it."""

from training.evaluate import predict
from training.examples import examples_of
from training.forecast import LISTED, Forecast
from training.make_version import learn
from training.session_log import SessionLog
from training.version_forecast import forecast_of


class SessionTransformer:
    """The session Transformer that is served. It sees the worker's sessions and windows, whatever the shop calls a session."""

    def fit(self, log: SessionLog, seed: int) -> None:
        """See `Baseline`."""
        self._learned, self._categories = learn(examples_of(log.history), seed=seed), log.categories

    def predict(self, log: SessionLog) -> Forecast:
        """See `Baseline`."""
        model, next_categories = self._learned.model, self._learned.next_categories
        predictions = predict(model, examples_of(log.history), LISTED)
        return forecast_of(predictions, model.candidates, next_categories, log.history, log.names, log, self._categories)
