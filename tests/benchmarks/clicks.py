"""The clicks that every benchmark is run on, and ways to send them."""

import asyncio
import itertools
import pickle
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from aiokafka import AIOKafkaProducer

from tests.benchmarks.process import PEER_PYTHON
from training.simulate import load_shop, simulate
from worker.contract.codec import encode

Click = tuple[bytes, bytes]  # key, value

_START_MS = 1_760_000_000_000
#: Sends that may wait for their confirmation at once.
_IN_FLIGHT = 10_000


def simulated_clicks(events: int, visitors: int, seed: int, sessions_per_hour: float) -> list[Click]:
    """Key and value of N simulated clicks in order of time. Sessions go round the visitors, so that each has many."""
    return list(stream_clicks(events, visitors, seed, sessions_per_hour))


def stream_clicks(events: int, visitors: int, seed: int, sessions_per_hour: float) -> Iterator[Click]:
    """The same one by one."""
    # A session has more than six events: this many sessions are more than enough, and the rest is cut off.
    stream = simulate(load_shop(), max(events // 4, 100), seed, _START_MS, sessions_per_hour=sessions_per_hour)
    stream = replace(stream, clicks=replace(stream.clicks, visitor=stream.clicks.session % visitors))
    return ((event.visitor_id.encode(), encode(event)) for event in itertools.islice(stream.events(), events))


async def send_all(bootstrap: str, topic: str, clicks: Iterable[Click]) -> None:
    """Send as fast as Kafka takes them, confirmed."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=2, max_batch_size=256 * 1024) as producer:
        left = iter(clicks)
        while some := list(itertools.islice(left, _IN_FLIGHT)):
            await asyncio.gather(*[await producer.send(topic, value, key=key) for key, value in some])


async def send_at_rate(bootstrap: str, topic: str, clicks: Sequence[Click], rate: float) -> float:
    """Send on a schedule, whatever becomes of the answers; returns how late the sender was at worst, in seconds.

    Each record's timestamp is the time that it was due at, so that latency counts from there. When cancelled it stops.
    """
    with tempfile.NamedTemporaryFile(prefix="inkling-clicks-") as file:
        await asyncio.to_thread(pickle.dump, list(clicks), file)
        file.flush()
        command = str(PEER_PYTHON), str(Path(__file__).with_name("open_loop.py")), file.name, bootstrap, topic, str(rate)
        sender = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
        try:
            said, errors = await sender.communicate()
        finally:
            if sender.returncode is None:
                sender.terminate()
                await sender.wait()
    if sender.returncode:
        raise SystemExit(errors.decode().strip() or f"error: the sender ended with status {sender.returncode}")
    return float(said)
