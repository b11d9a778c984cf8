"""Clicks from a seed: simulated visitors, and mixed in records that are late, twice, broken or odd."""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from tests.corpus import bad_records, odd_records
from tests.corpus.stories import stories
from tests.corpus.wire import Headers, wire_records
from training.simulate import load_shop, simulate
from worker.contract.codec import encode
from worker.contract.events import ClickEvent
from worker.send import partition_of

#: Larger records never reach a topic with Kafka's default limit.
_KAFKA_LIMIT = 1_000_000
_LARGE = 20_000
_PACK_BYTES = 400_000
_REQUEST_BYTES = 16_000_000
#: How long a broker may be away when clicks are to be sent.
_AWAY_S = 60.0
#: Simulated sessions have more than six events on average.
_EVENTS_PER_SESSION = 5
_FAR_TOO_LATE_MS = 3_600_000
#: Shares of a visitor's clicks at which that changes or may, and of those who are logged in then.
_LOGS_IN_OR_OUT, _LOGGED_IN = 0.2, 0.3


class Record(NamedTuple):
    """One record for a partition of the clicks topic. It may have no key and no value."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Shares(NamedTuple):
    """Which part of the clicks is sent late, late past all grace, again, and replaced by what is no event or looks so.

    `large` is the part of the bad ones that is large, so that bytes do not drown everything else.
    """

    late: float = 0.04
    too_late: float = 0.01
    twice: float = 0.03
    bad: float = 0.03
    odd: float = 0.01
    large: float = 0.02


class Traffic:
    """Records in the order in which they are to be sent, made as they are asked for; the same seed gives the same ones.

    Only what has to do with the time of sending, `now_ms`, differs from run to run.
    """

    def __init__(self, seed: int, events: int, partitions: int, now_ms: int, shares: Shares = Shares()) -> None:  # noqa: B008  # frozen
        self.now_ms = now_ms
        self._dice = random.Random(seed)
        self._partitions = partitions
        self._shares = shares
        self._newest: dict[tuple[int, str], ClickEvent] = {}
        sessions = max(events // _EVENTS_PER_SESSION, 10)
        stream = simulate(load_shop(), sessions, seed, now_ms - 86_400_000, sessions_per_hour=sessions / 4)
        self._events = stream.ending_at(now_ms).events()
        # One in so many sessions is of a visitor who comes back, so that visitors have more than one.
        self._visitors = max(sessions // 3, 5)
        self._logins = random.Random(f"{seed} logins")
        self._users: dict[str, str | None] = {}  # who is logged in, by visitor
        self._hostile = _Hostile(self._dice, now_ms)
        self._records = self._mixed()

    def take(self, number: int) -> list[Record]:
        """The next records."""
        return list(islice(self._records, number))

    def probes(self) -> list[Record]:
        """A click for every visitor seen so far, right after the newest: its score tells whether the session was kept."""
        later = [
            (partition, msgspec.structs.replace(event, event_id=f"probe-{event.event_id}", event_time=event.event_time + 1))
            for (partition, _), event in self._newest.items()
        ]
        return [Record(partition, event.visitor_id.encode(), encode(event)) for partition, event in later]

    def _mixed(self) -> Iterator[Record]:
        dice, shares = self._dice, self._shares
        held: deque[tuple[int, Record]] = deque()  # when each is sent after all
        past: deque[Record] = deque(maxlen=2_000)
        for number, event in enumerate(self._events):
            while held and held[0][0] <= number:
                yield held.popleft()[1]
            visitor = f"v{int(event.visitor_id.rpartition('-')[2]) % self._visitors}"
            event = msgspec.structs.replace(event, visitor_id=visitor, user_id=self._user(visitor))
            chance = dice.random()
            if (chance := chance - shares.bad) < 0:
                yield self._hostile.bad(self._partitions, shares.large)
                continue
            if (chance := chance - shares.odd) < 0:
                yield self._hostile.odd(self._partitions)
                continue
            if (chance := chance - shares.too_late) < 0:
                event = msgspec.structs.replace(event, event_time=event.event_time - dice.randrange(2 * _FAR_TOO_LATE_MS))
            record = self._keyed(event)
            past.append(record)
            if chance >= 0 and (chance := chance - shares.late) < 0:
                held.append((number + dice.randint(1, 300), record))
                continue
            yield record
            if 0 <= chance < shares.twice:
                yield past[-1 - dice.randrange(len(past))] if dice.random() < 0.5 else record

    def _user(self, visitor: str) -> str | None:
        """Visitors log in and out; two of them are one user."""
        if visitor not in self._users or self._logins.random() < _LOGS_IN_OR_OUT:
            user = f"u{int(visitor[1:]) // 2}" if self._logins.random() < _LOGGED_IN else None
            self._users[visitor] = user
        return self._users[visitor]

    def _keyed(self, event: ClickEvent) -> Record:
        key = event.visitor_id.encode()
        partition = partition_of(key, self._partitions)
        newest = self._newest.get((partition, event.visitor_id))
        if newest is None or newest.event_time <= event.event_time:
            self._newest[partition, event.visitor_id] = event
        return Record(partition, key, encode(event))


class _Hostile:
    """Draws from the corpus, every class as often as the others, and each time with other variants."""

    def __init__(self, dice: random.Random, now_ms: int) -> None:
        self._dice = dice
        self._now_ms = now_ms
        self._large = [
            (case.key, case.value) for case in bad_records(now_ms, dice) if _LARGE < len(case.value or b"") < _KAFKA_LIMIT
        ]
        self._bad: list[tuple[bytes | None, bytes | None, Headers]] = []
        self._odd: deque[tuple[bytes, bytes]] = deque()

    def bad(self, partitions: int, large: float) -> Record:
        """For any partition: what its key should be, nobody knows."""
        partition = self._dice.randrange(partitions)
        if self._dice.random() < large:
            return Record(partition, *self._dice.choice(self._large))
        if not self._bad:
            small = [(case.key, case.value, ()) for case in bad_records(self._now_ms, self._dice, large=False)]
            wire = [(case.key, case.value, case.headers) for case in wire_records(self._now_ms, self._dice)]
            self._bad = [*small, *self._dice.sample(wire, 3)]
            self._dice.shuffle(self._bad)
        return Record(partition, *self._bad.pop())

    def odd(self, partitions: int) -> Record:
        """For the partition of its key, as the order in a story counts."""
        if not self._odd:
            told = list(stories(self._now_ms, self._dice, length=self._dice.choice((5, 30, 300))))
            self._dice.shuffle(told)
            self._odd.extend(record for story in told for record in story.records)
            self._odd.extend((case.key, case.value) for case in odd_records(self._now_ms, self._dice, large=False))
        key, value = self._odd.popleft()
        return Record(partition_of(key, partitions), key, value)


async def send(bootstrap: str, topic: str, records: Iterable[Record], now_ms: int) -> None:
    """Send with `now_ms` as the records' timestamp, each once and confirmed, in order within a partition."""
    async with _producer(bootstrap) as producer:
        packs: dict[int, Any] = {}
        confirmations = []
        for record in records:
            pack = packs.setdefault(record.partition, producer.create_batch())
            while pack.append(key=record.key, value=record.value, timestamp=now_ms, headers=list(record.headers)) is None:
                confirmations.append(await _hand_over(producer, pack, topic, record.partition))
                pack = packs[record.partition] = producer.create_batch()
        for partition, pack in packs.items():
            if pack.record_count():
                confirmations.append(await _hand_over(producer, pack, topic, partition))
        await asyncio.gather(*confirmations)


#: A broker may be away, or have come back and not lead anything yet.
_patiently = retry(retry=retry_if_exception_type(KafkaError), wait=wait_fixed(0.2), stop=stop_after_delay(_AWAY_S), reraise=True)


@_patiently
async def _hand_over(producer: AIOKafkaProducer, pack: Any, topic: str, partition: int) -> "asyncio.Future[Any]":
    """What raises here was not taken, so it may be handed over again."""
    return await producer.send_batch(pack, topic, partition=partition)


@contextlib.asynccontextmanager
async def _producer(bootstrap: str) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, enable_idempotence=True, max_batch_size=_PACK_BYTES, max_request_size=_REQUEST_BYTES
    )
    try:
        await _patiently(producer.start)()
        yield producer
    finally:
        await producer.stop()
