"""Inkling's worker, whole but for the model: decode, fold, encode, constant score, publish, changelog, commit."""

import asyncio
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tests.support import constant_worker
from worker.pipeline import Pipeline
from worker.settings import KafkaSettings, Settings, TopicSettings, WorkerSettings


class _TimedPipeline(Pipeline):
    """Says when the first batch came."""

    report: Path

    def take(self, partition: Any, records: Any) -> None:
        if not self.report.exists():
            self.report.write_text(f"{time.time()}\n")
        super().take(partition, records)


async def _run(job: dict[str, Any]) -> None:
    _TimedPipeline.report = Path(job["report"])
    constant_worker.Pipeline = _TimedPipeline  # type: ignore[misc]
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    settings = Settings(
        kafka=KafkaSettings(bootstrap_servers=job["bootstrap"]),
        topics=TopicSettings(clicks=job["clicks"], scores=job["output"], changelog=job["changelog"], dead=job["dead"]),
        worker=WorkerSettings(group=job["group"], max_batch=job["max_batch"], delivery=job["delivery"]),
    )
    await constant_worker.run_constant_worker(settings, stop)


if __name__ == "__main__":
    asyncio.run(_run(json.loads(sys.argv[1])))
