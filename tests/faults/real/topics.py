"""Topics that refuse, vanish, grow or are set back under the worker's feet: it stops or holds, and never skips or forgets."""

import asyncio
import contextlib

from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from deploy.local.topics import standard_topics
from tests.faults.real.stage import Failed, Stage
from tests.support.reference import commit
from tests.support.topics import delete_records, read
from worker.contract.codec import decode
from worker.contract.events import InvalidRecord
from worker.kafka import admin_client

#: How long a worker gets to do what it must not do.
_WATCH_S = 10.0
_REFUSE_S = 60.0


async def dead_letters_refused(stage: Stage) -> str:
    """The dead-letter topic takes no record: nothing is committed past the first record that has to go there."""
    await _configure(stage, stage.topics.dead, {"max.message.bytes": "40"})
    await _held(stage)
    await _configure(stage, stage.topics.dead, {})
    await stage.finish()
    return "dead-letter topic with max.message.bytes 40, then mended"


async def dead_letters_gone(stage: Stage) -> str:
    """There is no dead-letter topic: the same."""
    async with admin_client(stage.settings.kafka) as admin:
        await admin.delete_topics([stage.topics.dead])
    await _held(stage)
    await _make_again(stage, stage.topics.dead)
    await stage.finish()
    return "dead-letter topic deleted, then made again"


async def offsets_set_back(stage: Stage) -> str:
    """The group's offsets are set to 0, or anywhere: what was done is not done again."""
    await stage.send(stage.events // 2)
    worker = stage.worker(delay_ms=0.0)
    await stage.until_committed(stage.sent)
    await stage.end(worker)
    ends = await stage.committed()
    await commit(stage.settings, dict.fromkeys(ends, 0))
    worker = stage.worker(delay_ms=0.0)
    await stage.until_committed(stage.sent)
    await stage.end(worker)
    back = {partition: stage.dice.randrange(end) for partition, end in ends.items()}
    await commit(stage.settings, back)
    await stage.send(stage.events - stage.sent)
    stage.copies_allowed = False
    await stage.finish()
    return f"offsets set to 0, then to {', '.join(map(str, back.values()))}"


async def changelog_emptied(stage: Stage) -> str:
    """The changelog is empty and offsets are committed: the worker refuses, and says what to do. Done, all is scored anew."""
    await _half_done(stage)
    async with admin_client(stage.settings.kafka) as admin:
        await admin.delete_topics([stage.topics.changelog])
    await _make_again(stage, stage.topics.changelog)
    await _refused(stage, "emptied or truncated")
    await commit(stage.settings, dict.fromkeys(await stage.committed(), 0))
    await stage.finish()
    return "changelog emptied, worker refused; then offsets set to 0, as it advises"


async def changelog_truncated(stage: Stage) -> str:
    """The older part of the changelog is deleted, as by a retention: the worker refuses, and says what to do."""
    await _half_done(stage)
    changelog, partitions = stage.topics.changelog, range(stage.topics.partitions)
    await _configure(stage, changelog, {"cleanup.policy": "compact,delete"})
    async with admin_client(stage.settings.kafka) as admin:
        ends = await _ends(stage, changelog)
        await delete_records(admin, {TopicPartition(changelog, partition): ends[partition] - 5 for partition in partitions})
    await _configure(stage, changelog, {"cleanup.policy": "compact"})
    await _refused(stage, "emptied or truncated")
    async with admin_client(stage.settings.kafka) as admin:
        await admin.delete_topics([changelog])
    await _make_again(stage, changelog)
    await commit(stage.settings, dict.fromkeys(await stage.committed(), 0))
    await stage.finish()
    return "changelog cut down to its last records, worker refused; then made anew and offsets set to 0"


async def partitions_added(stage: Stage) -> str:
    """The clicks topic grows while a worker runs: visitors move, and the worker refuses rather than begin them anew."""
    await stage.send(stage.events // 2)
    worker = stage.worker(delay_ms=0.0)
    await stage.until_committed(stage.sent)
    async with admin_client(stage.settings.kafka) as admin:
        await admin.create_partitions({stage.topics.clicks: NewPartitions(stage.topics.partitions + 2)})
    with contextlib.suppress(TimeoutError):
        await worker.ended(_REFUSE_S)
    if worker.status != 1 or "partitions" not in worker.said.splitlines()[-1]:
        stage.findings.append(f"a worker that saw partitions added did not refuse ({worker.status}): {worker.said[-300:]}")
    await _refused(stage, "partitions")
    return "two partitions added to clicks, worker refused, and again at its start"


async def _held(stage: Stage) -> None:
    """A worker runs for a while: it may end, and it must not pass a record that it could not put away."""
    await stage.send(stage.events)
    worker = stage.worker(delay_ms=0.0)
    await stage.joined(worker)
    await asyncio.sleep(_WATCH_S)
    first_bad: dict[int, int] = {}
    for record in await read(stage.settings, stage.topics.clicks):
        if isinstance(decode(record.value, record.key, record.timestamp, 86_400_000), InvalidRecord):
            first_bad.setdefault(record.partition, record.offset)
    for partition, offset in (await stage.committed()).items():
        if offset > first_bad.get(partition, offset):
            stage.findings.append(f"partition {partition} is committed up to {offset}, past {first_bad[partition]}")
    if worker.status is None:
        await stage.end(worker)
    elif worker.status != 1:
        stage.findings.append(f"the worker ended with {worker.status}: {worker.said[-300:]}")


async def _half_done(stage: Stage) -> None:
    await stage.send(stage.events)
    worker = stage.worker(delay_ms=0.0)
    await stage.until_committed(stage.sent)
    await stage.end(worker)


async def _refused(stage: Stage, because: str) -> None:
    """A worker ends by itself, with one line that says why."""
    worker = stage.worker(delay_ms=0.0)
    try:
        status = await worker.ended(_REFUSE_S)
    except TimeoutError:
        stage.findings.append(f"the worker did not refuse to run: {worker.said[-300:]}")
        worker.destroy()
        await asyncio.sleep(stage.settings.worker.session_timeout_s + 1.0)  # until then it counts as a member
        return
    last = (worker.said.splitlines() or [""])[-1]
    if status != 1 or not last.startswith("error: ") or because not in last:
        stage.findings.append(f"the worker ended with {status} and said: {last[:300]}")


async def _make_again(stage: Stage, topic: str) -> None:
    spec = next(spec for spec in standard_topics(stage.topics) if spec.name == topic)

    async def made() -> bool:
        async with admin_client(stage.settings.kafka) as admin:
            await admin.create_topics([NewTopic(spec.name, spec.partitions, 1, topic_configs=dict(spec.config))])
            found = (await admin.describe_topics([topic]))[0]["partitions"]
        return len(found) == spec.partitions and all(partition["leader"] >= 0 for partition in found)

    # What is being deleted is there for a while.
    await asyncio.sleep(1.0)
    await stage.until(made, 30.0, f"{topic} could not be made again")


async def _configure(stage: Stage, topic: str, config: dict[str, str]) -> None:
    spec = next(spec for spec in standard_topics(stage.topics) if spec.name == topic)
    async with admin_client(stage.settings.kafka) as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {**spec.config, **config})])


async def _ends(stage: Stage, topic: str) -> dict[int, int]:
    records = await read(stage.settings, topic)
    ends: dict[int, int] = {}
    for record in records:
        ends[record.partition] = record.offset + 1
    if len(ends) < stage.topics.partitions:
        raise Failed(f"only {len(ends)} partitions of {topic} hold anything")
    return ends
