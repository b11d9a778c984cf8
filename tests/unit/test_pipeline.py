"""Batches through the steps: large ones are scored in parts, which changes nothing but how often the scorer is asked."""

from collections.abc import Set
from typing import Any

import msgspec
from aiokafka import ConsumerRecord

from tests.faults.scoring import HashScorer
from tests.logs import FORGETFUL, SPEC, START_MS, click
from worker.batch import fold_batch, score_records
from worker.contract.codec import encode
from worker.contract.events import ClickEvent, ScoreEvent
from worker.contract.features import ModelInputs
from worker.fetched import Fetched
from worker.pipeline import _Steps
from worker.scoring.base import Scores
from worker.settings import Settings
from worker.store import PartitionState

_NOW_MS = START_MS + 10**7


def records(count: int) -> list[ConsumerRecord]:
    clicks = [click(f"e{n}", START_MS + 10 * n, f"v{n % 50}", item="lamp") for n in range(count)]
    return [
        ConsumerRecord("clicks", 0, n, START_MS + n, 0, event.visitor_id.encode(), encode(event), None, 0, 0, ())
        for n, event in enumerate(clicks)
    ]


class _Noting:
    def __init__(self) -> None:
        self.sizes: list[int] = []

    async def score(self, inputs: ModelInputs) -> Scores:
        self.sizes.append(len(inputs.length))
        return HashScorer().score(inputs)._replace(path="model" if len(self.sizes) % 2 else "fallback")


async def test_a_large_batch_is_scored_in_parts() -> None:
    """Each event has the score that it would have had in one piece, and each part says who answered."""
    settings: Any = Settings()
    batch = fold_batch(PartitionState(SPEC, FORGETFUL), Fetched.of(records(600)), 10**9)
    assert batch.inputs is not None
    whole = score_records(batch, HashScorer().score(batch.inputs), 0, settings, _NOW_MS)
    scorer, nobody = _Noting(), Any
    state = PartitionState(SPEC, FORGETFUL)
    steps = _Steps(settings, 0, state, nobody, scorer, nobody, nobody, lambda: _NOW_MS)  # type: ignore[arg-type]
    scored = await steps.score(batch)
    assert scorer.sizes == [256, 256, 88]
    assert scored.paths == [("model", 256), ("fallback", 256), ("model", 88)]
    assert [(key, value.replace(b'"fallback"', b'"model"')) for key, value in scored.scores if value is not None] == list(whole)
    assert (scored.next_offset, scored.changes) == (600, batch.changes)


async def test_a_batch_without_events_asks_nobody() -> None:
    """Dead letters alone need no scores."""
    broken = [record_of(b"{", offset) for offset in range(3)]
    batch = fold_batch(PartitionState(SPEC, FORGETFUL), Fetched.of(broken), 0)
    scorer = _Noting()
    steps = _Steps(Settings(), 0, PartitionState(SPEC, FORGETFUL), Any, scorer, Any, Any, lambda: 0)  # type: ignore[arg-type]
    scored = await steps.score(batch)
    assert (scorer.sizes, list(scored.scores), scored.paths, len(scored.dead)) == ([], [], [], 3)


def record_of(value: bytes, offset: int = 0) -> ConsumerRecord:
    return ConsumerRecord("clicks", 0, offset, START_MS, 0, b"v", value, None, 0, 0, ())


class _Clicks:
    """The clicks topic, without those that are gone."""

    def __init__(self, there: dict[int, str]) -> None:
        self._there = there

    async def events(self, partition: int, offsets: Set[int]) -> dict[int, ClickEvent]:
        return {offset: click(self._there[offset], START_MS) for offset in offsets if offset in self._there}


async def test_a_late_event_has_the_scores_behind_it_made_anew() -> None:
    """Each from its own window with the late event in it, behind the batch's scores; one whose click is gone is left out."""
    times = {"a": 0, "b": 2_000, "c": 3_000, "late": 1_000, "later": 1_500}
    state = PartitionState(SPEC, FORGETFUL)
    log = [record_of(encode(click(name, START_MS + ms)), offset) for offset, (name, ms) in enumerate(times.items())]
    fold_batch(state, Fetched.of(log[:2]), 10**9)  # in an earlier batch
    batch = fold_batch(state, Fetched.of(log[2:]), 10**9)
    steps = _Steps(
        Settings(), 0, state, Any, _Noting(), Any, _Clicks({1: "b", 2: "c"}), lambda: _NOW_MS  # type: ignore[arg-type]
    )  # fmt: skip
    scored = await steps.score(batch)
    assert all(key == b"v" for key, _ in scored.scores)
    said = [msgspec.json.decode(value or b"", type=ScoreEvent) for _, value in scored.scores]
    assert [(one.score_id, one.event_id, one.position) for one in said] == [
        ("clicks:0:2", "c", 3), ("clicks:0:3", "late", 4), ("clicks:0:4", "later", 5),
        ("clicks:0:1:r1", "b", 3), ("clicks:0:2:r1", "c", 4), ("clicks:0:1:r2", "b", 4), ("clicks:0:2:r2", "c", 5),
    ]  # fmt: skip
    assert [one.event_time - START_MS for one in said[3:]] == [2_000, 3_000, 2_000, 3_000]
    assert said[-1].input_hash == said[2].input_hash  # both are the whole session
    assert [one.input_hash for one in said[3:]] == [f"{one.input_hash:016x}" for one in batch.revisions]
    assert len({one.session_id for one in said}) == 1
    assert scored.paths == [("model", 3)] or scored.paths == [("fallback", 3)]
    steps._clicks = _Clicks({2: "c"})
    assert [value for _, value in (await steps.score(batch)).scores if b":1:r" in (value or b"")] == []
