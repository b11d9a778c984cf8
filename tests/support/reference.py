"""What a worker has to write for the clicks on the topic, made by a straight replay: constant scores, dead letters, drops.

Tests may change it before it is written, to see whether a reader notices.
"""

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from tests.support.topics import read
from worker.contract.codec import decode, encode
from worker.contract.events import EVENT_TYPES, HORIZONS, InvalidRecord, OutcomeEvent, ScoreEvent
from worker.contract.features import FeatureSpec
from worker.contract.fold import Fold
from worker.dead import dead_letter
from worker.labels import OutcomeJoin
from worker.settings import Settings

SPEC = FeatureSpec()


class Written(NamedTuple):
    """A record for one partition."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class Reference(NamedTuple):
    """`scores` and `dead` by (partition, offset) of their click, in order; `ends` has the end of each partition.

    `revisions` are the scores made anew after late events, by (partition, offset, number), in the order of these.
    """

    scores: dict[tuple[int, int], ScoreEvent]
    dead: dict[tuple[int, int], Written]
    ends: dict[int, int]
    revisions: dict[tuple[int, int, int], ScoreEvent]

    def score_records(self, settings: Settings) -> list[Written]:
        """The scores as records, those made anew behind the others."""
        first = [score_record(settings, partition, score) for (partition, _), score in self.scores.items()]
        return first + [score_record(settings, partition, score) for (partition, _, _), score in self.revisions.items()]


def score_record(settings: Settings, partition: int, score: ScoreEvent) -> Written:
    """One score as a record."""
    return Written(settings.topics.scores, partition, score.visitor_id.encode(), encode(score))


async def reference(settings: Settings) -> Reference:
    """Replay the clicks topic."""
    return replayed(settings, await read(settings, settings.topics.clicks))


def replayed(settings: Settings, clicks: Iterable[ConsumerRecord]) -> Reference:
    """Replay these clicks."""
    policy = settings.session.policy
    folds: dict[int, Fold] = {}
    made = Reference({}, {}, {}, {})
    for record in clicks:
        at = (record.partition, record.offset)
        made.ends[record.partition] = record.offset + 1
        event = decode(record.value, record.key, record.timestamp, int(settings.session.max_future_s * 1000))
        if isinstance(event, InvalidRecord):
            key, value, headers = dead_letter(
                record.value, record.key, record.headers, topic=record.topic, partition=record.partition,
                offset=record.offset, timestamp_ms=record.timestamp, reason=event.reason.value, detail=event.detail,
                stage="decode", worker_version="0",
            )  # fmt: skip
            made.dead[at] = Written(settings.topics.dead, record.partition, key, value, tuple(headers))
            continue
        session, outcome, revisions = folds.setdefault(record.partition, Fold(SPEC, policy)).apply(event, record.offset)
        if outcome.changed:
            p = 0.1 + record.offset % 7 / 10
            made.scores[at] = ScoreEvent(
                score_id=f"{record.topic}:{record.partition}:{record.offset}", event_id=event.event_id,
                visitor_id=event.visitor_id, session_id=session.session_id, position=session.position,
                event_time=event.event_time, scored_at=record.timestamp, age_ms=0, deadline_met=True, model="intent",
                version="1", path="model", input_hash=session.input_hash,
                scores={
                    "purchase": {horizon: p + k / 100 for k, horizon in enumerate(HORIZONS)},
                    "cart": {horizon: p + k / 200 for k, horizon in enumerate(HORIZONS)},
                    "churn": p,
                    "next_type": dict.fromkeys(EVENT_TYPES, 0.125),
                },
            )  # fmt: skip
        for revision in revisions:
            first = made.scores[record.partition, revision.offset]
            made.revisions[record.partition, revision.offset, revision.number] = changed(
                first, score_id=f"{first.score_id}:r{revision.number}", position=revision.position,
                input_hash=f"{revision.input_hash:016x}",
            )  # fmt: skip
    return made


async def outcomes_of(settings: Settings, made: Reference) -> list[tuple[int, OutcomeEvent]]:
    """The outcomes that the clicks and scores bring about, with their partitions."""
    return outcomes_from(settings, await read(settings, settings.topics.clicks), made)


def outcomes_from(settings: Settings, clicks: Iterable[ConsumerRecord], made: Reference) -> list[tuple[int, OutcomeEvent]]:
    """The same for these clicks."""
    joins = {partition: OutcomeJoin(settings.session.policy) for partition in range(settings.topics.partitions)}
    for record in clicks:
        event = decode(record.value, record.key, record.timestamp, int(settings.session.max_future_s * 1000))
        joins[record.partition].add_click(None if isinstance(event, InvalidRecord) else event, record.offset)
    places: dict[int, int] = {}
    for (partition, _), score in made.scores.items():
        places[partition] = places.get(partition, -1) + 1
        joins[partition].add_score(score, places[partition])
    return [(partition, outcome) for partition, join in joins.items() for outcome in join.advance()]


async def write(settings: Settings, records: Iterable[Written]) -> None:
    """Send the records, confirmed, in order within a partition."""
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers, linger_ms=5) as producer:
        confirmations = [
            await producer.send(record.topic, record.value, key=record.key, partition=record.partition,
                                headers=list(record.headers))
            for record in records
        ]  # fmt: skip
        await asyncio.gather(*confirmations)


async def commit(settings: Settings, ends: dict[int, int]) -> None:
    """Commit the clicks up to `ends` for the worker's group."""
    async with AIOKafkaConsumer(
        bootstrap_servers=settings.kafka.bootstrap_servers, group_id=settings.worker.group, enable_auto_commit=False
    ) as consumer:
        tps = {TopicPartition(settings.topics.clicks, partition): end for partition, end in ends.items()}
        consumer.assign(list(tps))
        await consumer.commit(tps)


def changed(score: ScoreEvent, **fields: object) -> ScoreEvent:
    """The score with other fields."""
    return msgspec.structs.replace(score, **fields)
