"""The laws of every Scorer. A new one joins `SCORERS`; the one on a real server joins in tests/integration."""

from collections.abc import Callable

import numpy as np
import pytest

from tests.conformance.laws import check_laws, random_inputs
from worker.scoring.base import Scorer
from worker.scoring.fake import ConstantScorer, FailingScorer
from worker.scoring.fallback import FALLBACK_FEATURES, FallbackModel, FallbackScorer, Layer


def fallback() -> FallbackScorer:
    """Parameters drawn at random, so that every feature counts."""
    rng = np.random.default_rng(7)
    features = len(FALLBACK_FEATURES)

    def layer(outputs: int) -> Layer:
        return Layer(rng.normal(0, 0.3, (outputs, features)).tolist(), rng.normal(-2, 1, outputs).tolist())

    return FallbackScorer(
        FallbackModel(
            kind="logistic",
            feature_names=list(FALLBACK_FEATURES),
            mean=rng.normal(0, 1, features).tolist(),
            scale=rng.uniform(0.5, 2, features).tolist(),
            purchase=layer(5),
            cart=layer(5),
            churn=layer(1),
            next_type=layer(8),
        )
    )


SCORERS: dict[str, Callable[[], Scorer]] = {
    "constant": lambda: ConstantScorer(0.2),
    "recovered": lambda: FailingScorer(times=0, then=ConstantScorer(0.9)),
    "fallback": fallback,
}


@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize("sessions", [1, 2, 33])
async def test_scorer_keeps_the_laws(name: str, sessions: int) -> None:
    """Shapes, probabilities that rise with the horizon, order, independence of the batch, the same answer twice."""
    await check_laws(SCORERS[name](), random_inputs(sessions, seed=sessions), version="3")
