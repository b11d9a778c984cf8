"""Tests for worker/scoring/fallback.py."""

import json
import math
from typing import Any

import numpy as np
import pytest

from worker.contract.events import EVENT_TYPES, ClickEvent
from worker.contract.features import FeatureSpec, ModelInputs, encode
from worker.contract.fold import Fold
from worker.contract.session import SessionPolicy
from worker.errors import ModelError
from worker.scoring.fallback import FALLBACK_FEATURES, FallbackScorer, last_row_features

T0 = 1_700_000_000_000


def flat(**biases: list[float]) -> dict[str, Any]:
    """Parameters that ignore the features: each head says its bias."""
    features = len(FALLBACK_FEATURES)
    layers = {
        name: {"weights": [[0.0] * features] * outputs, "bias": biases.get(name, [0.0] * outputs)}
        for name, outputs in (("purchase", 5), ("cart", 5), ("churn", 1), ("next_type", 8))
    }
    return {
        "kind": "logistic",
        "feature_names": list(FALLBACK_FEATURES),
        "mean": [0.0] * features,
        "scale": [1.0] * features,
        **layers,
    }


def inputs_of(*types: str, price: float | None = 10.0) -> ModelInputs:
    """The visitor's session after these events."""
    fold = Fold(FeatureSpec(), SessionPolicy())
    for index, name in enumerate(types):
        event = ClickEvent(f"e{index}", T0 + index * 1000, "v", name, item_id="i1", price=price)  # type: ignore[arg-type]
        session, _, _ = fold.apply(event, index)
    return encode([session])


def feature(inputs: ModelInputs, name: str) -> float:
    return float(last_row_features(inputs)[0, FALLBACK_FEATURES.index(name)])


def test_features_are_of_the_newest_row() -> None:
    """Type, position and counts are the last event's, whatever the padding."""
    inputs = inputs_of("view", "view", "cart")
    assert inputs.codes.shape[1] == 8
    assert feature(inputs, "type_cart") == 1
    assert feature(inputs, "type_view") == 0
    assert feature(inputs, "log_position") == pytest.approx(math.log1p(3))
    assert feature(inputs, "log_item_views") == pytest.approx(math.log1p(2), abs=1e-3)


def test_a_missing_number_is_flagged_and_stays_finite() -> None:
    """No price is not the same as a price of 0."""
    without, free = inputs_of("view", price=None), inputs_of("view", price=0.0)
    assert feature(without, "no_price") == 1
    assert feature(free, "no_price") == 0
    assert feature(without, "log_price") == feature(free, "log_price") == 0
    assert np.isfinite(last_row_features(without)).all()


def test_rates_are_smoothed() -> None:
    """One cart after one view is no certainty, and more carts mean more."""
    none, one = inputs_of("view", "view"), inputs_of("view", "cart", "view")
    assert feature(none, "rate_item_carts") < feature(one, "rate_item_carts") < 0


def test_hazards_add_up_to_rising_probabilities() -> None:
    """1 - the product of what is left by each horizon."""
    hazards = np.array([0.1, 0.2, 0.0001, 0.5, 0.3])
    logits = np.log(hazards / (1 - hazards)).tolist()
    scores = FallbackScorer.from_json(flat(purchase=logits)).score_now(inputs_of("view"), "7")
    assert scores.purchase[0] == pytest.approx(1 - np.cumprod(1 - hazards), rel=1e-6)


def test_scaling_is_part_of_the_model() -> None:
    """The logit is weights times (feature - mean) / scale, plus the bias."""
    document = flat(churn=[0.25])
    at = FALLBACK_FEATURES.index("log_position")
    document["churn"]["weights"] = [[0.0] * len(FALLBACK_FEATURES)]
    document["churn"]["weights"][0][at] = 2.0
    document["mean"][at], document["scale"][at] = 0.5, 4.0
    inputs = inputs_of("view", "view")
    logit = 2.0 * (math.log1p(2) - 0.5) / 4.0 + 0.25
    churn = FallbackScorer.from_json(document).score_now(inputs, "7").churn[0]
    assert churn == pytest.approx(1 / (1 + math.exp(-logit)), rel=1e-6)


def test_extreme_logits_stay_probabilities() -> None:
    """No overflow, no NaN."""
    document = flat(purchase=[800.0, -800.0, 0.0, 0.0, 0.0], churn=[-800.0], next_type=[800.0] + [-800.0] * 7)
    scores = FallbackScorer.from_json(document).score_now(inputs_of("view"), "7")
    assert scores.purchase[0].tolist() == [1.0] * 5
    assert scores.churn[0] == 0
    assert scores.next_type[0].tolist() == [1.0] + [0.0] * 7


def test_survives_json() -> None:
    """What is written is what is read."""
    document = flat(purchase=[-3.0, -2.5, -4.0, -1.0, -0.5])
    scorer = FallbackScorer.from_json(json.loads(json.dumps(FallbackScorer.from_json(document).to_json())))
    assert scorer.to_json() == document
    assert len(EVENT_TYPES) == scorer.score_now(inputs_of("view"), "7").next_type.shape[1]


def damaged(**changes: Any) -> dict[str, Any]:
    return flat() | changes


@pytest.mark.parametrize(
    "document",
    [
        {},
        damaged(kind="forest"),
        damaged(feature_names=["log_price"]),
        damaged(scale=[0.0] * len(FALLBACK_FEATURES)),
        damaged(mean=[math.nan] * len(FALLBACK_FEATURES)),
        damaged(churn={"weights": [[0.0]], "bias": [0.0]}),
        damaged(churn={"weights": [[0.0], [0.0, 1.0]], "bias": [0.0]}),
    ],
    ids=["empty", "kind", "features", "scale", "nan", "shape", "ragged"],
)
def test_unusable_parameters_are_refused(document: dict[str, Any]) -> None:
    """Better no swap than a fallback that cannot answer."""
    with pytest.raises(ModelError):
        FallbackScorer.from_json(document)
