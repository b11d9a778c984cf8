"""The clicks topic of a simulation: what shops send, at its times, and what workers copy for users."""

import random
from collections.abc import Collection, Mapping, Set
from typing import NamedTuple

from aiokafka import ConsumerRecord, TopicPartition

from tests.faults.broker import Broker, Log, as_record
from tests.logs import START_MS, click
from worker.contract.codec import decode, encode
from worker.contract.events import ClickEvent
from worker.settings import TopicSettings

TOPIC = TopicSettings().clicks
PARTITIONS = 2
#: How far ahead of its record an event may be.
MAX_FUTURE_MS = 86_400_000
#: The latest that a click is sent.
SENT_WITHIN_S = 1.5

_GARBAGE = (None, b"", b"{", b"[1]", b'{"event_id": "x"}')
#: Who is logged in, in one click or another.
_USERS = (None, None, None, "ann", "bob")


class Sent(NamedTuple):
    """One record that a shop sends; `skipped` are the offsets that Kafka leaves out behind it."""

    at_s: float
    partition: int
    key: bytes | None
    value: bytes | None
    skipped: int


class ClickTopic:
    """The topic as it fills: `arrive` is to be called before anybody looks."""

    def __init__(self, broker: Broker, sent: list[Sent]) -> None:
        self._broker = broker
        self._sent = sent
        self._arrived = 0

    def arrive(self, now_s: float) -> None:
        """Take what was sent up to now."""
        while self._arrived < len(self._sent) and self._sent[self._arrived].at_s <= now_s:
            _, partition, key, value, skipped = self._sent[self._arrived]
            log = self.log(partition)
            log.append([(key, value, ())])
            log.end += skipped
            self._arrived += 1

    def log(self, partition: int) -> Log:
        return self._broker.log(TOPIC, partition)

    def records(self, partition: int) -> list[ConsumerRecord]:
        """What a consumer can read by now."""
        return [as_record(TOPIC, partition, entry, START_MS) for entry in self.log(partition).committed()]

    def finished(self, committed: Mapping[int, int]) -> bool:
        """Whether all has arrived, and these offsets are behind it."""
        ends = {partition: self.records(partition) for partition in range(PARTITIONS)}
        return self._arrived == len(self._sent) and all(
            committed.get(partition, 0) > records[-1].offset for partition, records in ends.items() if records
        )

    def fetch(
        self, positions: Mapping[TopicPartition, int], wanted: Collection[TopicPartition], now_s: float, most: int
    ) -> dict[TopicPartition, list[ConsumerRecord]]:
        """What is there from the positions on: a few records of each partition wanted, as fetches do."""
        self.arrive(now_s)
        found = {}
        for tp in wanted:
            at = positions[tp]
            if there := [record for record in self.records(tp.partition) if record.offset >= at]:
                # An odd number that changes with the position, so that batches differ after each way of coming here.
                found[tp] = there[: 1 + (at * 7 + int(now_s * 1000)) % most]
        return found

    def events(self, partition: int, offsets: Set[int]) -> dict[int, ClickEvent]:
        """Single clicks, by offset."""
        read = {record.offset: event_of(record) for record in self.records(partition) if record.offset in offsets}
        return {offset: event for offset, event in read.items() if event is not None}


def event_of(record: ConsumerRecord) -> ClickEvent | None:
    """The event that a record is, if it is one."""
    event = decode(record.value, record.key, record.timestamp, MAX_FUTURE_MS)
    return event if isinstance(event, ClickEvent) else None


def now_ms(at_s: float) -> int:
    """The clock on the wall at a moment of the simulation."""
    return START_MS + int(at_s * 1000)


def draw_clicks(dice: random.Random, number: int) -> list[Sent]:
    """Clicks of a few visitors: in order, late, twice, and some that are none; their offsets have gaps."""
    users = random.Random(str(dice.getstate()))  # beside the dice, so that whatever else is drawn stays the same
    clicks: list[Sent] = []
    time_ms, at_s = START_MS, 0.0
    for n in range(number):
        time_ms += dice.choice((0, 1, 700, 2_000, 9_999, 10_000))
        at_s += dice.choice((0.0, 0.0, 0.01, 0.1))
        chance = dice.random()
        partition = dice.randrange(PARTITIONS)
        visitor = f"v{partition}{dice.randrange(3)}"
        key: bytes | None = visitor.encode()
        value: bytes | None
        if chance < 0.08 and clicks:
            _, partition, key, value, _ = dice.choice(clicks)
        elif chance < 0.18:
            key, value = dice.choice((key, None)), dice.choice(_GARBAGE)
        else:
            late_ms = dice.choice((0, 0, 0, 0, 700, 3_999, 20_000))
            kind, item = dice.choice(("view", "cart", "purchase")), dice.choice((None, "lamp", "chair"))
            event = click(f"e{n}", time_ms - late_ms, visitor, kind, item)
            user = users.choice(_USERS)
            value = encode(event if user is None else click(f"e{n}", time_ms - late_ms, visitor, kind, item, user_id=user))
        clicks.append(Sent(min(at_s, SENT_WITHIN_S), partition, key, value, dice.choice((0, 0, 0, 0, 0, 2))))
    return clicks
