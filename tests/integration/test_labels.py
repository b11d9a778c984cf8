"""The outcome join on genuine Kafka: one outcome for every score and horizon, whatever happens to the process."""

import asyncio
import os
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest

from tests.support.reference import Reference, Written, outcomes_of, reference, write
from tests.support.topics import read, send, shop_records
from worker.contract.codec import encode
from worker.contract.events import ClickEvent, OutcomeEvent
from worker.errors import ConfigurationError, StateError
from worker.labels import OUTCOMES_PER_SCORE, PROGRESS_HEADER, Progress
from worker.labels_app import run_labels
from worker.settings import KafkaSettings, LabelSettings, MetricsSettings, Settings, TopicSettings, WorkerSettings
from worker.topic import committed_offsets

_outcomes = msgspec.json.Decoder(OutcomeEvent)
_END_MS = 1_760_000_000_000 + 60 * 86_400_000


@pytest.fixture
def settings(kafka: str, topics: TopicSettings) -> Settings:
    return Settings(
        kafka=KafkaSettings(bootstrap_servers=kafka),
        topics=topics,
        worker=WorkerSettings(max_batch=200, commit_interval_s=0.2, session_timeout_s=1.5),
        labels=LabelSettings(group=f"labels-{topics.clicks}"),
        metrics=MetricsSettings(labels_port=0),
    )


@asynccontextmanager
async def _running(settings: Settings) -> AsyncIterator["asyncio.Task[None]"]:
    stop = asyncio.Event()
    task = asyncio.create_task(run_labels(settings, stop))
    try:
        yield task
    finally:
        stop.set()
        await task


def _endings() -> list[tuple[bytes, bytes]]:
    """A click far in the future for every partition, so that all before it matures: these visitors lie on all four."""
    return [
        (visitor.encode(), encode(ClickEvent(f"end-{visitor}", _END_MS, visitor, "view")))
        for visitor in (f"z{n}" for n in range(40))
    ]


async def _read_outcomes(settings: Settings) -> list[tuple[int, OutcomeEvent]]:
    return [(record.partition, _outcomes.decode(record.value)) for record in await read(settings, settings.topics.outcomes)]


async def _until(done: Callable[[], Awaitable[bool]], timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while not await done():
        assert time.monotonic() < end, "not in time"
        await asyncio.sleep(0.3)


async def _wait_for(settings: Settings, count: int) -> None:
    async def enough() -> bool:
        return len({outcome.outcome_id for _, outcome in await _read_outcomes(settings)}) >= count

    await _until(enough)


async def _send_all(settings: Settings, sessions: int) -> tuple[Reference, list[tuple[int, OutcomeEvent]]]:
    await send(settings, [*shop_records(sessions), *_endings()])
    made = await reference(settings)
    await write(settings, made.score_records(settings))
    return made, await outcomes_of(settings, made)


def _sorted(outcomes: list[tuple[int, OutcomeEvent]]) -> list[tuple[int, OutcomeEvent]]:
    return sorted(outcomes, key=lambda pair: pair[1].outcome_id)


async def test_every_score_and_horizon_has_one_outcome(settings: Settings) -> None:
    """All of them, none twice, on the partition of their score, with the values of the pure join."""
    made, expected = await _send_all(settings, 100)
    matured = len(made.scores) - len(_endings())
    assert len(expected) == matured * OUTCOMES_PER_SCORE
    async with _running(settings):
        await _wait_for(settings, len(expected))
    assert _sorted(await _read_outcomes(settings)) == _sorted(expected)
    for record in await read(settings, settings.topics.outcomes):
        assert record.key == _outcomes.decode(record.value).visitor_id.encode()


async def test_a_restart_repeats_nothing(settings: Settings) -> None:
    """Stopped in the middle, and again before the last click: what was out stays out, what was pending comes."""
    records = shop_records(100)
    for part in (records[:300], records[300:], _endings()):
        await send(settings, part)
        made = await reference(settings)
        written = {record.value for record in await read(settings, settings.topics.scores)}
        fresh = [record for record in made.score_records(settings) if record.value not in written]
        assert len(fresh) + len(written) == len(made.scores)
        await write(settings, fresh)
        expected = await outcomes_of(settings, made)
        async with _running(settings):
            await _wait_for(settings, len(expected))
    assert _sorted(await _read_outcomes(settings)) == _sorted(expected)


async def test_commits_never_pass_a_score_with_outcomes_to_come(settings: Settings) -> None:
    """While horizons are open, the committed offset of the scores stays at the lowest one that waits."""
    await send(settings, shop_records(60))
    made = await reference(settings)
    await write(settings, made.score_records(settings))
    expected = await outcomes_of(settings, made)
    async with _running(settings):
        await _wait_for(settings, len(expected))
    outcomes = Counter(outcome.score_id for _, outcome in expected)
    committed = await committed_offsets(settings.kafka, settings.labels.group, settings.topics.scores)
    clicks = await committed_offsets(settings.kafka, settings.labels.group, settings.topics.clicks)
    assert clicks == made.ends
    assert committed
    for partition, offset in committed.items():
        of_partition = [score for (p, _), score in made.scores.items() if p == partition]
        complete = [outcomes[score.score_id] == OUTCOMES_PER_SCORE for score in of_partition]
        assert offset == (complete.index(False) if False in complete else len(complete))


async def test_scores_may_come_long_after_the_clicks(settings: Settings) -> None:
    """A worker that is behind does not change a single label."""
    await send(settings, [*shop_records(60), *_endings()])
    made = await reference(settings)
    expected = await outcomes_of(settings, made)
    async with _running(settings):
        await asyncio.sleep(3)
        assert await _read_outcomes(settings) == []
        await write(settings, made.score_records(settings))
        await _wait_for(settings, len(expected))
    assert _sorted(await _read_outcomes(settings)) == _sorted(expected)


async def test_copies_and_foreign_records_among_the_scores_change_nothing(settings: Settings) -> None:
    """Scores repeated after a crash, and records of others, neither stop the join nor count."""
    await send(settings, [*shop_records(40), *_endings()])
    made = await reference(settings)
    records = made.score_records(settings)
    elsewhere = records[0]._replace(partition=(records[0].partition + 1) % 4)
    foreign = [Written(settings.topics.scores, 0, b"k", value) for value in (b"{}", b"\xff", None)]
    await write(settings, [*records[:100], *records[50:], elsewhere, *foreign, *records[:10]])
    expected = await outcomes_of(settings, made)
    async with _running(settings):
        await _wait_for(settings, len(expected))
        await asyncio.sleep(1)
    assert _sorted(await _read_outcomes(settings)) == _sorted(expected)


async def test_a_second_member_takes_over_partitions(settings: Settings) -> None:
    """Joining and leaving loses nothing; what comes twice is identical."""
    records = shop_records(200)
    await send(settings, records[:600])
    async with _running(settings):
        second = await _spawn(settings)
        try:
            await asyncio.sleep(4)
            await send(settings, [*records[600:], *_endings()])
            made = await reference(settings)
            await write(settings, made.score_records(settings))
            await asyncio.sleep(1)
        finally:
            second.terminate()
            assert await second.wait() == 0
        expected = await outcomes_of(settings, made)
        await _wait_for(settings, len(expected))
    assert set(_unique(await _read_outcomes(settings))) == set(_unique(expected))


async def test_killed_again_and_again_nothing_is_lost(settings: Settings) -> None:
    """SIGKILL at random moments: copies at most, and those are identical."""
    moments = random.Random(1)
    _, expected = await _send_all(settings, 250)
    for _ in range(3):
        before = len(await _read_outcomes(settings))
        joiner = await _spawn(settings)
        try:

            async def some(floor: int = before) -> bool:
                return len(await _read_outcomes(settings)) > floor

            await _until(some)
            await asyncio.sleep(moments.uniform(0.0, 0.3))
        finally:
            joiner.kill()
            await joiner.wait()
        if len(await _read_outcomes(settings)) >= len(expected):
            break
    async with _running(settings):
        await _wait_for(settings, len(expected))
    outcomes = await _read_outcomes(settings)
    assert set(_unique(outcomes)) == set(_unique(expected))
    # At most the portion under way comes again.
    assert len(outcomes) <= len(expected) + 3 * 4 * 4100


async def test_stopped_at_any_moment_it_ends(settings: Settings) -> None:
    """While connecting, joining the group or reading the log: at once, and without a socket left open."""
    await send(settings, shop_records(30))
    moments = random.Random(2)
    for _ in range(6):
        stop = asyncio.Event()
        task = asyncio.create_task(run_labels(settings, stop))
        await asyncio.sleep(moments.uniform(0.2, 1.5))
        stop.set()
        await asyncio.wait_for(asyncio.shield(task), 20)


async def test_topics_that_cannot_be_joined_are_refused(settings: Settings) -> None:
    """Partition p of one must be partition p of the other."""
    wrong = settings.model_copy(update={"topics": settings.topics.model_copy(update={"scores": settings.topics.control})})
    with pytest.raises(ConfigurationError, match="same number of partitions"):
        await run_labels(wrong, asyncio.Event())


async def test_topics_made_anew_beside_old_outcomes_are_refused(settings: Settings) -> None:
    """The old progress would make it leave out outcomes of new scores, in silence."""
    progress = encode(Progress(lowest_open=0, scores=10, clicks=10, newest_ms=0))
    record = Written(settings.topics.outcomes, 2, b"v", b"{}", ((PROGRESS_HEADER, progress),))
    await write(settings, [record])
    with pytest.raises(StateError, match=r"partition 2 .* made anew"):
        await asyncio.wait_for(run_labels(settings, asyncio.Event()), 60)


def _unique(outcomes: list[tuple[int, OutcomeEvent]]) -> list[tuple[int, bytes]]:
    return [(partition, encode(outcome)) for partition, outcome in outcomes]


async def _spawn(settings: Settings) -> asyncio.subprocess.Process:
    environment = {
        "INKLING_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        **{f"INKLING_TOPICS__{name.upper()}": str(value) for name, value in settings.topics.model_dump().items()},
        **{f"INKLING_WORKER__{name.upper()}": str(value) for name, value in settings.worker.model_dump().items()},
        "INKLING_LABELS__GROUP": settings.labels.group,
        "INKLING_METRICS__LABELS_PORT": "0",
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "worker", "labels", env={**os.environ, **environment}, stderr=asyncio.subprocess.DEVNULL
    )
