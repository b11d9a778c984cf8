"""What happens in one simulation, all of it drawn from a seed: clicks, workers, and what befalls them."""

import json
import random
from collections.abc import Collection, Mapping, Set
from typing import Literal, NamedTuple

from aiokafka import ConsumerRecord, TopicPartition

from tests.faults.network import FAILPOINTS
from tests.logs import FORGETFUL, START_MS, click
from tests.logs import WIDE as SPEC
from worker.contract.codec import encode
from worker.settings import SessionSettings, Settings, TopicSettings, WorkerSettings

PARTITIONS = 2
SETTINGS = Settings(
    topics=TopicSettings(partitions=PARTITIONS),
    session=SessionSettings(
        gap_s=FORGETFUL.gap_ms / 1000, grace_s=FORGETFUL.grace_ms / 1000, forget_s=FORGETFUL.forget_ms / 1000, window=SPEC.window
    ),
    worker=WorkerSettings(drain_s=0.3),
)
CLICKS = SETTINGS.topics.clicks
#: How long faults happen, in virtual seconds. Then everything heals.
FAULTS_S = 1.5

__all__ = ["CLICKS", "FAULTS_S", "PARTITIONS", "SETTINGS", "SPEC", "Clicks", "Fault", "Kind", "Schedule", "draw", "draw_clicks"]

Kind = Literal["crash", "pause", "start", "stop", "away", "compact", "wake"]
_KINDS: tuple[Kind, ...] = (
    "crash",
    "crash",
    "crash",
    "pause",
    "pause",
    "pause",
    "start",
    "stop",
    "away",
    "compact",
    "compact",
    "wake",
)
#: What may happen where nothing fails, and how many schedules are like that.
_CALM: tuple[Kind, ...] = ("start", "stop", "compact")
_CALM_SHARE = 0.15
_EXACTLY_ONCE_SHARE = 0.25
_GARBAGE = (None, b"", b"{", b"[1]", b'{"event_id": "x"}')


class Fault(NamedTuple):
    """One thing that happens at `at_s`. `worker` counts those alive then; `failpoint` is where, empty for at once."""

    at_s: float
    kind: Kind
    worker: int = 0
    failpoint: str = ""
    for_s: float = 0.0

    def __str__(self) -> str:
        return f"{self.at_s:6.3f} {self.kind} worker {self.worker} at {self.failpoint or 'once'} for {self.for_s:.2f} s"


class Clicks:
    """The clicks topic: records by partition, each visible from a moment on."""

    def __init__(self, records: list[list[tuple[float, ConsumerRecord]]]) -> None:
        self.records = records

    @property
    def ends(self) -> dict[int, int]:
        """The offset to be committed at the end, for partitions with records."""
        return {number: part[-1][1].offset + 1 for number, part in enumerate(self.records) if part}

    def now_ms(self, at_s: float) -> int:
        """The clock on the wall at a moment of the simulation."""
        return START_MS + int(at_s * 1000)

    def fetch(
        self, positions: Mapping[TopicPartition, int], wanted: Collection[TopicPartition], now_s: float, most: int
    ) -> dict[TopicPartition, list[ConsumerRecord]]:
        """What is there from the positions on: a few records of each partition wanted, as fetches do."""
        found = {}
        for tp in wanted:
            at = positions[tp]
            there = [record for seen_s, record in self.records[tp.partition] if record.offset >= at and seen_s <= now_s]
            if there:
                # An odd number that changes with the position, so that batches differ after each way of coming here.
                found[tp] = there[: 1 + (at * 7 + int(now_s * 1000)) % most]
        return found

    def event_ids(self, partition: int, offsets: Set[int]) -> dict[int, str]:
        """The event ids of clicks, by offset."""
        wanted = (record for _, record in self.records[partition] if record.offset in offsets)
        return {record.offset: json.loads(record.value or b"")["event_id"] for record in wanted}


class Schedule(NamedTuple):
    """A simulation to run."""

    seed: int
    clicks: Clicks
    workers: int
    unruly: float  # share of requests that are lost, late or answered in vain
    faults: list[Fault]
    exactly_once: bool = False

    @property
    def settings(self) -> Settings:
        """What the workers are told. In one of three nearly all sessions are cold."""
        worker = SETTINGS.worker.model_copy(update={"delivery": "exactly_once"}) if self.exactly_once else SETTINGS.worker
        state = SETTINGS.state.model_copy(update={"hot_sessions": None if self.seed % 3 else 1})
        return SETTINGS.model_copy(update={"worker": worker, "state": state})

    @property
    def calm(self) -> bool:
        """Whether nothing fails: workers only come and go."""
        return not self.unruly and all(fault.kind in ("start", "stop", "compact") for fault in self.faults)


def draw(seed: int) -> Schedule:
    """The schedule of a seed."""
    dice = random.Random(seed)
    clicks = draw_clicks(dice, dice.randint(10, 40))
    kinds: tuple[Kind, ...] = _CALM if dice.random() < _CALM_SHARE else _KINDS
    faults = sorted(_fault(dice, dice.choice(kinds)) for _ in range(dice.randint(1, 8)))
    unruly = 0.0 if kinds is _CALM else dice.choice((0.0, 0.0, 0.05, 0.15))
    return Schedule(seed, clicks, dice.randint(1, 3), unruly, faults, exactly_once=dice.random() < _EXACTLY_ONCE_SHARE)


def draw_clicks(dice: random.Random, number: int) -> Clicks:
    """Clicks of a few visitors: in order, late, twice, and some that are none; their offsets have gaps."""
    records: list[list[tuple[float, ConsumerRecord]]] = [[] for _ in range(PARTITIONS)]
    offsets = [0] * PARTITIONS
    time_ms, seen_s = START_MS, 0.0
    sent: list[tuple[bytes | None, bytes | None, int]] = []
    for n in range(number):
        time_ms += dice.choice((0, 1, 700, 2_000, 9_999, 10_000))
        seen_s += dice.choice((0.0, 0.0, 0.01, 0.1))
        chance = dice.random()
        partition = dice.randrange(PARTITIONS)
        visitor = f"v{partition}{dice.randrange(3)}"
        key: bytes | None = visitor.encode()
        value: bytes | None
        if chance < 0.08 and sent:
            key, value, partition = dice.choice(sent)
        elif chance < 0.18:
            key, value = dice.choice((key, None)), dice.choice(_GARBAGE)
        else:
            late_ms = dice.choice((0, 0, 0, 0, 700, 3_999, 20_000))
            kind, item = dice.choice(("view", "cart", "purchase")), dice.choice((None, "lamp", "chair"))
            value = encode(click(f"e{n}", time_ms - late_ms, visitor, kind, item))
        sent.append((key, value, partition))
        offset = offsets[partition]
        record = ConsumerRecord(CLICKS, partition, offset, time_ms, 0, key, value, None, 0, 0, ())
        records[partition].append((min(seen_s, FAULTS_S), record))
        offsets[partition] += dice.choice((1, 1, 1, 1, 1, 3))
    return Clicks(records)


def _fault(dice: random.Random, kind: Kind) -> Fault:
    at_s, worker = dice.uniform(0.0, FAULTS_S), dice.randrange(3)
    match kind:
        case "crash":
            return Fault(at_s, kind, worker, dice.choice(FAILPOINTS))
        case "pause":  # half of them for longer than the group waits
            return Fault(at_s, kind, worker, dice.choice(FAILPOINTS), dice.choice((0.1, 0.3, 0.6, 0.9, 1.4)))
        case "away":
            return Fault(at_s, kind, for_s=dice.choice((0.05, 0.3, 0.7)))
        case _:
            return Fault(at_s, kind, worker)
