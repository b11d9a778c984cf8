"""The seam to whatever scores: one method, and the values it returns."""

from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from worker.contract.events import EVENT_TYPES, HORIZONS
from worker.contract.features import ModelInputs

Path = Literal["model", "fallback"]
Floats = npt.NDArray[np.float32]

#: Digits kept of a probability on the wire: far below any decision, and enough for log-loss.
_DIGITS = 6


class Scores(NamedTuple):
    """What a scorer says of a batch of B sessions.

    purchase, cart  float32 [B, 5]  probability within each of `HORIZONS`, rising
    churn           float32 [B]     probability that the session ends here
    next_type       float32 [B, 8]  probability of each of `EVENT_TYPES`, if another event follows
    next_items      per session the likeliest next items with probability, or None where the head is missing
    """

    purchase: Floats
    cart: Floats
    churn: Floats
    next_type: Floats
    next_items: list[list[tuple[str, float]]] | None
    version: str
    path: Path


class Scorer(Protocol):
    """Scores a batch with one version. Raises a `ScoringError` when it cannot; never a partial answer."""

    async def score(self, inputs: ModelInputs, version: str) -> Scores: ...


def score_fields(scores: Scores) -> list[dict[str, dict[str, float] | float]]:
    """The `scores` field of a ScoreEvent, for every row of the batch."""
    return [
        {
            "purchase": dict(zip(HORIZONS, purchase, strict=True)),
            "cart": dict(zip(HORIZONS, cart, strict=True)),
            "churn": churn,
            "next_type": dict(zip(EVENT_TYPES, next_type, strict=True)),
        }
        for purchase, cart, churn, next_type in zip(
            _rounded(scores.purchase), _rounded(scores.cart), _rounded(scores.churn), _rounded(scores.next_type), strict=True
        )
    ]


def _rounded(values: Floats) -> list[Any]:
    # In double precision, so that what is printed has no more digits than asked for.
    rounded: list[Any] = np.round(values.astype(np.float64), _DIGITS).tolist()
    return rounded
