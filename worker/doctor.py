"""`inkling doctor`: what is wrong with the surroundings, and how to mend it. Looks only, and writes nothing."""

import asyncio
import json
import logging
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import typer
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.markup import escape

from worker.control import read_pointer
from worker.errors import InklingError
from worker.kafka import admin_client
from worker.scoring.triton import TritonScorer
from worker.settings import Settings
from worker.settings_report import setting_lines
from worker.topic import records_to_end, whole_topic

_TIMEOUT_S = 5.0
_CLOCK_AHEAD_WARN_S = 5.0  # a record from the future by more than this: two clocks disagree
_DISK_FAIL_BYTES = 500 * 2**20
_DISK_WARN_BYTES = 2 * 2**30
_COLOUR = {"ok": "green", "warn": "yellow", "fail": "red"}


class Finding(NamedTuple):
    """The result of one check; `mend` says what to do unless all is well."""

    check: str
    status: Literal["ok", "warn", "fail"]
    what: str
    mend: str = ""


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
    show_settings: Annotated[bool, typer.Option("--settings", help="Print every setting with its source instead.")] = False,
) -> None:
    """Check Kafka, topics, Triton, the model, the clock, the disk and the local stack's needs."""
    settings = Settings()
    if show_settings:
        _print_settings(settings, as_json)
        return
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it logs is said by the findings, once
    findings = asyncio.run(examine(settings))
    if as_json:
        print(json.dumps([finding._asdict() for finding in findings], indent=2))
    else:
        _print_findings(findings)
    failed = [finding.check for finding in findings if finding.status == "fail"]
    if failed:
        raise InklingError(f"{len(failed)} of {len(findings)} checks failed: {', '.join(failed)}")


async def examine(settings: Settings) -> list[Finding]:
    """Every check, in the order in which faults follow from one another."""
    kafka = await check_kafka(settings)
    findings = [kafka]
    if kafka.status == "fail":
        findings += [Finding(check, "warn", "not checked: Kafka is away") for check in ("topics", "clock")]
    else:
        findings += [await check_topics(settings), await check_clock(settings)]
    findings.append(await check_triton(settings))
    findings.append(await check_model(settings))
    findings.append(check_disk(settings.state.dir))
    return findings + check_local_stack()


async def check_kafka(settings: Settings) -> Finding:
    """Whether a broker answers a metadata request."""
    address = settings.kafka.bootstrap_servers
    try:
        async with admin_client(settings.kafka, _TIMEOUT_S) as admin:
            brokers = len((await admin.describe_cluster())["brokers"])
    except (KafkaError, OSError, TimeoutError, ValueError) as error:
        return Finding("kafka", "fail", f"{address} does not answer ({_reason(error)})", _WHERE_IS_KAFKA)
    return Finding("kafka", "ok", f"{address} answers, {brokers} broker{'s' if brokers > 1 else ''}")


async def check_topics(settings: Settings) -> Finding:
    """Whether every topic is there, and those read side by side have as many partitions as each other."""
    names = settings.topics
    together = (names.clicks, names.scores, names.dead, names.outcomes, names.changelog)
    try:
        async with admin_client(settings.kafka, _TIMEOUT_S) as admin:
            # All of them: where the broker is set so, asking for a topic by its name would make it.
            partitions = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
    except (KafkaError, OSError, TimeoutError) as error:
        return Finding("topics", "fail", f"cannot be listed ({_reason(error)})", "allow this user to describe topics")
    missing = [name for name in (*together, names.control) if name not in partitions]
    if missing:
        mend = "make them (`inkling stack up` does on the local Kafka), or set INKLING_TOPICS__*"
        return Finding("topics", "fail", f"missing: {', '.join(missing)}", mend)
    counts = {name: partitions[name] for name in together}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        return Finding("topics", "fail", f"unequal numbers of partitions: {told}", "give all of them as many as clicks has")
    return Finding("topics", "ok", f"all there, {counts[names.clicks]} partitions")


async def check_clock(settings: Settings) -> Finding:
    """Whether the newest clicks are from the future by this machine's clock."""
    topic = settings.topics.clicks
    try:
        async with whole_topic(settings.kafka, topic) as consumer:
            newest_ms = await _newest_timestamp_ms(consumer)
    except (KafkaError, OSError, TimeoutError) as error:
        return Finding("clock", "warn", f"not checked: {topic} cannot be read ({_reason(error)})", "see the line on topics")
    if newest_ms is None:
        return Finding("clock", "ok", f"nothing to compare with: {topic} is empty")
    ahead_s = newest_ms / 1000 - time.time()
    if ahead_s > _CLOCK_AHEAD_WARN_S:
        what = f"the newest record of {topic} is {ahead_s:.0f} s ahead of this machine"
        return Finding("clock", "warn", what, "set this machine's and the producers' clocks by NTP: ages and deadlines are wrong")
    return Finding("clock", "ok", f"the newest record of {topic} is {-ahead_s:.0f} s old")


async def check_triton(settings: Settings) -> Finding:
    """Whether the model server answers."""
    scorer = await TritonScorer.connect(settings.triton.url, settings.model.name, _TIMEOUT_S, settings.scoring.max_batch)
    try:
        live = await scorer.is_live()
    finally:
        await scorer.close()
    if live:
        return Finding("triton", "ok", f"{settings.triton.url} answers")
    return Finding("triton", "fail", f"{settings.triton.url} does not answer", _WHERE_IS_TRITON)


async def check_model(settings: Settings) -> Finding:
    """Whether a champion is named and the model server has it."""
    name = settings.model.name
    try:
        pointer = await asyncio.wait_for(read_pointer(settings), _TIMEOUT_S)
    except (InklingError, KafkaError, OSError, TimeoutError) as error:
        return Finding("model", "fail", f"{settings.topics.control} cannot be read ({_reason(error)})", "see kafka and topics")
    if pointer is None:
        return Finding("model", "fail", f"{settings.topics.control} names no version of {name}", "`inkling promote V` names one")
    scorer = await TritonScorer.connect(settings.triton.url, name, _TIMEOUT_S, settings.scoring.max_batch)
    try:
        ready = await scorer.is_ready(pointer.champion)
    finally:
        await scorer.close()
    if ready:
        return Finding("model", "ok", f"{name} version {pointer.champion} is ready")
    mend = f"publish it where the server looks, or go back with `inkling rollback`; until then the fallback answers ({name})"
    return Finding("model", "fail", f"the model server does not have version {pointer.champion} of {name}", mend)


def check_disk(directory: Path) -> Finding:
    """Whether the disk of the state directory has room."""
    there = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    what = f"{free / 2**30:.1f} GiB free on the disk of {directory}"
    if free < _DISK_FAIL_BYTES:
        return Finding("disk", "fail", what, "free some space, or move INKLING_STATE__DIR")
    if free < _DISK_WARN_BYTES:
        return Finding("disk", "warn", what, "soon to be full: free some space, or move INKLING_STATE__DIR")
    return Finding("disk", "ok", what)


def check_local_stack() -> list[Finding]:
    """Whether `inkling stack up` has what it needs. Nothing in an install without it."""
    try:
        from deploy.local.java import find_java
        from deploy.local.triton_files import find_triton
    except ImportError:
        return []
    findings = []
    for check, find in (("java", find_java), ("triton binaries", lambda: find_triton().server)):
        try:
            findings.append(Finding(check, "ok", str(find())))
        except InklingError as error:
            what, _, mend = str(error).partition(": ")
            findings.append(Finding(check, "warn", f"{what} (only the local stack needs it)", mend))
    return findings


async def _newest_timestamp_ms(consumer: AIOKafkaConsumer) -> int | None:
    """Of the last record of every partition that has one."""
    for partition, end in (await consumer.end_offsets(consumer.assignment())).items():
        consumer.seek(partition, max(end - 1, 0))
    return max([record.timestamp async for records in records_to_end(consumer) for record in records], default=None)


def _reason(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _print_findings(findings: Sequence[Finding]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for check, status, what, mend in findings:
        console.print(f"[{_COLOUR[status]}]{status:<4}[/] {check:<15} {escape(what)}")
        if mend:
            console.print(f"     {'':<15} → {escape(mend)}")


def _print_settings(settings: Settings, as_json: bool) -> None:
    lines = setting_lines(settings)
    if as_json:
        print(json.dumps([line._asdict() for line in lines], indent=2))
        return
    for name, value, source in lines:
        print(f"{name:<36} {value:<28} {source}")


_WHERE_IS_KAFKA = (
    'start it, or set INKLING_KAFKA__BOOTSTRAP_SERVERS (local: `inkling stack up`, then eval "$(inkling stack env)")'
)
_WHERE_IS_TRITON = 'start it, or set INKLING_TRITON__URL (local: `inkling stack up`, then eval "$(inkling stack env)")'
