"""What every baseline is: fitted to a log of sessions, it says of each event of another what comes next."""

from typing import Protocol

from training.forecast import Forecast
from training.session_log import SessionLog


class Baseline(Protocol):
    """One technique with its own fixed settings. Deterministic by its seed.

    The laws (tests/conformance): probabilities lie within [0, 1]; the same seed gives the same forecast; what is said of an event
    rests on its session up to the event, and so does not change when later events are taken away; a log without purchases, with
    few sessions or a single type of event fits, too.
    """

    def fit(self, log: SessionLog, seed: int) -> None:
        """Learn from all labels of the log that are not UNKNOWN. Called once."""
        ...

    def predict(self, log: SessionLog) -> Forecast:
        """A forecast for every event. The log's items and categories are numbered as those that it was fitted to."""
        ...
