"""Which version this worker scores with: moves to the wanted one once that answers right, and stays while it does not."""

import random
import time
from collections.abc import Callable
from typing import Protocol

import structlog

from worker import metrics
from worker.contract.features import ModelInputs
from worker.errors import ModelError, ScorerRejected, ScoringError
from worker.pointer import Pointer
from worker.scoring.base import Scores
from worker.scoring.fallback import FallbackScorer
from worker.scoring.golden import Golden, check
from worker.scoring.guarded import Pin
from worker.versions import check_spec

_log = structlog.get_logger(__name__)

#: How often a version that is in use has to prove itself, and how soon again one that could not.
CHECK_S = 5.0
RETRY_S = 1.0
#: A model process that died hangs every request although the server says ready, and only loading anew brings it back.
#: It is given up after this many failed checks during which the server finished no request; chance keeps many workers from
#: loading at the same time.
_PATIENCE = (3, 5)
#: Loading costs every worker its scores for a while, so it is not repeated at once.
_REPAIR_EVERY_S = 30.0


class ModelServer(Protocol):
    """What is asked of the model server."""

    async def score(self, inputs: ModelInputs, version: str) -> Scores: ...

    async def is_live(self) -> bool: ...

    async def requests_served(self) -> dict[str, int]: ...

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
        self.refused = ""  # why the newest pointer is not followed
        self._server = server
        self._on_change = on_change
        self._clock = clock
        self._switch_at = 0.0
        self._check_at = 0.0
        self._repair_at = 0.0
        self._patience = random.randint(*_PATIENCE)
        self._stuck = 0  # failed checks in a row between which nothing was served
        self._served: dict[str, int] = {}

    def want(self, pointer: Pointer) -> None:
        """The newest pointer. One that this worker cannot follow is refused, loudly, and changes nothing."""
        try:
            check_spec(pointer.spec, f"version {pointer.champion} of {pointer.model}")
            fallback = FallbackScorer.from_json(pointer.fallback)
            Golden.from_json(pointer.golden)
        except ModelError as error:
            self.refused = str(error)
            _log.error("pointer refused", version=pointer.champion, reason=self.refused)
            return
        if self.pointer is not None and pointer.spec != self.pointer.spec:
            # Sessions in memory hold rows of the old spec.
            _log.error("pointer refused: its feature spec is another; restart the workers", version=pointer.champion)
            return
        self.wanted, self.refused = pointer, ""
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
            if isinstance(error, ScorerRejected):
                # It is there and answers wrong, or is not loaded: better the fallback. Mere trouble is the breaker's.
                self.pin = pin._replace(verified=False)
            else:
                await self._repair_if_dead()
            return
        self.pin = pin._replace(verified=True)
        self._proved()

    async def _prove(self, pointer: Pointer) -> None:
        # An answer says more than the server's word: it calls a version ready whose process is dead.
        await check(self._server, pointer.champion, Golden.from_json(pointer.golden))

    async def _repair_if_dead(self) -> None:
        """Unload and load, if the server is live but its model has not finished a request for some time."""
        if not await self._server.is_live():
            self._stuck = 0
            return
        served = await self._requests_served()
        self._stuck = self._stuck + 1 if served == self._served else 1
        self._served = served
        if self._stuck < self._patience or self._clock() < self._repair_at:
            return
        self._repair_at = self._clock() + _REPAIR_EVERY_S
        _log.error("the model server is live but its model is dead: loading it anew")
        try:
            await self._server.reload()
        except ScoringError as error:
            _log.error("loading anew failed", reason=str(error))

    async def _requests_served(self) -> dict[str, int]:
        try:
            return await self._server.requests_served()
        except ScoringError:
            return {}  # nothing is loaded

    def _proved(self) -> None:
        self._stuck = 0
        self._check_at = self._clock() + CHECK_S

    def _pin(self, pointer: Pointer, pin: Pin) -> None:
        if self.pin is not None and self.pin.version != pin.version:
            metrics.model_swaps.inc()
        self.pointer, self.pin = pointer, pin
        _log.info("version pinned", version=pin.version, verified=pin.verified, by=pointer.by, why=pointer.why)
        self._on_change(pointer)
