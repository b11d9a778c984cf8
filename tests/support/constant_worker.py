"""The scoring worker without a model server: every part but the scorer is the real one.

Also a program, so that it can be killed: `python -m tests.support.constant_worker`, settings from the environment; with
`--processes N` under the real supervisor.
"""

import argparse
import asyncio
import contextlib
import functools

from worker.cli_worker import run_workers
from worker.click_log import KafkaClicks
from worker.cold import cold_store
from worker.contract.features import FeatureSpec, ModelInputs
from worker.delivery import Delivery
from worker.errors import InklingError
from worker.pipeline import Pipeline, warm_up
from worker.scoring.base import Scores
from worker.scoring.fake import ConstantScorer
from worker.service import configure_logging, one_line, settle
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
    failed.add_done_callback(lambda _: stop.set())
    async with contextlib.AsyncExitStack() as parts:
        delivery = Delivery(settings)
        parts.push_async_callback(delivery.stop)
        await delivery.start()
        clicks = KafkaClicks(settings)
        parts.push_async_callback(clicks.close)
        place = parts.enter_context(cold_store(settings.state))
        pipeline = Pipeline(settings, SPEC, PinnedScorer(delay_s), delivery, KafkaSource(settings), clicks, failed, place=place)
        parts.push_async_callback(pipeline.close)
        await asyncio.to_thread(warm_up)
        settle()
        app = batch_app(settings, settings.worker.group, [settings.topics.clicks], pipeline)
        await run_app(app, stop, failed)


def main() -> None:
    """What `inkling worker` does with these options."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--member")
    parser.add_argument("--delay-s", type=float, default=0.02)
    options = parser.parse_args()
    configure_logging()
    try:
        run_workers(functools.partial(run_constant_worker, delay_s=options.delay_s), options.processes, options.member)
    except InklingError as error:
        raise SystemExit(f"error: {one_line(error)}") from None


if __name__ == "__main__":
    main()
