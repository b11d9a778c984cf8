"""Which version this worker scores with: moves to the wanted one once that answers right, and stays while it does not."""

import random
import time
from collections.abc import Callable
from typing import Protocol

import structlog

from worker import metrics
from worker.contract.features import ModelInputs
from worker.errors import ModelError, ScorerRejected, ScorerUnavailable, ScoringError
from worker.pointer import Pointer
from worker.scoring.base import Scores
from worker.scoring.fallback import FallbackScorer
from worker.scoring.golden import Golden, check
from worker.scoring.guarded import Pin

_log = structlog.get_logger(__name__)

#: How often a version that is in use has to prove itself, and how soon again one that could not.
CHECK_S = 5.0
RETRY_S = 1.0
#: A model process that died stays dead although the server is live: after so many failed checks it is loaded anew,
_REPAIR_AFTER = 3
#: but not more often than this, as loading costs every worker its scores.
_REPAIR_EVERY_S = 30.0


class ModelServer(Protocol):
    """What is asked of the model server."""

    async def score(self, inputs: ModelInputs, version: str) -> Scores: ...

    async def is_live(self) -> bool: ...

    async def reload(self) -> None: ...


class PinKeeper:
    """Holds the pin. `want` says where it should go; `step`, called again and again, moves it when that is safe.

    `clock` is monotonic, in seconds. `on_change` gets the pointer of each version that is pinned.
    """

    def __init__(
        self,
        server: ModelServer,
        on_change: Callable[[Pointer], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pointer: Pointer | None = None
        self.pin: Pin | None = None
        self.wanted: Pointer | None = None
        self._server = server
        self._on_change = on_change
        self._clock = clock
        self._switch_at = 0.0
        self._check_at = 0.0
        self._repair_at = 0.0
        self._failures = 0

    def want(self, pointer: Pointer) -> None:
        """The newest pointer. One that this worker cannot follow is refused, loudly, and changes nothing."""
        try:
            fallback = FallbackScorer.from_json(pointer.fallback)
            Golden.from_json(pointer.golden)
        except ModelError as error:
            _log.error("pointer refused", version=pointer.champion, reason=str(error))
            return
        if self.pointer is not None and pointer.spec != self.pointer.spec:
            # Sessions in memory hold rows of the old spec.
            _log.error("pointer refused: its feature spec is another; restart the workers", version=pointer.champion)
            return
        self.wanted = pointer
        if self.pin is None:
            # There is nothing to stay with: its fallback serves until the model has proved itself.
            self._pin(pointer, Pin(pointer.champion, fallback, verified=False))
        self._switch_at = self._check_at = 0.0

    async def step(self) -> None:
        """Verify the wanted version and move to it, or check the pinned one when that is due."""
        if self.wanted is None or self.pin is None or self.pointer is None:
            return
        if self.wanted is not self.pointer and self._clock() >= self._switch_at:
            await self._switch(self.wanted)
        if self._clock() >= self._check_at:
            await self._check(self.pin, self.pointer)

    async def _switch(self, wanted: Pointer) -> None:
        try:
            await self._prove(wanted)
        except ScoringError as error:
            self._switch_at = self._clock() + RETRY_S
            _log.warning("not switching yet", to=wanted.champion, reason=str(error))
            return
        self._pin(wanted, Pin(wanted.champion, FallbackScorer.from_json(wanted.fallback), verified=True))
        self._proved()

    async def _check(self, pin: Pin, pointer: Pointer) -> None:
        try:
            await self._prove(pointer)
        except ScoringError as error:
            self._check_at = self._clock() + RETRY_S
            _log.warning("model check failed", version=pin.version, reason=str(error))
            # Neither a slow server nor one that answers wrong gets better by loading the same files anew.
            self._failures += isinstance(error, ScorerUnavailable)
            if isinstance(error, ScorerRejected):
                # It is there and answers wrong, or is not loaded: better the fallback. Mere trouble is the breaker's.
                self.pin = pin._replace(verified=False)
            if self._failures >= _REPAIR_AFTER:
                await self._repair()
            return
        self.pin = pin._replace(verified=True)
        self._proved()

    async def _prove(self, pointer: Pointer) -> None:
        # An answer says more than the server's word: it calls a version ready whose process is dead.
        await check(self._server, pointer.champion, Golden.from_json(pointer.golden))

    async def _repair(self) -> None:
        """Unload and load, if the server is live and it was not tried just now."""
        if self._clock() < self._repair_at or not await self._server.is_live():
            return
        # Chance keeps many workers from doing it at the same time.
        self._repair_at = self._clock() + _REPAIR_EVERY_S * random.uniform(1, 2)
        _log.error("the model server is live but its model is not: loading it anew")
        try:
            await self._server.reload()
        except ScoringError as error:
            _log.error("loading anew failed", reason=str(error))

    def _proved(self) -> None:
        self._failures = 0
        self._check_at = self._clock() + CHECK_S

    def _pin(self, pointer: Pointer, pin: Pin) -> None:
        if self.pin is not None and self.pin.version != pin.version:
            metrics.model_swaps.inc()
        self.pointer, self.pin = pointer, pin
        _log.info("version pinned", version=pin.version, verified=pin.verified, by=pointer.by, why=pointer.why)
        self._on_change(pointer)
