"""confluent-kafka and orjson, counting events by visitor in a dict, with no output: the ceiling for librdkafka."""

import json
import sys
import time
from pathlib import Path

import orjson
from confluent_kafka import Consumer

job = json.loads(sys.argv[1])
report = Path(job["report"])
consumer = Consumer(
    {
        "bootstrap.servers": job["bootstrap"],
        "group.id": job["group"],
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    }
)
consumer.subscribe([job["clicks"]])
counts: dict[str, int] = {}
seen, committed_at = 0, 0.0
while seen < job["events"]:
    for message in consumer.consume(2000, timeout=0.5):
        if message.error():
            raise SystemExit(str(message.error()))
        if not seen:
            report.write_text(f"{time.time()}\n")
            committed_at = time.monotonic()
        visitor = orjson.loads(message.value())["visitor_id"]
        counts[visitor] = counts.get(visitor, 0) + 1
        seen += 1
    if seen and (time.monotonic() - committed_at > 1.0 or seen == job["events"]):
        consumer.commit(asynchronous=False)
        committed_at = time.monotonic()
report.write_text(f"{report.read_text()}{time.time()}\n")
consumer.close()
