"""A scorer that always answers: the model's server while it is well, the fallback when it is not."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import structlog

from worker import metrics
from worker.contract.features import ModelInputs
from worker.errors import DeadlineExceeded, ScorerRejected, ScorerUnavailable, ScoringError
from worker.scoring.base import Scorer, Scores
from worker.scoring.breaker import Breaker
from worker.scoring.fallback import FallbackScorer

_log = structlog.get_logger(__name__)

#: A connection that broke is mended by then; a server that is gone is not, and the fallback is near.
_RETRY_PAUSE_S = 0.02


class Pin(NamedTuple):
    """The version that scores come from, with its own fallback. The server is not asked for one that is not `verified`."""

    version: str
    fallback: FallbackScorer
    verified: bool


class GuardedScorer:
    """Scores every batch within `deadline_s`, and says in `path` who answered.

    `pin` is asked once a batch, so a swap never falls inside one.
    """

    def __init__(self, primary: Scorer, breaker: Breaker, pin: Callable[[], Pin], deadline_s: float) -> None:
        self._primary = primary
        self._breaker = breaker
        self._pin = pin
        self._deadline_s = deadline_s

    async def score(self, inputs: ModelInputs) -> Scores:
        """Never raises a ScoringError."""
        pin = self._pin()
        scores = await self._by_model(inputs, pin)
        metrics.breaker_open.set(self._breaker.state != "closed")
        return pin.fallback.score_now(inputs, pin.version) if scores is None else scores

    async def _by_model(self, inputs: ModelInputs, pin: Pin) -> Scores | None:
        """The model's scores, or None if it was not asked or could not answer."""
        if not pin.verified:
            metrics.scorer_requests.labels("unverified").inc()
            return None
        if not self._breaker.allow():
            metrics.scorer_requests.labels("breaker_open").inc()
            return None
        try:
            with metrics.scorer_seconds.time():
                scores = await self._in_time(inputs, pin.version)
        except ScoringError as error:
            metrics.scorer_requests.labels(_result(error)).inc()
            # A server that refuses is well: keeping requests from it would not help the next batch.
            if not isinstance(error, ScorerRejected):
                self._breaker.failed()
            _log.warning("the fallback answers", version=pin.version, reason=str(error))
            return None
        metrics.scorer_requests.labels("ok").inc()
        self._breaker.succeeded()
        return scores

    async def _in_time(self, inputs: ModelInputs, version: str) -> Scores:
        try:
            async with asyncio.timeout(self._deadline_s):
                try:
                    return await self._primary.score(inputs, version)
                except ScorerUnavailable:
                    # One more try within the same deadline, so that a broken connection costs no fallback score.
                    await asyncio.sleep(_RETRY_PAUSE_S)
                    return await self._primary.score(inputs, version)
        except TimeoutError:
            raise DeadlineExceeded(f"no answer within {self._deadline_s:g} s") from None


def _result(error: ScoringError) -> str:
    match error:
        case DeadlineExceeded():
            return "deadline"
        case ScorerRejected():
            return "rejected"
        case _:
            return "unavailable"
