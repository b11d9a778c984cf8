"""Batches through the steps: large ones are scored in parts, which changes nothing but how often the scorer is asked."""

import asyncio
from typing import Any

from aiokafka import ConsumerRecord

from tests.faults.scoring import HashScorer
from tests.logs import FORGETFUL, SPEC, START_MS, click
from worker.contract.codec import encode
from worker.contract.features import ModelInputs
from worker.pipeline import _Steps, fold_batch, score_records
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
    batch = fold_batch(PartitionState(SPEC, FORGETFUL), records(600), 10**9)
    assert batch.inputs is not None
    whole = score_records(batch, HashScorer().score(batch.inputs), settings, _NOW_MS)
    scorer, nobody = _Noting(), Any
    state = PartitionState(SPEC, FORGETFUL)
    steps = _Steps(settings, 0, state, nobody, scorer, nobody, nobody, asyncio.Semaphore(2), lambda: _NOW_MS)  # type: ignore[arg-type]
    scored = await steps.score(batch)
    assert scorer.sizes == [256, 256, 88]
    assert scored.paths == [("model", 256), ("fallback", 256), ("model", 88)]
    assert [(key, value.replace(b'"fallback"', b'"model"')) for key, value, _ in scored.scores if value is not None] == [
        (key, value) for key, value, _ in whole
    ]
    assert (scored.next_offset, scored.changes) == (600, batch.changes)


async def test_a_batch_without_events_asks_nobody() -> None:
    """Dead letters alone need no scores."""
    broken = [record_of(b"{") for _ in range(3)]
    batch = fold_batch(PartitionState(SPEC, FORGETFUL), broken, 0)
    scorer = _Noting()
    steps = _Steps(Settings(), 0, PartitionState(SPEC, FORGETFUL), Any, scorer, Any, Any, asyncio.Semaphore(2), lambda: 0)  # type: ignore[arg-type]
    scored = await steps.score(batch)
    assert (scorer.sizes, scored.scores, scored.paths, len(scored.dead)) == ([], [], [], 3)


def record_of(value: bytes) -> ConsumerRecord:
    return ConsumerRecord("clicks", 0, 0, START_MS, 0, b"v", value, None, 0, 0, ())
