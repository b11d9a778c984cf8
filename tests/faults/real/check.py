"""What a scenario left on the topics, against two replays: the audit that is shipped, and the tests' own reference."""

import time
from collections.abc import AsyncIterator

import msgspec
from aiokafka import ConsumerRecord, TopicPartition

from tests.support.reference import Reference, replayed
from worker.audit.run import Options, audit
from worker.contract.events import ScoreEvent, revision_of
from worker.dead import parse_dead
from worker.settings import Settings
from worker.span import bounds, read_span, reader
from worker.topic import committed_offsets, partition_counts

#: Findings of one kind that are told.
_TOLD = 3
#: What of a score does not depend on when and by what it was made.
_VALUES = ("event_id", "visitor_id", "session_id", "position", "event_time", "input_hash")

_scores = msgspec.json.Decoder(ScoreEvent)


class Verdict(msgspec.Struct):
    """Counts by the audit, how long it took, and what is wrong: nothing, if all invariants hold."""

    events: int = 0
    scores: int = 0
    copies: int = 0
    dead: int = 0
    drops: int = 0
    audit_s: float = 0.0
    findings: list[str] = []

    @property
    def ok(self) -> bool:
        return not self.findings


async def check(settings: Settings, sent: int) -> Verdict:
    """Everything that was sent must be finished by now."""
    started = time.monotonic()
    report = await audit(settings, Options())
    took_s = time.monotonic() - started
    counts = report.counts
    verdict = Verdict(
        counts["clicks"], counts["scores"], counts["score copies"] + counts["dead letter copies"], counts["dead letters"],
        counts["drops"], took_s,
    )  # fmt: skip
    verdict.findings += [f"{name}: {tally.failed} wrong, {tally.first}" for name, tally in report.checks.items() if tally.failed]
    if (there := counts["clicks"] - counts["copies for users"]) != sent:
        verdict.findings.append(f"{sent} records were sent, {there} are on the topic")
    if settings.session.follow_users and not counts["copies for users"]:
        verdict.findings.append("no click was copied for a user")
    if counts["copies not there yet"]:
        verdict.findings.append(f"{counts['copies not there yet']} clicks are not copied for their users")
    if counts["clicks not finished yet"]:
        verdict.findings.append(f"{counts['clicks not finished yet']} records have no result")
    topics = settings.topics
    partitions = await partition_counts(settings.kafka, [topics.clicks, topics.scores, topics.dead])
    for partition in range(min(partitions.values())):
        verdict.findings += await _check_partition(settings, partition)
    return verdict


async def _check_partition(settings: Settings, partition: int) -> list[str]:
    expected = replayed(settings, [record async for record in _read(settings, settings.topics.clicks, partition)])
    findings = await _check_scores(settings, partition, expected)
    findings += await _check_dead(settings, partition, expected)
    committed = (await committed_offsets(settings.kafka, settings.worker.group, settings.topics.clicks)).get(partition, 0)
    if committed != expected.ends.get(partition, 0):
        findings.append(f"partition {partition} is committed up to {committed}, it ends at {expected.ends.get(partition, 0)}")
    return findings


async def _check_scores(settings: Settings, partition: int, expected: Reference) -> list[str]:
    """Every copy must be that of the replay, so copies are the same; whether their probabilities are, the audit sees."""
    scores = {(*place, 0): score for place, score in expected.scores.items()} | expected.revisions
    seen: set[tuple[int, int, int]] = set()
    wrong: list[str] = []
    async for record in _read(settings, settings.topics.scores, partition):
        score = _scores.decode(record.value or b"")
        first, revision = revision_of(score.score_id)
        topic, number, offset = first.rsplit(":", 2)
        place = (int(number), int(offset), revision)
        seen.add(place)
        should = scores.get(place)
        if topic != settings.topics.clicks or should is None or record.key != score.visitor_id.encode():
            wrong.append(f"score {score.score_id} should not be there")
        elif any(getattr(score, name) != getattr(should, name) for name in _VALUES):
            wrong.append(f"score {score.score_id} is not that of the reference replay")
    wrong += [
        f"{settings.topics.clicks}:{partition}:{offset} has no score {revision}"
        for partition, offset, revision in scores.keys() - seen
    ]
    return _first(wrong)


async def _check_dead(settings: Settings, partition: int, expected: Reference) -> list[str]:
    seen, wrong = set(), []
    async for record in _read(settings, settings.topics.dead, partition):
        letter = parse_dead(record.value, record.key, record.headers)
        place = (letter.origin.partition, letter.origin.offset) if letter else (-1, -1)
        should = expected.dead.get(place)
        seen.add(place)
        if should is None or (record.key, record.value) != (should.key, should.value):
            wrong.append(f"dead letter {letter.origin if letter else record.offset} is not that of the reference replay")
    wrong += [
        f"{settings.topics.clicks}:{partition}:{offset} has no dead letter" for partition, offset in expected.dead.keys() - seen
    ]
    return _first(wrong)


def _first(wrong: list[str]) -> list[str]:
    return wrong if len(wrong) <= _TOLD else [*wrong[:_TOLD], f"and {len(wrong) - _TOLD} more like these"]


async def _read(settings: Settings, topic: str, partition: int) -> AsyncIterator[ConsumerRecord]:
    tp = TopicPartition(topic, partition)
    async with reader(settings.kafka) as consumer:
        async for records in read_span(consumer, tp, *await bounds(consumer, tp)):
            for record in records:
                yield record
