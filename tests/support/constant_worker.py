"""The scoring worker without a model server: every part but the scorer is the real one.

Also a program, so that it can be killed: `python -m tests.support.constant_worker`, settings from the environment.
"""

import asyncio
import contextlib
import signal

from worker.contract.features import FeatureSpec, ModelInputs
from worker.delivery import Delivery
from worker.pipeline import Pipeline
from worker.scoring.base import Scores
from worker.scoring.fake import ConstantScorer
from worker.settings import Settings
from worker.store import KafkaSource
from worker.stream import batch_app, run_app

SPEC = FeatureSpec()


class PinnedScorer:
    """A constant score for one version, slow enough that a kill finds batches in flight."""

    def __init__(self, delay_s: float) -> None:
        self._scorer = ConstantScorer(0.25, delay_s)

    async def score(self, inputs: ModelInputs) -> Scores:
        return await self._scorer.score(inputs, "1")


async def run_constant_worker(settings: Settings, stop: asyncio.Event, delay_s: float = 0.0) -> None:
    """Score until `stop`; raises what a partition failed with."""
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    async with contextlib.AsyncExitStack() as parts:
        delivery = Delivery(settings)
        parts.push_async_callback(delivery.stop)
        await delivery.start()
        pipeline = Pipeline(settings, SPEC, PinnedScorer(delay_s), delivery, KafkaSource(settings), failed)
        parts.push_async_callback(pipeline.close)
        app = batch_app(settings, settings.worker.group, [settings.topics.clicks], pipeline)
        await run_app(app, stop, failed)


async def _until_terminated() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await run_constant_worker(Settings(), stop, delay_s=0.02)


if __name__ == "__main__":
    asyncio.run(_until_terminated())
