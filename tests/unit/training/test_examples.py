"""Windows for training against what the worker would have had."""

import dataclasses

import numpy as np
import pytest

from tests.unit.training.shop import HOUR, MINUTE, click, on_one_partition, random_log
from training.examples import Examples, examples_of
from training.history import fold_log
from worker.contract.events import ClickEvent
from worker.contract.features import ROW, FeatureSpec
from worker.contract.fold import Fold
from worker.contract.session import SessionPolicy

SPEC, POLICY = FeatureSpec(window=8), SessionPolicy()


def examples(events: list[ClickEvent], spec: FeatureSpec = SPEC, until_ms: int | None = None) -> Examples:
    return examples_of(fold_log(on_one_partition(events), spec, POLICY, until_ms))


def served(events: list[ClickEvent], spec: FeatureSpec) -> dict[int, bytes]:
    """What the worker's model saw of each event, by its hash, chain hashes left out."""
    fold = Fold(spec, POLICY)
    seen = {}
    for offset, event in enumerate(events):
        session, outcome, _ = fold.apply(event, offset)
        assert outcome.changed
        seen[offset] = _visible(np.frombuffer(session.rows, ROW))
    return seen


def _visible(rows: np.ndarray) -> bytes:  # type: ignore[type-arg]
    return rows["codes"].tobytes() + rows["numbers"].tobytes()


@pytest.mark.parametrize("window", [2, 5, 8, 64])
@pytest.mark.parametrize("seed", range(3))
def test_each_event_is_predicted_once_from_what_the_worker_had(window: int, seed: int) -> None:
    """For every event the window up to it holds byte for byte the rows that serving encoded when it came."""
    spec = FeatureSpec(window=window)
    log = random_log(seed, visitors=3, span_ms=10 * HOUR)
    made = examples(log, spec)
    expected = served(log, spec)
    assert sorted(made.predicted) == list(range(len(log)))
    assert int((made.stop - made.start).max()) == window, "the log has sessions longer than a window"
    for start, first, stop in zip(made.start, made.first, made.stop, strict=True):
        for row in range(first, stop):
            assert _visible(made.rows[start : row + 1]) == expected[int(made.rows[row]["offset"])]


def test_batches_hold_every_predicted_event_once() -> None:
    """In order or shuffled; labels stand only where something is predicted."""
    made = examples(random_log(1))
    for rng in (None, np.random.default_rng(0)):
        rows = [batch.row[batch.predict] for batch in made.batches(50, rng)]
        assert sorted(np.concatenate(rows)) == sorted(made.predicted)
        assert max(map(len, rows)) < 50 + SPEC.window
    batch = made.batch(np.arange(len(made)))
    assert (batch.link[~batch.predict] == -1).all()
    assert (batch.next_item[~batch.predict] == -1).all()
    assert np.array_equal(batch.churn[batch.predict], made.labels.churn[batch.row[batch.predict]])


def test_a_split_cuts_by_the_start_of_sessions() -> None:
    """No session is on both sides, and none on the earlier side began after one on the later."""
    made = examples(random_log(2))
    earlier, later = made.split(0.6)
    assert not set(earlier.session) & set(later.session)
    assert len(earlier) + len(later) == len(made)
    assert earlier.started_ms.max() <= later.started_ms.min()
    assert earlier.sessions == round(0.6 * made.sessions)


def test_events_from_until_on_leave_no_trace() -> None:
    """The examples are those of a log that ends just before: rows, labels and counts of items alike."""
    log = random_log(3)
    cut = log[250].event_time
    made, truncated = examples(log, until_ms=cut), examples([event for event in log if event.event_time < cut])
    assert made.rows.tobytes() == truncated.rows.tobytes()
    for field in dataclasses.fields(made.labels):
        assert np.array_equal(getattr(made.labels, field.name), getattr(truncated.labels, field.name))
    assert made.items == truncated.items
    later = examples(log, until_ms=cut + 1)
    assert len(later.rows) > len(made.rows), "the event at the very millisecond is in as soon as the end is past it"


def test_between_takes_sessions_by_their_start() -> None:
    """A session that began before stays out, even though it goes on."""
    made = examples([click(0, 0), click(1, 10 * MINUTE), click(2, 2 * HOUR), click(3, 2 * HOUR + MINUTE)])
    times = made.rows["event_time"]
    assert made.between(int(times[1]), None).predicted.tolist() == [2, 3]
    assert made.between(None, int(times[2])).predicted.tolist() == [0, 1]


def test_a_late_event_is_a_row_in_its_place() -> None:
    """Late events are predicted too, and none is lost when a full window drops its older half."""
    log = [click(k, k * MINUTE) for k in range(8)] + [click(99, 7 * MINUTE - 1), click(100, 8 * MINUTE)]
    made = examples(log)
    assert len(made.rows) == len(log)
    assert (np.diff(made.rows["event_time"]) >= 0).all()
    assert sorted(made.predicted) == list(range(len(log)))
