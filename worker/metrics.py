"""Every metric, once. Labels come from closed sets; `version` is bounded to the newest few. Units are base units."""

import numpy as np
import numpy.typing as npt
from prometheus_client import Counter, Gauge, Histogram, Info, disable_created_metrics

from worker.contract.events import Reason

# A second series for each counter and histogram that says when it began: nobody asks.
disable_created_metrics()  # type: ignore[no-untyped-call]


class BatchHistogram(Histogram):
    """A histogram that takes a batch of values at once: one by one they cost more than to decode the events."""

    def observe_all(self, values: npt.NDArray[np.float64]) -> None:
        """The same as `observe` of each."""
        self._sum.inc(float(values.sum()))
        places = np.searchsorted(self._upper_bounds, values)
        for place, count in enumerate(np.bincount(places, minlength=len(self._upper_bounds)).tolist()):
            if count:
                self._buckets[place].inc(count)


_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
# For what takes seconds when all is well; the objectives, 10 s and 30 s, are bounds.
_LONG_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60, 120)
_BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)

events = Counter("inkling_events", "Records taken from the clicks topic.", ["partition"])
scores = Counter("inkling_scores", "Scores confirmed by Kafka.", ["path"])
revisions = Counter(
    "inkling_revisions", "Scores made anew after a late event; gone are those whose click has left its topic.", ["result"]
)
copies = Counter(
    "inkling_copies", "Clicks copied for their users' sequences; gone are those that have left their topic.", ["result"]
)
dead_letters = Counter("inkling_dead_letters", "Records that are no events.", ["reason"])
dropped = Counter("inkling_dropped", "Events left out by policy.", ["reason"])
outcomes = Counter("inkling_session_outcomes", "What events did to their sessions.", ["outcome"])
event_to_score = BatchHistogram(
    "inkling_event_to_score_seconds", "From the record's Kafka timestamp to its confirmed score.", buckets=_SECONDS
)
stage = Histogram("inkling_stage_seconds", "Time of one batch in one stage.", ["stage"], buckets=_SECONDS)
batch_events = Histogram("inkling_batch_events", "Events in one batch.", buckets=_BATCH)
consumer_lag = Gauge("inkling_consumer_lag_seconds", "Age of the oldest record that is not finished.", ["partition"])
consumer_lag_events = Gauge("inkling_consumer_lag_events", "Records waiting.", ["partition"])
live_sessions = Gauge("inkling_live_sessions", "Sessions that are kept, in memory or on disk.", ["partition"])
cold_reads = Counter("inkling_cold_reads_total", "Sessions that were read from disk.")
state_bytes = Counter("inkling_changelog_bytes", "Bytes of state written to the changelog.")
rebalance = Histogram("inkling_rebalance_seconds", "From losing partitions to having the new ones ready.", buckets=_LONG_SECONDS)
recovery = Histogram("inkling_recovery_seconds", "Time to read one partition's state back.", buckets=_LONG_SECONDS)
loop_lag = Histogram(
    "inkling_event_loop_lag_seconds", "How late the event loop is for what is due, 20 times a second.", buckets=_SECONDS
)
delivery_retries = Counter("inkling_delivery_retries", "Batches sent again because Kafka did not confirm.")

model_info = Info("inkling_model", "The version that new scores come from.")
model_trained_until = Gauge("inkling_model_trained_until_timestamp_seconds", "Newest label in the serving version, 0 if unknown.")
model_swaps = Counter("inkling_model_swaps", "Versions switched to.")
scorer_requests = Counter("inkling_scorer_requests", "Requests to the model server.", ["result"])
scorer_seconds = Histogram("inkling_scorer_seconds", "Time of one request to the model server.", buckets=_SECONDS)
breaker_open = Gauge("inkling_breaker_open", "1 while the breaker keeps requests from the model server.")

labels_joined = Counter("inkling_outcomes", "Outcomes emitted.", ["head", "horizon"])
labels_pending = Gauge("inkling_outcomes_pending", "Scores that wait for a horizon to pass.")
online_logloss = Gauge("inkling_online_logloss", "Log-loss on matured labels, newest 2,000.", ["head", "horizon", "version"])
online_ece = Gauge("inkling_online_ece", "Calibration error on matured labels, newest 2,000.", ["head", "horizon", "version"])
online_auc = Gauge("inkling_online_auc", "ROC AUC on matured labels, newest 2,000.", ["head", "horizon", "version"])
online_labels = Gauge("inkling_online_labels", "Matured labels behind the online figures.", ["head", "horizon", "version"])

# Present at zero from the start, so that the first dead letter or fallback answer is an increase and not a new series.
for _reason in Reason:
    dead_letters.labels(_reason.value)
for _path in ("model", "fallback"):
    scores.labels(_path)
for _result in ("model", "fallback", "gone"):
    revisions.labels(_result)
for _result in ("written", "gone"):
    copies.labels(_result)
