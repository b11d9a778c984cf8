"""Online figures are those of the textbook, over the newest labels only."""

import math

import msgspec
import numpy as np
import pytest
from prometheus_client import REGISTRY
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from worker.contract.events import OutcomeEvent
from worker.quality import VERSIONS, WINDOW, OnlineQuality, Series, calibration_error, log_loss, roc_auc

_OUTCOME = OutcomeEvent(
    outcome_id="c:0:1/cart/5m", score_id="c:0:1", event_id="e", visitor_id="v", head="cart", horizon="5m", label=0,
    censored=False, time_to_event_s=None, event_time=0, p=0.1, version="1", path="model",
)  # fmt: skip
_SERIES = Series("cart", "5m", "1")


def _outcomes(p: list[float], labels: list[int], **more: object) -> list[OutcomeEvent]:
    return [msgspec.structs.replace(_OUTCOME, p=q, label=label, **more) for q, label in zip(p, labels, strict=True)]


@pytest.mark.parametrize("seed", range(5))
def test_figures_equal_those_of_sklearn(seed: int) -> None:
    """Log-loss and AUC, with many ties."""
    random = np.random.default_rng(seed)
    p = random.integers(1, 20, 500) / 20
    happened = random.random(500) < p
    assert log_loss(p, happened) == pytest.approx(sklearn_log_loss(happened, p))
    assert roc_auc(p, happened) == pytest.approx(roc_auc_score(happened, p))


def test_calibration_error_is_the_mean_gap() -> None:
    """A sound forecast has none; one that always says .5 about a tenth is off by .4."""
    happened = np.tile(np.arange(10) == 0, 100)
    assert calibration_error(np.full(1000, 0.1), happened) == pytest.approx(0.0)
    assert calibration_error(np.full(1000, 0.5), happened) == pytest.approx(0.4)
    opposite = np.where(happened, 0.0, 1.0)
    assert calibration_error(opposite, happened) == pytest.approx(1.0)


def test_one_kind_of_label_has_no_auc() -> None:
    """It is not a number, rather than a figure that looks good."""
    quality = OnlineQuality()
    quality.observe(_outcomes([0.1, 0.2], [0, 0]))
    assert math.isnan(quality.figures()[_SERIES].auc)


def test_only_the_newest_labels_count() -> None:
    """What is older than the window has no weight."""
    quality = OnlineQuality()
    quality.observe(_outcomes([1.0] * 500, [0] * 500))
    quality.observe(_outcomes([0.5] * WINDOW, [1] * WINDOW))
    figures = quality.figures()[_SERIES]
    assert (figures.labels, figures.logloss) == (WINDOW, pytest.approx(math.log(2)))


def test_censored_outcomes_have_no_weight() -> None:
    """No label, no figure."""
    quality = OnlineQuality()
    quality.observe([msgspec.structs.replace(_OUTCOME, label=None, censored=True)])
    assert quality.figures() == {}


def test_the_fallback_has_figures_of_its_own() -> None:
    """Its answers say nothing about the version that was down."""
    quality = OnlineQuality()
    quality.observe(_outcomes([0.1], [0], path="fallback"))
    assert set(quality.figures()) == {Series("cart", "5m", "fallback")}


def test_series_are_bounded_and_end_with_their_version() -> None:
    """Metrics of versions that are long gone vanish."""
    quality = OnlineQuality()
    for version in range(VERSIONS + 2):
        quality.observe(_outcomes([0.1, 0.2], [0, 1], version=str(version)))
        quality.publish()

    def shown(version: int) -> float | None:
        return REGISTRY.get_sample_value("inkling_online_auc", {"head": "cart", "horizon": "5m", "version": str(version)})

    assert [shown(version) for version in range(VERSIONS + 2)] == [None, None, 1.0, 1.0, 1.0]
