"""Scorers without a model, for tests of what uses one."""

import asyncio

import numpy as np

from worker.contract.events import EVENT_TYPES, HORIZONS
from worker.contract.features import ModelInputs
from worker.errors import ScorerUnavailable, ScoringError
from worker.scoring.base import Scores


class ConstantScorer:
    """Gives every session the same probability, after `delay_s` seconds. `calls` has the version of each request."""

    def __init__(self, p: float, delay_s: float = 0.0) -> None:
        self.p = p
        self.delay_s = delay_s
        self.calls: list[str] = []

    async def score(self, inputs: ModelInputs, version: str) -> Scores:
        self.calls.append(version)
        await asyncio.sleep(self.delay_s)
        return self.score_now(inputs, version)

    def score_now(self, inputs: ModelInputs, version: str) -> Scores:
        """The same without waiting, and without noting it."""
        rows = len(inputs.length)
        return Scores(
            purchase=np.full((rows, len(HORIZONS)), self.p, np.float32),
            cart=np.full((rows, len(HORIZONS)), self.p, np.float32),
            churn=np.full(rows, self.p, np.float32),
            next_type=np.full((rows, len(EVENT_TYPES)), 1 / len(EVENT_TYPES), np.float32),
            next_items=None,
            version=version,
            path="model",
        )


class FailingScorer:
    """Raises `error` for the first `times` requests (all of them, if None), then asks `then`."""

    def __init__(self, error: ScoringError | None = None, times: int | None = None, then: ConstantScorer | None = None) -> None:
        self.error = error or ScorerUnavailable("made to fail")
        self.times = times
        self.then = then or ConstantScorer(0.5)
        self.calls = 0

    async def score(self, inputs: ModelInputs, version: str) -> Scores:
        self.calls += 1
        if self.times is None or self.calls <= self.times:
            raise self.error
        return await self.then.score(inputs, version)
