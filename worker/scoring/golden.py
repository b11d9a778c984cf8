"""A small fixed batch with the scores it must get: shows that a loaded version answers, and answers right."""

from typing import Any, Self

import msgspec
import numpy as np

from worker.contract.events import HORIZONS
from worker.contract.features import CODES, NUMBERS, ModelInputs
from worker.errors import ModelError, ScorerRejected
from worker.scoring.base import Scorer, Scores

#: Asked twice, a model must say the same.
_REPEAT_TOLERANCE = 1e-5
#: Other processors and builds sum in another order; scrambled tensors or foreign weights are off by far more.
_EXPECTED_TOLERANCE = 1e-4


class Golden(msgspec.Struct, frozen=True):
    """What `golden.json` holds, as nested lists: model inputs (null for NaN) and the purchase and cart scores they must get."""

    codes: list[list[list[int]]]
    numbers: list[list[list[float | None]]]
    length: list[list[int]]
    purchase: list[list[float]]
    cart: list[list[float]]

    @classmethod
    def of(cls, inputs: ModelInputs, scores: Scores) -> Self:
        """The batch and what the model said of it."""
        numbers = inputs.numbers.astype(object)
        numbers[np.isnan(inputs.numbers)] = None  # JSON has no NaN
        return cls(
            inputs.codes.tolist(), numbers.tolist(), inputs.length.tolist(), scores.purchase.tolist(), scores.cart.tolist()
        )

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """From the content of `golden.json`. Raises ModelError when it is no such batch."""
        try:
            golden = msgspec.convert(document, cls)
        except msgspec.ValidationError as error:
            raise ModelError(f"golden.json is damaged: {error}") from error
        golden._check_shapes()
        return golden

    def to_json(self) -> dict[str, Any]:
        """The batch as `from_json` takes it."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        return document

    @property
    def inputs(self) -> ModelInputs:
        """The batch."""
        return ModelInputs(np.array(self.codes, np.int32), np.array(self.numbers, np.float32), np.array(self.length, np.int32))

    def _check_shapes(self) -> None:
        try:
            codes, numbers, length = self.inputs
            shapes = [codes.shape, numbers.shape, length.shape, np.shape(self.purchase), np.shape(self.cart)]
        except ValueError as error:
            raise ModelError("golden.json is damaged: its lists are no regular arrays") from error
        rows, steps = codes.shape[:2] if codes.ndim > 1 else (0, 0)
        heads = (rows, len(HORIZONS))
        if not rows or shapes != [(rows, steps, len(CODES)), (rows, steps, len(NUMBERS)), (rows, 1), heads, heads]:
            raise ModelError(f"golden.json is damaged: its lists have shapes {shapes}")
        if not ((length >= 1) & (length <= steps)).all():
            raise ModelError("golden.json is damaged: a length is outside its window")


async def check(scorer: Scorer, version: str, golden: Golden) -> None:
    """Score the batch twice. Raises ScorerRejected when the answers differ from each other or from what they must be,
    and what `scorer` raises.
    """
    inputs = golden.inputs
    first, second = await scorer.score(inputs, version), await scorer.score(inputs, version)
    for head in ("purchase", "cart"):
        once, again, expected = getattr(first, head), getattr(second, head), np.array(getattr(golden, head), np.float32)
        if not np.allclose(once, again, rtol=0, atol=_REPEAT_TOLERANCE):
            raise ScorerRejected(f"version {version} gives the same inputs two different {head} scores")
        if not np.allclose(once, expected, rtol=0, atol=_EXPECTED_TOLERANCE):
            worst = float(np.abs(once - expected).max())
            raise ScorerRejected(f"version {version} does not give the {head} scores it was published with (off by {worst:.2g})")
