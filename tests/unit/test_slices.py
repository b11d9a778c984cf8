"""Tests for training/slices.py, on a simulated log."""

from dataclasses import replace

import numpy as np
import pytest

from training.examples import Examples, examples_of
from training.history import History, fold_log
from training.labels import UNKNOWN
from training.read import LoggedEvent, logged
from training.simulate import DEFAULT_SHOP, load_shop, simulate
from training.slices import CALIBRATION_SHARE, EVALUATION_SHARE, Slices, slice_log
from worker.contract.features import FeatureSpec
from worker.contract.session import SessionPolicy

START_MS = 1_790_000_000_000
POLICY = SessionPolicy()


@pytest.fixture(scope="module")
def events() -> list[LoggedEvent]:
    stream = simulate(load_shop(DEFAULT_SHOP), 600, 5, START_MS, sessions_per_hour=10)
    return list(logged(stream.events(), 4))


def folded(events: list[LoggedEvent], until_ms: int | None = None) -> History:
    return fold_log(events, FeatureSpec(), POLICY, until_ms)


@pytest.fixture(scope="module")
def history(events: list[LoggedEvent]) -> History:
    return folded(events)


def sliced(history: History, known_until_ms: int | None = None) -> Slices:
    slices = slice_log(history, known_until_ms)
    assert slices is not None
    return slices


def test_what_judges_is_later_than_what_is_learned(history: History) -> None:
    """No session is in two slices, and they follow each other in time."""
    slices = sliced(history)
    assert slices.fresh.started_ms.max() <= slices.calibration.started_ms.min()
    assert slices.calibration.started_ms.max() < slices.cut_ms <= slices.evaluation.started_ms.min()
    in_order = [slices.fresh, slices.calibration, slices.evaluation]
    assert sum(part.sessions for part in in_order) == history.sessions
    assert len(np.unique(np.concatenate([np.unique(part.session) for part in in_order]))) == history.sessions


def test_shares_are_as_said(history: History) -> None:
    """Of all sessions here, as nearly all have a known outcome."""
    slices = sliced(history)
    assert slices.evaluation.sessions == pytest.approx(EVALUATION_SHARE * history.sessions, rel=0.1)
    assert slices.calibration.sessions == pytest.approx(CALIBRATION_SHARE * (1 - EVALUATION_SHARE) * history.sessions, rel=0.1)


def test_labels_to_learn_from_are_those_of_a_log_that_ends_at_the_cut(events: list[LoggedEvent], history: History) -> None:
    """As if nothing after it had ever been read: no outcome of the judging time leaks back."""
    slices = sliced(history)
    ended = folded(events, slices.cut_ms)
    # At the cut it was known that nothing more had come by then.
    ended = replace(ended, newest_ms=np.full_like(ended.newest_ms, slices.cut_ms))
    then = examples_of(ended).between(None, slices.cut_ms)
    known = labels_by_event(then)
    leaked = labels_by_event(slices.learned)
    assert known
    for key, labels in known.items():
        np.testing.assert_array_equal(leaked.pop(key), labels)
    # What is left are events after the cut, of sessions that began before it: nothing may be known of them.
    assert all((labels == UNKNOWN).all() for labels in leaked.values())


def labels_by_event(examples: Examples) -> dict[int, np.ndarray]:
    rows = examples.predicted
    labels = examples.labels
    columns = [
        examples.link[rows].reshape(len(rows), -1),
        labels.churn[rows, None],
        labels.next_type[rows, None],
        labels.next_item[rows, None],
    ]
    return dict(zip(examples.rows["event_hash"][rows].tolist(), np.concatenate(columns, axis=1), strict=True))


def test_what_the_champion_knows_is_replayed_and_never_judges(history: History) -> None:
    """Only later sessions are new."""
    known_until_ms = int(np.quantile(examples_of(history).started_ms, 0.5))
    slices = sliced(history, known_until_ms)
    assert 0 < slices.replay.sessions < history.sessions
    assert slices.replay.started_ms.max() < known_until_ms
    for part in (slices.fresh, slices.calibration, slices.evaluation):
        assert part.started_ms.min() >= known_until_ms


def test_a_log_without_anything_new_has_no_slices(history: History) -> None:
    """Nor does one whose new sessions are all still open."""
    newest_ms = int(history.newest_ms.max())
    assert slice_log(history, newest_ms + 1) is None
    assert slice_log(history, newest_ms - POLICY.gap_ms // 2) is None
    assert slice_log(folded([]), None) is None
