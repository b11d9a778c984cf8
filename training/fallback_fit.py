"""Fits the fallback: logistic regression of every head on the newest row's features."""

from typing import Any

import numpy as np
import numpy.typing as npt

from training.examples import Examples
from training.labels import UNKNOWN
from worker.contract.events import EVENT_TYPES, HAZARD_HEADS, HORIZONS
from worker.contract.features import ModelInputs
from worker.scoring.fallback import FALLBACK_FEATURES, Doubles, FallbackModel, FallbackScorer, Layer, last_row_features

#: Inverse strength of the penalty on the weights of standardised features.
_C = 0.1
_MAX_STEPS = 500
#: Rows taken at random where there are more: a few dozen weights need no more.
_MOST_ROWS = 60_000


def fit_fallback(examples: Examples, seed: int) -> FallbackScorer:
    """The fallback fitted to every event of the examples."""
    rows = examples.predicted
    if len(rows) > _MOST_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, _MOST_ROWS, replace=False))
    if not len(rows):
        rows = np.zeros(0, np.int64)
    features = _features(examples, rows)
    mean = features.mean(0) if len(rows) else np.zeros(len(FALLBACK_FEATURES))
    scale = np.maximum(features.std(0), 1e-3) if len(rows) else np.ones(len(FALLBACK_FEATURES))
    standard = (features - mean) / scale
    hazard, labels = examples.labels.hazard[rows], examples.labels
    layers = {
        head: _stacked([_binary(standard, hazard[:, h, k]) for k in range(len(HORIZONS))]) for h, head in enumerate(HAZARD_HEADS)
    }
    model = FallbackModel(
        kind="logistic",
        feature_names=list(FALLBACK_FEATURES),
        mean=mean.tolist(),
        scale=scale.tolist(),
        purchase=layers["purchase"],
        cart=layers["cart"],
        churn=_stacked([_binary(standard, labels.churn[rows])]),
        next_type=_classes(standard, labels.next_type[rows]),
    )
    return FallbackScorer(model)


def _features(examples: Examples, rows: npt.NDArray[np.int64]) -> Doubles:
    """Each row as if it were a session of its own: the features look at the newest row only."""
    picked = examples.rows[rows]
    inputs = ModelInputs(
        np.ascontiguousarray(picked["codes"])[:, None], np.ascontiguousarray(picked["numbers"])[:, None],
        np.ones((len(rows), 1), np.int32),
    )  # fmt: skip
    return last_row_features(inputs)


def _binary(features: Doubles, labels: npt.NDArray[Any]) -> tuple[Doubles, float]:
    """Weights [F] and bias of one logit; the prior alone where one class is missing."""
    known = labels != UNKNOWN
    positive = int((labels == 1).sum())
    if positive in (0, int(known.sum())):
        p = (positive + 0.05) / (int(known.sum()) + 50.0)
        return np.zeros(features.shape[1]), float(np.log(p / (1 - p)))
    fitted = _fitted(features[known], labels[known])
    return fitted.coef_[0], float(fitted.intercept_[0])


def _classes(features: Doubles, labels: npt.NDArray[np.int64]) -> Layer:
    """The next type: a softmax over those seen; the others get next to nothing."""
    known = labels != UNKNOWN
    seen = np.unique(labels[known])
    counts = np.bincount(labels[known], minlength=len(EVENT_TYPES)) + 0.1
    weights = np.zeros((len(EVENT_TYPES), features.shape[1]))
    bias = np.log(counts / counts.sum())
    if len(seen) > 1:
        fitted = _fitted(features[known], labels[known])
        if len(seen) == 2:
            weights[seen[1]], bias[seen] = fitted.coef_[0], (0.0, float(fitted.intercept_[0]))
        else:
            weights[seen], bias[seen] = fitted.coef_, fitted.intercept_
        unseen = np.setdiff1d(np.arange(len(EVENT_TYPES)), seen)
        bias[unseen] = bias[seen].min() + np.log(0.1 / counts[seen].min())
    return Layer(weights.tolist(), bias.tolist())


def _fitted(features: Doubles, labels: npt.NDArray[Any]) -> Any:
    # Slow to import, and wanted only here.
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=_C, max_iter=_MAX_STEPS).fit(features, labels)


def _stacked(logits: list[tuple[Doubles, float]]) -> Layer:
    return Layer([weights.tolist() for weights, _ in logits], [bias for _, bias in logits])
