"""The worker's walk on genuine Kafka, with a constant scorer: nothing lost, nothing twice, state as a replay gives it."""

import asyncio
import os
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from prometheus_client import REGISTRY

from deploy.local.topics import create_topics, standard_topics
from tests.corpus import bad_records, odd_records
from tests.support.constant_worker import SPEC, run_constant_worker
from tests.support.topics import Sent, committed, read, read_scores, send, shop_records, wait_committed
from worker.contract.codec import decode
from worker.contract.events import InvalidRecord, revision_of
from worker.contract.fold import Fold
from worker.contract.packed import pack
from worker.contract.session import Session
from worker.errors import StateError
from worker.settings import Settings, StateSettings
from worker.store import KafkaSource, restore

#: A session as the format before this one had it: of shorter rows.
_EARLIER_SESSION = b"\x02" + pack(Session("v"), 0) + bytes(144)
#: Larger records never reach a topic with Kafka's default limit.
_KAFKA_LIMIT = 1_000_000


@asynccontextmanager
async def _running(settings: Settings, delay_s: float = 0.0) -> AsyncIterator["asyncio.Task[None]"]:
    stop = asyncio.Event()
    task = asyncio.create_task(run_constant_worker(settings, stop, delay_s))
    try:
        yield task
    finally:
        stop.set()
        await task


async def _replayed(settings: Settings) -> tuple[dict[int, Fold], int]:
    """A straight replay of the clicks, partition by partition: what state has to be, and how many events policy drops."""
    drops = 0
    folds = {partition: Fold(SPEC, settings.session.policy) for partition in range(settings.topics.partitions)}
    for record in await read(settings, settings.topics.clicks):
        event = decode(record.value, record.key, record.timestamp, int(settings.session.max_future_s * 1000))
        if not isinstance(event, InvalidRecord):
            drops += not folds[record.partition].apply(event, record.offset).outcome.changed
    return folds, drops


async def _assert_exact(settings: Settings, sent: int) -> None:
    """Every record has one score, dead letter or drop, copies are identical, and the changelog holds the replayed state."""
    scores = await read_scores(settings)
    dead = await read(settings, settings.topics.dead)
    by_id: dict[str, set[tuple[str, str, int]]] = {}
    for score in scores:
        by_id.setdefault(score.score_id, set()).add((score.event_id, score.input_hash, score.position))
    assert [score_id for score_id, values in by_id.items() if len(values) > 1] == []
    replayed, drops = await _replayed(settings)
    first = [score_id for score_id in by_id if not revision_of(score_id)[1]]
    assert len(first) + len({dict(record.headers)["inkling-origin"] for record in dead}) + drops == sent
    for partition, state in (await restore(KafkaSource(settings), settings, range(settings.topics.partitions), SPEC)).items():
        replayed[partition].expire()
        assert {session.visitor_id: session for session in state.fold.sessions()} == replayed[partition].sessions
        blocks = range(state.fold.counters.blocks)
        assert [state.fold.counters.block(n) for n in blocks] == [replayed[partition].counters.block(n) for n in blocks]


async def test_every_record_ends_in_one_score_or_dead_letter(settings: Settings) -> None:
    """I1 and I3: good and bad records mixed are all accounted for, and the worker goes on after each bad one."""
    good = shop_records(300)
    now_ms = time.time_ns() // 1_000_000
    bad = [case for case in bad_records(now_ms) if len(case.value or b"") < _KAFKA_LIMIT]
    odd = [(case.key, case.value) for case in odd_records(now_ms)]
    records: list[Sent] = [*good[:500], *((case.key, case.value) for case in bad), *odd, *good[500:]]
    sent = await send(settings, records)
    async with _running(settings):
        await wait_committed(settings, sent)
    await _assert_exact(settings, sent)
    reasons = Counter(dict(record.headers)["inkling-reason"].decode() for record in await read(settings, settings.topics.dead))
    assert reasons == Counter(case.reason.value for case in bad)


async def test_compressed_records_are_read_like_others(settings: Settings) -> None:
    """In every way that Kafka knows, one after the other in a topic."""
    records, sent = shop_records(120), 0
    for number, compression in enumerate((None, "gzip", "snappy", "lz4", "zstd")):
        sent += await send(settings, records[number::5], compression)
    assert sent == len(records)
    async with _running(settings):
        await wait_committed(settings, sent)
    await _assert_exact(settings, sent)


async def test_a_restarted_worker_goes_on_where_it_stopped(settings: Settings) -> None:
    """SIGTERM's path drains and commits: a second worker scores the rest, and nothing is scored twice."""
    records = shop_records(300)
    half = await send(settings, records[: len(records) // 2])
    async with _running(settings):
        await wait_committed(settings, half)
    await send(settings, records[len(records) // 2 :])
    async with _running(settings):
        await wait_committed(settings, len(records))
    assert len(await read_scores(settings)) == len(records)
    await _assert_exact(settings, len(records))


async def test_few_sessions_in_memory_change_nothing(settings: Settings, tmp_path: Path) -> None:
    """The others are on disk and come back from there; the state that a second worker reads back goes there, too."""
    few = settings.model_copy(update={"state": StateSettings(dir=tmp_path, hot_sessions=3)})
    records, reads = shop_records(300), REGISTRY.get_sample_value("inkling_cold_reads_total")
    sent = 0
    for part in (records[::2], records[1::2]):  # what is late by then is dropped, or repairs what is on disk
        sent += await send(few, part)
        async with _running(few):
            await wait_committed(few, sent)
            assert len(list(tmp_path.iterdir())) == 1
        assert list(tmp_path.iterdir()) == []
    assert (REGISTRY.get_sample_value("inkling_cold_reads_total") or 0) > (reads or 0)
    await _assert_exact(settings, len(records))


async def test_a_stop_in_mid_stream_leaves_no_copies(settings: Settings) -> None:
    """Draining finishes what was taken and commits it, so that the next worker repeats nothing."""
    sent = await send(settings, shop_records(600))
    async with _running(settings, delay_s=0.02):
        await wait_committed(settings, 200)
    assert await committed(settings) < sent
    async with _running(settings):
        await wait_committed(settings, sent)
    assert len(await read_scores(settings)) == sent
    await _assert_exact(settings, sent)


async def test_a_second_worker_joins_and_leaves_without_copies(settings: Settings) -> None:
    """A rebalance without a kill: order kept, no record lost, none scored twice."""
    records = shop_records(1500)
    await send(settings, records[:1000])
    async with _running(settings, delay_s=0.02):
        await wait_committed(settings, 300)
        async with _running(settings, delay_s=0.02):
            await send(settings, records[1000:])
            await asyncio.sleep(3)
        await wait_committed(settings, len(records))
    assert len(await read_scores(settings)) == len(records)
    await _assert_exact(settings, len(records))


@pytest.mark.parametrize("seed", [1, 2])
async def test_killed_in_mid_batch_nothing_is_lost(settings: Settings, seed: int) -> None:
    """SIGKILL at random moments, again and again: copies only, and those are identical."""
    moments = random.Random(seed)
    records = shop_records(3000, seed)
    sent = await send(settings, records)
    for _ in range(3):
        before = await committed(settings)
        worker = await _spawn(settings)
        try:
            await wait_committed(settings, min(before + 1, sent))
            await asyncio.sleep(moments.uniform(0.0, 0.6))
        finally:
            worker.kill()
            await worker.wait()
    async with _running(settings):
        await wait_committed(settings, sent)
    await _assert_exact(settings, sent)


async def test_a_changelog_behind_the_commit_is_refused(settings: Settings) -> None:
    """An emptied changelog must not become empty sessions in silence."""
    sent = await send(settings, shop_records(20))
    async with _running(settings):
        await wait_committed(settings, sent)
    elsewhere = settings.model_copy(update={"topics": settings.topics.model_copy(update={"changelog": settings.topics.outcomes})})
    with pytest.raises(StateError, match="emptied or truncated"):
        await run_constant_worker(elsewhere, asyncio.Event())


async def test_an_upgrade_past_another_state_format_folds_the_log_anew(settings: Settings) -> None:
    """What a release of before has kept is refused; what the message advises gives the same scores, and state of this release."""
    sent = await send(settings, shop_records(60))
    async with _running(settings):
        await wait_committed(settings, sent)
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers) as producer:
        await producer.send_and_wait(settings.topics.changelog, _EARLIER_SESSION, key=b"v", partition=0)
    with pytest.raises(StateError, match="use another INKLING_TOPICS__CHANGELOG and consumer group, which folds the log anew"):
        await run_constant_worker(settings, asyncio.Event())
    topics = settings.topics.model_copy(update={"changelog": f"{settings.topics.changelog}-anew"})
    worker = settings.worker.model_copy(update={"group": f"{settings.worker.group}-anew"})
    anew = settings.model_copy(update={"topics": topics, "worker": worker})
    new = [spec for spec in standard_topics(topics) if spec.name == topics.changelog]
    await asyncio.to_thread(create_topics, settings.kafka.bootstrap_servers, new)
    async with _running(anew):
        await wait_committed(anew, sent)
    await _assert_exact(anew, sent)


@pytest.mark.parametrize("damaged", ["clicks", "changelog"])
async def test_a_flipped_byte_on_kafkas_disk_ends_the_worker(
    settings: Settings, damaged: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With what to do. It neither leaves the records out nor goes on with what they hold."""
    sent = await send(settings, shop_records(200))
    if damaged == "changelog":
        async with _running(settings):
            await wait_committed(settings, sent)
    for log in tmp_path_factory.getbasetemp().glob(f"kafka[0-9]/kafka/data/{getattr(settings.topics, damaged)}-*/*.log"):
        if log.stat().st_size:
            with log.open("r+b") as file:
                file.seek(-5, os.SEEK_END)
                last = file.read(1)
                file.seek(-5, os.SEEK_END)
                file.write(bytes([last[0] ^ 1]))
    worker = await _spawn(settings, stderr=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(30):
            _, told = await worker.communicate()
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()
    assert worker.returncode == 1
    assert b"let the broker take the partition from a replica" in told.splitlines()[-1]


async def _spawn(settings: Settings, stderr: int | None = None) -> asyncio.subprocess.Process:
    environment = {
        "INKLING_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        **{f"INKLING_TOPICS__{name.upper()}": str(value) for name, value in settings.topics.model_dump().items()},
        **{f"INKLING_WORKER__{name.upper()}": str(value) for name, value in settings.worker.model_dump().items()},
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.constant_worker", env={**os.environ, **environment}, stderr=stderr
    )
