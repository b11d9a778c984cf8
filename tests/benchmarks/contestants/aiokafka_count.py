"""aiokafka's `getmany` and orjson, counting events by visitor in a dict, with no output: the ceiling for our client."""

import asyncio
import json
import sys
import time
from pathlib import Path

import orjson
from aiokafka import AIOKafkaConsumer


async def _run(job: dict) -> None:
    report = Path(job["report"])
    consumer = AIOKafkaConsumer(
        job["clicks"],
        bootstrap_servers=job["bootstrap"],
        group_id=job["group"],
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    counts: dict[str, int] = {}
    seen, committed_at = 0, 0.0
    while seen < job["events"]:
        for records in (await consumer.getmany(timeout_ms=500, max_records=2000)).values():
            if not seen:
                report.write_text(f"{time.time()}\n")
                committed_at = time.monotonic()
            for record in records:
                visitor = orjson.loads(record.value)["visitor_id"]
                counts[visitor] = counts.get(visitor, 0) + 1
            seen += len(records)
        if seen and (time.monotonic() - committed_at > 1.0 or seen == job["events"]):
            await consumer.commit()
            committed_at = time.monotonic()
    report.write_text(f"{report.read_text()}{time.time()}\n")
    await consumer.stop()


if __name__ == "__main__":
    asyncio.run(_run(json.loads(sys.argv[1])))
