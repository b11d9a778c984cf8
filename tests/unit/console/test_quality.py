"""Log-loss by version on matured labels."""

import math
import random

import msgspec
import pytest

from worker.console import quality as quality_module
from worker.console.quality import MIN_LABELS, OnlineQuality
from worker.contract.events import OutcomeEvent


def outcome(p: float, label: int | None, version: str = "7", horizon: str = "session", head: str = "purchase") -> OutcomeEvent:
    censored = label is None
    return OutcomeEvent("o", "s", "e", "ann", head, horizon, label, censored, None, 0, p, version, "model")  # type: ignore[arg-type]


def test_logloss_is_the_mean_over_the_newest_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The running figure equals the log-loss of the newest labels computed at once."""
    monkeypatch.setattr(quality_module, "LABELS", 100)
    draw = random.Random(3)
    pairs = [(draw.random(), draw.randrange(2)) for _ in range(350)]
    quality = OnlineQuality()
    for p, label in pairs:
        quality.add(outcome(p, label))
    newest = pairs[-100:]
    expected = -sum(math.log(p if label else 1 - p) for p, label in newest) / 100
    (view,) = quality.views()
    assert view.logloss == pytest.approx(expected, abs=1e-4)
    assert view.labels == 100
    assert view.predicted == pytest.approx(sum(p for p, _ in newest) / 100, abs=1e-4)
    assert view.happened == pytest.approx(sum(label for _, label in newest) / 100)
    assert quality.matured == 350


def test_the_base_rate_is_the_yardstick() -> None:
    """`base` is what always saying the mean label would have cost: three in ten cost 0.6109."""
    quality = OnlineQuality()
    for number in range(100):
        quality.add(outcome(0.3, int(number % 10 < 3)))
    (view,) = quality.views()
    assert view.base == pytest.approx(0.6109, abs=1e-4)
    assert view.logloss == pytest.approx(view.base, abs=1e-4)


def test_few_labels_say_nothing() -> None:
    """Below the least number of labels nothing is shown."""
    quality = OnlineQuality()
    for _ in range(MIN_LABELS - 1):
        quality.add(outcome(0.5, 1))
    assert quality.views() == []
    assert quality.logloss("7", "session") is None
    quality.add(outcome(0.5, 1))
    assert quality.logloss("7", "session") == pytest.approx(0.6931, abs=1e-4)


def test_censored_and_other_heads_are_left_out() -> None:
    """A censored outcome is no label, and churn or cart are not purchases."""
    quality = OnlineQuality()
    for _ in range(MIN_LABELS):
        quality.add(outcome(0.5, None))
        quality.add(outcome(0.5, 1, head="churn"))
    assert (quality.views(), quality.matured) == ([], 0)


def test_certainty_that_was_wrong_is_finite() -> None:
    """A score of 1 for what did not happen costs much, but not infinitely much."""
    quality = OnlineQuality()
    for _ in range(MIN_LABELS):
        quality.add(outcome(1.0, 0))
    assert quality.views()[0].logloss == pytest.approx(-math.log(1e-6), rel=1e-3)


def test_the_fallback_answers_for_itself() -> None:
    """What the fallback foretold says nothing about the version that was down."""
    quality = OnlineQuality()
    for _ in range(MIN_LABELS):
        quality.add(msgspec.structs.replace(outcome(0.5, 1), path="fallback"))
    assert [view.version for view in quality.views()] == ["fallback"]


def test_only_the_newest_versions_are_kept() -> None:
    """Versions come from outside: the one that was labelled longest ago is forgotten first."""
    quality = OnlineQuality(versions=2)
    for version in ("1", "2", "1", "3"):
        for _ in range(MIN_LABELS):
            quality.add(outcome(0.5, 1, version))
    assert [view.version for view in quality.views()] == ["3", "1"]
