"""The model of last resort: logistic heads on the newest row alone, in numpy, so that no event goes without a score."""

from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from worker.contract.events import EVENT_TYPES, HORIZONS
from worker.contract.features import CODES, NUMBERS, ModelInputs
from worker.errors import ModelError
from worker.scoring.base import Scores

Doubles = npt.NDArray[np.float64]

#: Numbers that may be missing (NaN); each gets a flag, as 0 alone would read as "none".
_MAY_MISS = ("price", "since_visit_s")
#: Smoothed rates: how much of one counted thing follows on another, in the log so that small ones differ.
_RATES: tuple[tuple[str, str], ...] = tuple(
    (f"{scope}_{of}", f"{scope}_views") for scope in ("visitor", "item", "category", "brand") for of in ("carts", "purchases")
)
#: Pseudo-counts of a rate: (count + 0.1) / (views + 2), about the 5% that a shop sees.
_PRIOR_COUNT, _PRIOR_VIEWS = 0.1, 2.0

#: Names of what `last_row_features` gives, in its order.
FALLBACK_FEATURES: tuple[str, ...] = (
    *(f"log_{name}" for name in NUMBERS),
    *(f"no_{name}" for name in _MAY_MISS),
    *(f"rate_{count}" for count, _ in _RATES),
    *(f"type_{name}" for name in EVENT_TYPES),
)

_MAY_MISS_AT = [NUMBERS.index(name) for name in _MAY_MISS]
_COUNTS_AT = [NUMBERS.index(count) for count, _ in _RATES]
_VIEWS_AT = [NUMBERS.index(views) for _, views in _RATES]
_TYPE_AT = CODES.index("type")


class Layer(msgspec.Struct, frozen=True):
    """One linear head: `weights` [outputs][features], `bias` [outputs]."""

    weights: list[list[float]]
    bias: list[float]


class FallbackModel(msgspec.Struct, frozen=True):
    """What `fallback.json` holds. `purchase` and `cart` give hazard logits by horizon, the others plain logits."""

    kind: Literal["logistic"]
    feature_names: list[str]
    mean: list[float]
    scale: list[float]
    purchase: Layer
    cart: Layer
    churn: Layer
    next_type: Layer


def last_row_features(inputs: ModelInputs) -> Doubles:
    """The newest row of each session as float64 [B, F], F = len(FALLBACK_FEATURES); finite. Fitting uses the same."""
    rows = np.arange(len(inputs.length))
    last = inputs.length[:, 0] - 1
    numbers = inputs.numbers[rows, last].astype(np.float64)  # [B, len(NUMBERS)]
    types = inputs.codes[rows, last, _TYPE_AT]  # [B]
    missing = np.isnan(numbers)
    known = np.clip(np.where(missing, 0.0, numbers), 0.0, None)
    rates = np.log((known[:, _COUNTS_AT] + _PRIOR_COUNT) / (known[:, _VIEWS_AT] + _PRIOR_VIEWS))
    one_hot = types[:, None] == np.arange(1, len(EVENT_TYPES) + 1)
    return np.concatenate([np.log1p(known), missing[:, _MAY_MISS_AT], rates, one_hot], axis=1, dtype=np.float64)


class FallbackScorer:
    """A `Scorer` that always answers at once: pure numpy, no network, a few microseconds an event."""

    def __init__(self, model: FallbackModel) -> None:
        """Raises ModelError when the parameters do not fit this code's features or are not finite."""
        self.model = model
        features = len(FALLBACK_FEATURES)
        if tuple(model.feature_names) != FALLBACK_FEATURES:
            raise ModelError("the fallback was fitted on other features than this worker computes; fine-tune or promote anew")
        mean, scale = _array(model.mean, (features,), "mean"), _array(model.scale, (features,), "scale")
        if not (scale > 0).all():
            raise ModelError("fallback.json: scale must be above 0")
        heads = {
            "purchase": (model.purchase, len(HORIZONS)),
            "cart": (model.cart, len(HORIZONS)),
            "churn": (model.churn, 1),
            "next_type": (model.next_type, len(EVENT_TYPES)),
        }
        weights = [_array(layer.weights, (outputs, features), f"{name}.weights") for name, (layer, outputs) in heads.items()]
        biases = [_array(layer.bias, (outputs,), f"{name}.bias") for name, (layer, outputs) in heads.items()]
        # Scaling is folded into the weights: one product serves all heads.
        self._weights = np.concatenate(weights).T / scale[:, None]  # [F, outputs of all heads]
        self._bias = np.concatenate(biases) - mean @ self._weights
        self._ends = np.cumsum([outputs for _, outputs in heads.values()])[:-1]

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "FallbackScorer":
        """From the content of `fallback.json`. Raises ModelError when it cannot be used."""
        try:
            return cls(msgspec.convert(document, FallbackModel))
        except msgspec.ValidationError as error:
            raise ModelError(f"fallback.json is damaged: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """The parameters as `from_json` takes them."""
        document: dict[str, Any] = msgspec.to_builtins(self.model)
        return document

    def score_now(self, inputs: ModelInputs, version: str) -> Scores:
        """Scores of the batch, without waiting for anything. They carry `version` and path "fallback"."""
        logits = last_row_features(inputs) @ self._weights + self._bias  # [B, outputs of all heads]
        purchase, cart, churn, next_type = np.split(logits, self._ends, axis=1)
        return Scores(
            purchase=_cumulative(purchase).astype(np.float32),
            cart=_cumulative(cart).astype(np.float32),
            churn=_sigmoid(churn[:, 0]).astype(np.float32),
            next_type=_softmax(next_type).astype(np.float32),
            next_items=None,
            version=version,
            path="fallback",
        )

    async def score(self, inputs: ModelInputs, version: str) -> Scores:
        """`score_now` in the shape of the `Scorer` protocol."""
        return self.score_now(inputs, version)


def _array(values: list[Any], shape: tuple[int, ...], name: str) -> Doubles:
    try:
        array = np.array(values, np.float64)
    except ValueError as error:
        raise ModelError(f"fallback.json: {name} is no regular array") from error
    if array.shape != shape or not np.isfinite(array).all():
        raise ModelError(f"fallback.json: {name} must hold finite numbers of shape {list(shape)}")
    return array


def _cumulative(hazard_logits: Doubles) -> Doubles:
    """1 - prod(1 - hazard) along the horizons: rises by construction. [B, H] -> [B, H]."""
    # -log(1 - sigmoid(z)) = softplus(z): exact for small hazards, where 1 - h would round.
    return np.asarray(-np.expm1(-np.cumsum(np.logaddexp(0.0, hazard_logits), axis=1)))


def _sigmoid(logits: Doubles) -> Doubles:
    return np.asarray(np.exp(-np.logaddexp(0.0, -logits)))


def _softmax(logits: Doubles) -> Doubles:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
