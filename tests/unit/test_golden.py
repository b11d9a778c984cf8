"""Tests for worker/scoring/golden.py."""

import json
import math

import numpy as np
import pytest

from tests.unit.test_fallback import inputs_of
from tests.unit.version_folder import constant_scores, golden_of
from worker.contract.features import ModelInputs
from worker.errors import ModelError, ScorerRejected, ScorerUnavailable
from worker.scoring.base import Scores
from worker.scoring.fake import ConstantScorer, FailingScorer
from worker.scoring.golden import Golden, check


def test_inputs_come_back_from_json_exactly() -> None:
    """NaN included."""
    inputs = inputs_of("view", "cart", price=None)
    assert np.isnan(inputs.numbers).any()
    golden = Golden.of(inputs, constant_scores(0.5, "1"))
    again = Golden.from_json(json.loads(json.dumps(golden.to_json(), allow_nan=False)))
    for before, after in zip(inputs, again.inputs, strict=True):
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(before, after)


async def test_a_model_that_says_what_it_was_published_with_passes() -> None:
    """Within what another processor may differ."""
    await check(ConstantScorer(0.50001), "1", golden_of(0.5))


async def test_foreign_weights_are_found() -> None:
    """A sound answer that is another model's."""
    with pytest.raises(ScorerRejected, match="published with"):
        await check(ConstantScorer(0.51), "1", golden_of(0.5))


async def test_an_unsteady_model_is_found() -> None:
    """The same inputs must get the same scores."""

    class Drifting:
        p = 0.5

        async def score(self, inputs: ModelInputs, version: str) -> Scores:
            self.p += 0.00005
            return await ConstantScorer(self.p).score(inputs, version)

    with pytest.raises(ScorerRejected, match="two different"):
        await check(Drifting(), "1", golden_of(0.5))


async def test_a_server_that_is_away_is_not_called_wrong() -> None:
    """Its own error passes through."""
    with pytest.raises(ScorerUnavailable):
        await check(FailingScorer(), "1", golden_of(0.5))


@pytest.mark.parametrize(
    "change",
    [{"codes": []}, {"length": [[99]]}, {"length": [[0]]}, {"purchase": [[0.5]]}, {"numbers": [[[math.pi]]]}, {"cart": "x"}],
)
def test_a_damaged_batch_is_refused(change: dict[str, object]) -> None:
    """It would prove nothing, or crash the check."""
    with pytest.raises(ModelError):
        Golden.from_json((golden_of(0.5)).to_json() | change)
