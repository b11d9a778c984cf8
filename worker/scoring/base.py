"""The seam to whatever scores: one method, and the values it returns."""

from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from worker.contract.features import ModelInputs
from worker.scoring.items import NextItems

Path = Literal["model", "fallback"]
Floats = npt.NDArray[np.float32]


class Scores(NamedTuple):
    """What a scorer says of a batch of B sessions.

    purchase, cart  float32 [B, 5]  probability within each of `HORIZONS`, rising
    churn           float32 [B]     probability that the session ends here
    next_type       float32 [B, 8]  probability of each of `EVENT_TYPES`, if another event follows
    next_items      the likeliest next items with probability, or None where the head is missing
    """

    purchase: Floats
    cart: Floats
    churn: Floats
    next_type: Floats
    next_items: NextItems | None
    version: str
    path: Path


class Scorer(Protocol):
    """Scores a batch with one version. Raises a `ScoringError` when it cannot; never a partial answer."""

    async def score(self, inputs: ModelInputs, version: str) -> Scores: ...
