"""Sends clicks to Kafka on a schedule, whatever becomes of the answers, and prints by how many seconds it was late at worst.

Run by itself in the peers' environment: librdkafka takes a tenth of the processor time that a client in Python does, and what
makes the load should not be a part of it.
"""

import pickle
import sys
import time
from pathlib import Path

from confluent_kafka import KafkaError, Message, Producer

#: Between looks at the clock: what is due by then goes out together.
_TICK_S = 0.002
_FLUSH_S = 60.0


def main(clicks: Path, bootstrap: str, topic: str, rate: float) -> None:
    """`clicks` holds pickled pairs of key and value. Each record's timestamp is the time that it was due at."""
    pairs: list[tuple[bytes, bytes]] = pickle.loads(clicks.read_bytes())
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "partitioner": "murmur2_random",  # Kafka's own
            "queue.buffering.max.messages": 1_000_000,
            "delivery.report.only.error": True,
        }
    )
    worst, start = 0.0, time.time()
    for number, (key, value) in enumerate(pairs):
        due = start + number / rate
        while (now := time.time()) < due:
            producer.poll(0)
            time.sleep(_TICK_S)
        worst = max(worst, now - due)
        producer.produce(topic, value, key, timestamp=int(due * 1000), on_delivery=_delivered)
    if producer.flush(_FLUSH_S):
        sys.exit("error: Kafka has not confirmed all clicks")
    print(worst)


def _delivered(error: KafkaError | None, _: Message) -> None:
    if error is not None:
        sys.exit(f"error: Kafka did not take a click: {error}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4]))
