"""The audit over genuine topics: of a hand-made faithful worker, of the real one, and of spoilt ones."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.corpus import bad_records, odd_records
from tests.support.constant_worker import run_constant_worker
from tests.support.reference import Reference, Written, changed, commit, outcomes_of, reference, score_record, write
from tests.support.topics import Sent, committed, read, send, shop_records, wait_committed
from tests.unit.test_pin import pointer
from worker.audit.report import Report
from worker.audit.run import Options, audit
from worker.contract.codec import encode
from worker.contract.features import FeatureSpec
from worker.control import write_pointer
from worker.dead import Origin, drop_record
from worker.errors import ConfigurationError, ModelError
from worker.labels_app import run_labels
from worker.settings import KafkaSettings, LabelSettings, MetricsSettings, Settings

_KAFKA_LIMIT = 1_000_000


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With an outcome join of its own."""
    labels = LabelSettings(group=f"labels-{settings.topics.clicks}")
    return settings.model_copy(update={"labels": labels, "metrics": MetricsSettings(labels_port=0)})


def _failed(report: Report) -> dict[str, str | None]:
    return {name: tally.first for name, tally in report.checks.items() if tally.failed}


def _mixed(sessions: int) -> list[Sent]:
    """Good, bad and odd clicks."""
    now_ms = 1_760_000_000_000
    good = shop_records(sessions)
    bad = [(case.key, case.value) for case in bad_records(now_ms) if len(case.value or b"") < _KAFKA_LIMIT]
    odd = [(case.key, case.value) for case in odd_records(now_ms)]
    return [*good[:300], *bad, *odd, *good[300:], *good[300:310]]


@asynccontextmanager
async def _working(settings: Settings) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(run_constant_worker(settings, stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def _made(settings: Settings, sessions: int = 100) -> Reference:
    await send(settings, _mixed(sessions))
    return await reference(settings)


async def test_scores_from_rows_of_another_layout_are_not_judged(settings: Settings) -> None:
    """Every input hash would differ, and none would be wrong."""
    await write_pointer(settings, pointer("1", spec=FeatureSpec(version=1)))
    with pytest.raises(ModelError, match="the champion wants rows by feature spec 1"):
        await audit(settings, Options())


async def test_a_faithful_worker_passes(settings: Settings) -> None:
    """Every check finds what it looks at in order, over several partitions."""
    made = await _made(settings)
    # Dropped dead letters count as before, and what drops them is none.
    dropped = Written(settings.topics.dead, 0, *drop_record([Origin(settings.topics.clicks, *at) for at in made.dead]))
    await write(settings, [*made.score_records(settings), *made.dead.values(), dropped])
    await commit(settings, made.ends)
    report = await audit(settings, Options())
    assert _failed(report) == {}
    scored = len(made.scores)
    assert {name: tally.checked for name, tally in report.checks.items()} == {
        "I1": sum(made.ends.values()), "I2": scored, "I3": scored, "I4": scored, "I5": len(made.ends), "I6": 0, "I7": 0,
    }  # fmt: skip
    assert report.counts["dead letters"] == len(made.dead)
    assert report.counts["drops"] == sum(made.ends.values()) - scored - len(made.dead)


async def test_several_processes_find_the_same(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """How the work is shared does not change the findings."""
    made = await _made(settings, 30)
    partition, offset = next(iter(made.scores))
    await write(settings, [*made.score_records(settings)[1:], *made.dead.values()])
    await commit(settings, made.ends)
    alone = await audit(settings, Options(processes=1))
    monkeypatch.setattr("worker.audit.run._WORTH_A_PROCESS", 100)
    together = await audit(settings, Options(processes=2))
    assert together == alone
    assert _failed(together)["I1"] == f"{settings.topics.clicks}:{partition}:{offset} has no result, a score is missing"


async def test_the_real_worker_and_outcome_join_pass(settings: Settings) -> None:
    """What the worker and the outcome join write, restarts in between, is what the checker expects."""
    await send(settings, _mixed(100))
    ends = len(await read(settings, settings.topics.clicks))
    async with _working(settings):
        await wait_committed(settings, ends // 2)
    async with _working(settings):
        await wait_committed(settings, ends)
    expected = len(await outcomes_of(settings, await reference(settings)))
    stop = asyncio.Event()
    joining = asyncio.create_task(run_labels(settings, stop))
    try:
        for _ in range(200):
            if len(await read(settings, settings.topics.outcomes)) >= expected:
                break
            await asyncio.sleep(0.3)
    finally:
        stop.set()
        await joining
    report = await audit(settings, Options(wait_s=10))
    assert _failed(report) == {}
    assert report.checks["I7"].checked == report.counts["outcomes"] == expected
    assert report.counts["outcomes not out yet"] == report.counts["clicks not finished yet"] == 0


async def test_a_running_worker_is_not_accused(settings: Settings) -> None:
    """Audits while scores, dead letters and commits are on their way find nothing wrong."""
    await send(settings, _mixed(300))
    async with _working(settings):
        for _ in range(3):
            assert _failed(await audit(settings, Options())) == {}


async def test_waiting_ends_when_the_worker_has_caught_up(settings: Settings) -> None:
    """With --wait every click is checked; without a worker the waiting ends as a failure."""
    await send(settings, shop_records(100))
    assert "still not committed after 0.1 s" in str(_failed(await audit(settings, Options(wait_s=0.1)))["I1"])
    async with _working(settings):
        report = await audit(settings, Options(wait_s=30))
        assert await committed(settings) == report.counts["clicks"]
    assert _failed(report) == {}
    assert report.counts["clicks not finished yet"] == 0


async def test_corruptions_are_found_and_named(settings: Settings) -> None:
    """One of each kind, on different partitions: the first offender of every check is told."""
    made = await _made(settings)
    at = {partition: [key for key in made.scores if key[0] == partition] for partition in range(4)}
    missing, wrong_hash, skipped, open_end = at[0][10], at[1][10], at[2][10], at[3][-1]
    scores = dict(made.scores)
    scores[wrong_hash] = changed(scores[wrong_hash], input_hash="00000000000000ff")
    scores[skipped] = changed(scores[skipped], position=scores[skipped].position + 1)
    extra = changed(scores[missing], score_id=f"{settings.topics.clicks}:0:999999")
    del scores[missing], scores[open_end]
    await write(settings, [score_record(settings, partition, score) for (partition, _), score in scores.items()])
    await write(settings, [score_record(settings, 0, extra), *made.dead.values()])
    await commit(settings, made.ends)
    failed = _failed(await audit(settings, Options()))
    assert failed["I1"] == f"score {extra.score_id} at {settings.topics.scores}:0:{len(at[0]) - 1} has no click in this partition"
    assert str(failed["I3"]).startswith(f"score {settings.topics.clicks}:1:{wrong_hash[1]}: input hash 00000000000000ff")
    assert "has position" in str(failed["I4"])
    assert failed["I5"] == f"{settings.topics.clicks}:0 is committed up to {made.ends[0]}, but {missing[1]} is unfinished"
    assert set(failed) == {"I1", "I3", "I4", "I5"}


async def test_a_wrong_label_is_found(settings: Settings) -> None:
    """An outcome that a replay gives otherwise."""
    await send(settings, shop_records(60))
    made = await reference(settings)
    await write(settings, made.score_records(settings))
    await commit(settings, made.ends)
    outcomes = await outcomes_of(settings, made)
    first = next(o for _, o in outcomes if o.head == "cart" and o.label == 0)
    wrong = [(p, changed(o, label=1) if o is first else o) for p, o in outcomes]
    await write(settings, [Written(settings.topics.outcomes, p, o.visitor_id.encode(), encode(o)) for p, o in wrong])
    failed = _failed(await audit(settings, Options()))
    assert failed == {"I7": f"outcome {first.outcome_id} is 1, should be 0"}


async def test_missing_topics_and_kafka_away_are_one_line(settings: Settings) -> None:
    """What to do is said, no traceback."""
    nowhere = settings.model_copy(update={"topics": settings.topics.model_copy(update={"clicks": "not-there"})})
    with pytest.raises(ConfigurationError, match="no topic not-there"):
        await audit(nowhere, Options())
    away = settings.model_copy(update={"kafka": KafkaSettings(bootstrap_servers="127.0.0.1:1")})
    with pytest.raises(ConfigurationError, match=r"127\.0\.0\.1:1"):
        await audit(away, Options())
