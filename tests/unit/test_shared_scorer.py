"""What waits while the scorer is busy is asked together, and everybody gets their own answer."""

import asyncio

import numpy as np
import pytest

from tests.faults.scoring import HashScorer
from worker.contract.features import CODES, NUMBERS, ModelInputs, stacked
from worker.scoring.base import Scores
from worker.scoring.items import NextItems
from worker.scoring.shared import SharedScorer


def inputs(seed: int, sessions: int, longest: int) -> ModelInputs:
    """Random sessions, padded as far as a batch with the longest would be."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, longest + 1, (sessions, 1)).astype(np.int32)
    steps = -(-longest // 8) * 8
    inside = (np.arange(steps) < lengths)[:, :, None]
    codes = random.integers(1, 9, (sessions, steps, len(CODES))).astype(np.int32) * inside
    numbers = random.random((sessions, steps, len(NUMBERS))).astype(np.float32) * inside
    return ModelInputs(codes, numbers, lengths)


class _Held:
    """Answers when told to, and notes how many sessions each question was about."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.asked: list[int] = []
        self.go = asyncio.Event()
        self._failure = failure

    async def score(self, inputs: ModelInputs) -> Scores:
        self.asked.append(len(inputs.length))
        await self.go.wait()
        if self._failure is not None:
            raise self._failure
        scores = HashScorer().score(inputs)
        return scores._replace(next_items=NextItems.of([[(str(row.sum()), 0.5)] for row in inputs.codes]))


def same(one: Scores, other: Scores) -> bool:
    assert one.next_items is not None
    assert other.next_items is not None
    lists = one.next_items.named() == other.next_items.named()
    pairs = zip(one._replace(next_items=None), other._replace(next_items=None), strict=True)
    return lists and all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)


async def test_what_waits_is_asked_together_in_order() -> None:
    """Two questions go on at once; the rest goes with the next, as many as fit, and nobody overtakes."""
    held = _Held()
    shared = SharedScorer(held.score, most=10, at_once=2)
    shapes = [(3, 5), (1, 9), (4, 30), (5, 3), (2, 17), (12, 8), (1, 1)]
    batches = [inputs(n, *shape) for n, shape in enumerate(shapes)]
    answers = []
    for batch in batches:
        answers.append(asyncio.create_task(shared.score(batch)))
        await asyncio.sleep(0.01)
    assert held.asked == [3, 1]
    held.go.set()
    found = await asyncio.gather(*answers)
    assert held.asked == [3, 1, 9, 2, 12, 1]
    for batch, scores in zip(batches, found, strict=True):
        assert same(scores, await held.score(batch))
    await shared.close()


async def test_what_comes_at_one_time_is_asked_together() -> None:
    """Partitions whose events came by one fetch are one question, though the scorer is free."""
    held = _Held()
    shared = SharedScorer(held.score, most=10, at_once=2)
    answers = [asyncio.create_task(shared.score(inputs(n, n + 1, 4))) for n in range(4)]
    await asyncio.sleep(0.01)
    assert held.asked == [10]
    held.go.set()
    for n, answer in enumerate(answers):
        assert same(await answer, await held.score(inputs(n, n + 1, 4)))


async def test_an_error_reaches_all_who_were_asked_for() -> None:
    """And the next question is asked all the same."""
    held = _Held(ZeroDivisionError())
    shared = SharedScorer(held.score, most=4, at_once=1)
    answers = [asyncio.create_task(shared.score(inputs(n, 2, 4))) for n in range(3)]
    await asyncio.sleep(0.01)
    held.go.set()
    assert [type(answer) for answer in await asyncio.gather(*answers, return_exceptions=True)] == [ZeroDivisionError] * 3
    assert held.asked == [4, 2]
    with pytest.raises(ZeroDivisionError):
        await shared.score(inputs(0, 1, 1))


async def test_who_has_gone_is_not_asked_for() -> None:
    """A partition that was given up while it waited; one whose question was under way does no harm to the others in it."""
    held = _Held()
    shared = SharedScorer(held.score, most=100, at_once=1)
    answers = [asyncio.create_task(shared.score(inputs(0, 1, 4)))]
    await asyncio.sleep(0.01)
    answers += [asyncio.create_task(shared.score(inputs(n, n + 1, 4))) for n in range(1, 4)]
    await asyncio.sleep(0.01)
    answers[0].cancel()
    answers[2].cancel()
    await asyncio.sleep(0)
    held.go.set()
    assert same(await answers[1], await held.score(inputs(1, 2, 4)))
    assert same(await answers[3], await held.score(inputs(3, 4, 4)))
    assert held.asked[:2] == [1, 6]


async def test_close_gives_up_what_is_under_way() -> None:
    """Nothing is left running, and nothing more is asked."""
    held = _Held()
    shared = SharedScorer(held.score, most=1, at_once=1)
    answers = [asyncio.create_task(shared.score(inputs(n, 1, 1))) for n in range(2)]
    await asyncio.sleep(0.01)
    await shared.close()
    await asyncio.sleep(0.01)
    assert held.asked == [1]
    for answer in answers:
        answer.cancel()


def test_stacked_batches_are_padded_to_the_longest() -> None:
    """Rows beyond a session are zeros, whatever its own batch was padded to."""
    parts = [inputs(1, 2, 30), inputs(2, 3, 3)]
    both = stacked(parts)
    steps = -(-int(both.length.max()) // 8) * 8
    assert both.codes.shape == (5, steps, len(CODES))
    for row, (part, place) in enumerate([(parts[0], 0), (parts[0], 1), (parts[1], 0), (parts[1], 1), (parts[1], 2)]):
        length = int(both.length[row, 0])
        assert length == part.length[place, 0]
        assert np.array_equal(both.numbers[row, :length], part.numbers[place, :length])
        assert not both.numbers[row, length:].any()
        assert not both.codes[row, length:].any()
