"""One question to the scorer for what all partitions have waiting: a small batch costs it nearly as much as a large one."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from worker.contract.features import ModelInputs, stacked
from worker.scoring.base import Scores


class _Waiting(NamedTuple):
    inputs: ModelInputs
    answer: "asyncio.Future[Scores]"


class SharedScorer:
    """Passes on what it is asked, up to `at_once` questions of up to `most` sessions at a time.

    What comes at one time, or waits while so many are under way, is asked together, first come first served.
    """

    def __init__(self, score: Callable[[ModelInputs], Awaitable[Scores]], most: int, at_once: int) -> None:
        self._score = score
        self._most = most
        self._at_once = at_once
        self._waiting: deque[_Waiting] = deque()
        self._asking: set[asyncio.Task[None]] = set()

    async def score(self, inputs: ModelInputs) -> Scores:
        """The scores of these B sessions. Raises what the scorer raises."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Scores] = loop.create_future()
        self._waiting.append(_Waiting(inputs, answer))
        # Not at once: partitions whose events one fetch has brought ask within the same turn of the loop.
        loop.call_soon(self._go_on)
        return await answer

    async def close(self) -> None:
        """Give up what is under way or waits."""
        self._waiting.clear()
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)

    def _go_on(self) -> None:
        while len(self._asking) < self._at_once and (together := self._next()):
            task = asyncio.create_task(self._ask(together))
            self._asking.add(task)
            task.add_done_callback(self._asked)

    def _asked(self, task: "asyncio.Task[None]") -> None:
        self._asking.discard(task)
        if not task.cancelled():
            self._go_on()

    def _next(self) -> list[_Waiting]:
        together: list[_Waiting] = []
        room = self._most
        while self._waiting and (not together or len(self._waiting[0].inputs.length) <= room):
            one = self._waiting.popleft()
            if not one.answer.cancelled():  # whoever asked is there still
                together.append(one)
                room -= len(one.inputs.length)
        return together

    async def _ask(self, together: list[_Waiting]) -> None:
        try:
            scores = await self._score(stacked([one.inputs for one in together]))
        except Exception as error:
            for one in together:
                if not one.answer.done():
                    one.answer.set_exception(error)
            return
        start = 0
        for one in together:
            end = start + len(one.inputs.length)
            if not one.answer.done():
                one.answer.set_result(scores if len(together) == 1 else _rows(scores, slice(start, end)))
            start = end


def _rows(scores: Scores, rows: slice) -> Scores:
    return scores._replace(
        purchase=scores.purchase[rows],
        cart=scores.cart[rows],
        churn=scores.churn[rows],
        next_type=scores.next_type[rows],
        next_items=None if scores.next_items is None else scores.next_items.rows(rows),
    )
