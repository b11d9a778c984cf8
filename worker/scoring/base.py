"""The seam to whatever scores: one method, and the values it returns."""

from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from worker.contract.events import EVENT_TYPES, HORIZONS
from worker.contract.features import ModelInputs

Path = Literal["model", "fallback"]
Floats = npt.NDArray[np.float32]


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


def score_fields(scores: Scores) -> list[bytes]:
    """The `scores` field of a ScoreEvent as JSON, for every row of the batch. Probabilities have six digits.

    Raises ValueError for a number that is no probability.
    """
    heads = (scores.purchase, scores.cart, scores.churn[:, None], scores.next_type)
    # In double precision, so that no more is lost than what is not printed.
    millionths = np.rint(np.concatenate(heads, axis=1).astype(np.float64) * _WHOLE)  # [B, N]
    if not ((millionths >= 0) & (millionths <= _WHOLE)).all():
        raise ValueError("a score is no probability")
    rest, low = np.divmod(millionths.astype(np.int64), 1000)
    whole, high = np.divmod(rest, 1000)
    text = np.tile(_TEMPLATE, (len(millionths), 1))  # [B, characters]
    text[:, _HOLES] = whole + ord("0")
    for digit in range(3):
        text[:, _HOLES + 2 + digit] = _DIGITS[high, digit]
        text[:, _HOLES + 5 + digit] = _DIGITS[low, digit]
    size, every = len(_TEMPLATE), text.tobytes()
    return [every[start : start + size] for start in range(0, len(every), size)]


def _template() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The field with a hole for each number, as characters, and where the holes are."""
    hole = "#.######"
    horizons = ",".join(f'"{name}":{hole}' for name in HORIZONS)
    types = ",".join(f'"{name}":{hole}' for name in EVENT_TYPES)
    text = f'{{"purchase":{{{horizons}}},"cart":{{{horizons}}},"churn":{hole},"next_type":{{{types}}}}}'
    holes = [at for at in range(len(text)) if text.startswith(hole, at)]
    return np.frombuffer(text.encode(), np.uint8), np.array(holes)


_WHOLE = 1_000_000
_TEMPLATE, _HOLES = _template()
#: The three digits of each number below 1000.
_DIGITS = np.array([list(f"{number:03}".encode()) for number in range(1000)], np.uint8)
