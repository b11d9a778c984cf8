"""Composition root of the scoring worker: builds every part from the settings and runs them until told to stop."""

import asyncio
import contextlib
import time

from aiokafka.errors import KafkaError
from structlog import get_logger

from worker import metrics
from worker.click_log import KafkaClicks
from worker.cold import cold_store
from worker.contract.features import FeatureSpec
from worker.control import ControlFollower, Pointer
from worker.delivery import Delivery
from worker.errors import ConfigurationError
from worker.http import process_routes, serve
from worker.lag import LagMetrics, watch_lag
from worker.loop_lag import watch_loop
from worker.pipeline import Pipeline, warm_up
from worker.scoring.breaker import Breaker
from worker.scoring.guarded import GuardedScorer
from worker.scoring.triton import TritonScorer
from worker.service import settle
from worker.settings import Settings
from worker.store import KafkaSource
from worker.stream import batch_app, end_offset, run_app

log = get_logger()

#: How long a worker waits for the first pointer before it says that there is none.
_POINTER_WAIT_S = 15.0


async def run_worker(settings: Settings, stop: asyncio.Event) -> None:
    """Score clicks until `stop` is set, then finish what was taken and commit.

    Raises ConfigurationError when Kafka or a pointer cannot be had at the start, and what a partition failed with.
    """
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    # From here on the time runs in which the process has to end.
    failed.add_done_callback(lambda _: stop.set())
    ready = _Readiness()
    async with contextlib.AsyncExitStack() as parts:
        delivery = await _delivery(settings, parts)
        follower, scorer = await _scorer(settings, parts)
        _check_spec(settings, follower.spec)
        clicks = KafkaClicks(settings)
        parts.push_async_callback(clicks.close)
        place = parts.enter_context(cold_store(settings.state))
        pipeline = Pipeline(settings, follower.spec, scorer, delivery, KafkaSource(settings), clicks, failed, place=place)
        parts.push_async_callback(pipeline.close)
        if settings.metrics.port:
            server = await serve(settings.metrics.host, settings.metrics.port, process_routes(ready))
            parts.push_async_callback(server.close)
        # Before joining: a member that compiles for seconds holds up the whole group.
        await asyncio.to_thread(warm_up)
        settle()
        app = batch_app(settings, settings.worker.group, [settings.topics.clicks], pipeline)
        lag = asyncio.create_task(watch_lag(LagMetrics(pipeline, lambda tp: end_offset(app, tp))))
        parts.callback(lag.cancel)
        parts.callback(asyncio.create_task(watch_loop()).cancel)
        ready.pipeline = pipeline
        log.info("worker started", version=follower.pin().version, group=settings.worker.group)
        await run_app(app, stop, failed)
    log.info("worker stopped")


class _Readiness:
    """Ready once partitions are assigned; a member without any stays a spare and says so."""

    def __init__(self) -> None:
        self.pipeline: Pipeline | None = None

    def __call__(self) -> tuple[bool, str]:
        if self.pipeline is None or not self.pipeline.joined:
            return False, "waiting for the consumer group"
        return True, f"{len(self.pipeline.finished())} partitions"


async def _delivery(settings: Settings, parts: contextlib.AsyncExitStack) -> Delivery:
    delivery = Delivery(settings)
    # Before start: a producer that could not connect wants closing too.
    parts.push_async_callback(delivery.stop)
    try:
        await delivery.start()
    except KafkaError as error:
        raise ConfigurationError(
            f"no Kafka at {settings.kafka.bootstrap_servers}: start it, or set INKLING_KAFKA__BOOTSTRAP_SERVERS ({error})"
        ) from error
    return delivery


async def _scorer(settings: Settings, parts: contextlib.AsyncExitStack) -> tuple[ControlFollower, GuardedScorer]:
    deadline_s = settings.scoring.deadline_ms / 1000
    triton = await TritonScorer.connect(settings.triton.url, settings.model.name, deadline_s, settings.scoring.max_batch)
    parts.push_async_callback(triton.close)
    follower = ControlFollower(settings, triton, on_change=_note_version)
    follower.start()
    parts.push_async_callback(follower.stop)
    await follower.wait_first(_POINTER_WAIT_S)
    breaker = Breaker(settings.scoring.breaker_failures, settings.scoring.breaker_reset_s, clock=time.monotonic)
    return follower, GuardedScorer(triton, breaker, follower.pin, deadline_s)


def _note_version(pointer: Pointer) -> None:
    metrics.model_info.info({"name": pointer.model, "version": pointer.champion})
    metrics.model_trained_until.set((pointer.trained_until or 0) / 1000)


def _check_spec(settings: Settings, spec: FeatureSpec) -> None:
    if settings.session.window != spec.window:
        raise ConfigurationError(
            f"INKLING_SESSION__WINDOW is {settings.session.window} but the champion was trained with {spec.window}: set it so"
        )
