"""The audit of the topics as they are: reads them, one partition after the other or several at once."""

import asyncio
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from worker.audit.copies import Copies, compare
from worker.audit.partition import PartitionAudit, Rules, Scope
from worker.audit.recompute import recompute
from worker.audit.report import Report
from worker.contract.features import FeatureSpec
from worker.errors import ConfigurationError
from worker.service import settle
from worker.settings import Settings
from worker.span import bounds, read_span, reader
from worker.topic import committed_offsets, partition_counts
from worker.versions import check_spec

#: Below this many clicks, starting another process takes longer than it saves.
_WORTH_A_PROCESS = 200_000
_POLL_S = 0.5


class Options(msgspec.Struct, frozen=True):
    """`wait_s`: how long to wait for the worker to finish what is there now; `model_repository`: where versions are, for I6,
    and `sample` how many scores of a partition to compute again; `processes` at most.
    """

    wait_s: float | None = None
    model_repository: Path | None = None
    sample: int = 200
    processes: int = os.cpu_count() or 1


class _Pointer(msgspec.Struct):
    """What the audit needs of the pointer record."""

    spec: FeatureSpec


async def audit(settings: Settings, options: Options, tell: Callable[[int], None] = lambda _: None) -> Report:
    """Check I1 to I7 over everything that is on the topics now. `tell` gets the number of clicks replayed so far.

    What is committed is read first, then what was written, and the clicks' end last: so in a running system nothing that
    had to be there can be missing, and nothing that is there can be about a click not yet seen.
    Raises ConfigurationError when Kafka or a topic is missing, ModelError when scores were made from rows of another layout.
    """
    try:
        partitions = await _partitions(settings)
        report = Report()
        async with reader(settings.kafka) as consumer:
            if options.wait_s is not None:
                await _wait(settings, consumer, partitions, options.wait_s, report)
            rules = await _rules(settings, consumer, partitions)
            committed = await committed_offsets(settings.kafka, settings.worker.group, settings.topics.clicks)
            tasks = [
                await _task(settings, rules, options, consumer, partitions, number, committed.get(number))
                for number in range(partitions[settings.topics.clicks])
            ]
        copies = await _run(tasks, options.processes, report, tell)
        if rules.follow_users:
            compare(settings.topics.clicks, copies, report)
    except KafkaError as error:
        raise ConfigurationError(
            f"cannot read the topics at {settings.kafka.bootstrap_servers}: {error!r}; "
            "start Kafka, or set INKLING_KAFKA__BOOTSTRAP_SERVERS"
        ) from error
    return report


class _Task(msgspec.Struct, frozen=True):
    """The audit of one partition. `written` has the part of every output topic to read."""

    settings: Settings
    rules: Rules
    options: Options
    scope: Scope
    written: dict[str, tuple[int, int]]


async def _partitions(settings: Settings) -> dict[str, int]:
    """Partitions of each topic that there is. Raises ConfigurationError when there are no clicks."""
    topics = settings.topics
    partitions = await partition_counts(
        settings.kafka, [topics.clicks, topics.scores, topics.dead, topics.outcomes, topics.control]
    )
    if topics.clicks not in partitions:
        raise ConfigurationError(f"there is no topic {topics.clicks}: make it, or set INKLING_TOPICS__CLICKS")
    return partitions


async def _wait(
    settings: Settings, consumer: AIOKafkaConsumer, partitions: dict[str, int], wait_s: float, report: Report
) -> None:
    """Wait until the worker has committed all that is there now."""
    clicks = settings.topics.clicks
    ends = await consumer.end_offsets([TopicPartition(clicks, number) for number in range(partitions[clicks])])
    give_up = time.monotonic() + wait_s
    while True:
        committed = await committed_offsets(settings.kafka, settings.worker.group, clicks)
        behind = sum(max(end - committed.get(tp.partition, 0), 0) for tp, end in ends.items())
        if not behind:
            return
        if time.monotonic() > give_up:
            report.checks["I1"].fail(f"{behind} clicks are still not committed after {wait_s:g} s")
            return
        await asyncio.sleep(_POLL_S)


async def _rules(settings: Settings, consumer: AIOKafkaConsumer, partitions: dict[str, int]) -> Rules:
    """The feature spec is that of the newest pointer; without one, that of the settings. Raises ModelError for an unknown one."""
    spec = FeatureSpec(window=settings.session.window)
    if settings.topics.control in partitions:
        control = TopicPartition(settings.topics.control, 0)
        start, end = await bounds(consumer, control)
        async for records in read_span(consumer, control, start, end):
            for record in records:
                if record.key == settings.model.name.encode() and record.value is not None:
                    spec = msgspec.json.decode(record.value, type=_Pointer).spec
    check_spec(spec, "the champion")
    policy = settings.session.policy
    return Rules(spec, policy, int(settings.session.max_future_s * 1000), settings.session.follow_users)


async def _task(
    settings: Settings,
    rules: Rules,
    options: Options,
    consumer: AIOKafkaConsumer,
    partitions: dict[str, int],
    number: int,
    committed: int | None,
) -> _Task:
    topics = settings.topics
    written = {
        topic: await bounds(consumer, TopicPartition(topic, number))
        for topic in (topics.scores, topics.dead, topics.outcomes)
        if number < partitions.get(topic, 0)
    }
    start, end = await bounds(consumer, TopicPartition(topics.clicks, number))
    return _Task(settings, rules, options, Scope(topics.clicks, number, start, end, committed), written)


async def _run(tasks: list[_Task], processes: int, report: Report, tell: Callable[[int], None]) -> list[Copies]:
    """Audit the partitions; what they tell of copies is still to be compared."""
    clicks = sum(task.scope.end - task.scope.start for task in tasks)
    processes = min(processes, len(tasks), 1 + clicks // _WORTH_A_PROCESS)
    if processes == 1:
        parts = []
        for task in tasks:
            part, copies = await _audit_partition(task)
            parts.append(copies)
            report.add(part)
            tell(report.counts["clicks"])
        return parts
    # Not forked: this process has a running event loop.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"), initializer=settle) as pool:
        loop = asyncio.get_running_loop()
        audited = await asyncio.gather(*(loop.run_in_executor(pool, _audit_in_process, task) for task in tasks))
    for part, _ in audited:
        report.add(part)
        tell(report.counts["clicks"])
    return [copies for _, copies in audited]


def _audit_in_process(task: _Task) -> tuple[Report, Copies]:
    return asyncio.run(_audit_partition(task))


async def _audit_partition(task: _Task) -> tuple[Report, Copies]:
    topics, scope = task.settings.topics, task.scope
    partition = PartitionAudit(scope, task.rules, task.options.sample if task.options.model_repository else 0)
    async with reader(task.settings.kafka) as consumer:
        for topic, add in (
            (topics.scores, partition.add_scores),
            (topics.dead, partition.add_dead),
            (topics.outcomes, partition.add_outcomes),
        ):
            start, end = task.written.get(topic, (0, 0))
            async for records in read_span(consumer, TopicPartition(topic, scope.partition), start, end):
                add(records)
        async for records in read_span(consumer, TopicPartition(topics.clicks, scope.partition), scope.start, scope.end):
            partition.replay(records)
    report = partition.finish()
    if task.options.model_repository is not None:
        recompute(partition.sample, partition.said, str(scope), task.options.model_repository, report)
    return report, partition.copies()
