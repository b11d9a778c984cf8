"""Simulated shoppers: the history at once, then live, each event with the probability that the simulator knows to be true."""

import asyncio
import time
from collections.abc import Iterator

from aiokafka import AIOKafkaProducer

from deploy.demo.plan import Plan
from training.simulate import load_shop, stream_events
from worker.contract.codec import encode
from worker.contract.events import ClickEvent
from worker.kafka import connection
from worker.settings import Settings

#: A record cut off in the middle, as a broken client would send.
_BAD_RECORD = b'{"event_id": "cut-off", "event_time": 17'
_IN_FLIGHT = 2000


class Traffic:
    """Sends events to Kafka. `truth` holds the true purchase probability by event id; `sent` and `bad` count records."""

    def __init__(self, settings: Settings, plan: Plan, now_ms: int) -> None:
        self.truth: dict[str, float] = {}
        self.sent = 0
        self.bad = 0
        self.drift = plan.drift_at(now_ms)
        self._settings = settings
        self._plan = plan
        self._now_ms = now_ms
        self._running = asyncio.Event()
        self._running.set()
        self._producer = AIOKafkaProducer(**connection(settings.kafka), acks="all", linger_ms=5)

    async def start(self) -> None:
        """Connect."""
        await self._producer.start()

    async def stop(self) -> None:
        """Send what is queued and close."""
        await self._producer.stop()

    def pause(self) -> None:
        """Hold the live events back; they go on where they stopped."""
        self._running.clear()

    def resume(self) -> None:
        """Go on after a pause."""
        self._running.set()

    async def send_history(self) -> None:
        """The days before, as fast as Kafka takes them."""
        plan = self._plan
        live_start_ms = plan.live_start_ms(self._now_ms)
        # History and live visitors are different people, so that no session lies across the border.
        events = stream_events(
            load_shop(), plan.seed, plan.history_start_ms(self._now_ms), plan.history_sessions_per_hour, block_sessions=512
        )
        for event, p in events:
            if event.event_time >= live_start_ms:
                break
            await self._send(event, p)
        await self._producer.flush()

    async def run_live(self) -> None:
        """Live events when they are due, until cancelled."""
        events = _live_events(self._plan, self._plan.live_start_ms(self._now_ms), self)
        at_ms = self._plan.live_start_ms(self._now_ms)
        due = time.monotonic()
        for event, p in events:
            due += max(event.event_time - at_ms, 0) / 1000 / self._plan.speedup
            at_ms = max(event.event_time, at_ms)
            wait_s = due - time.monotonic()
            if wait_s > 0.005:
                await asyncio.sleep(wait_s)
            if not self._running.is_set():
                await self._running.wait()
                due = time.monotonic()
            await self._send(event, p)

    async def _send(self, event: ClickEvent, p: float) -> None:
        self.truth[event.event_id] = p
        key = event.visitor_id.encode()
        await self._producer.send(self._settings.topics.clicks, encode(event), key=key)
        self.sent += 1
        if self.sent % self._plan.bad_record_every == 0:
            await self._producer.send(self._settings.topics.clicks, _BAD_RECORD, key=key)
            self.sent += 1
            self.bad += 1
        if self.sent % _IN_FLIGHT == 0:
            await self._producer.flush()


def _live_events(plan: Plan, start_ms: int, traffic: Traffic) -> Iterator[tuple[ClickEvent, float]]:
    return stream_events(load_shop(), plan.seed + 1, start_ms, plan.live_sessions_per_hour, traffic.drift, block_sessions=512)
