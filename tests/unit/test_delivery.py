"""What a batch's delivery sends again, and what not."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from aiokafka.errors import MessageSizeTooLargeError

from worker.delivery import Delivery
from worker.record_batch import Records
from worker.settings import Settings

_SETTINGS = Settings()
_SCORES, _DEAD = _SETTINGS.topics.scores, _SETTINGS.topics.dead


class _Pack:
    def __init__(self) -> None:
        self._records = 0

    def append(self, **_: object) -> object:
        self._records += 1
        return object()

    def record_count(self) -> int:
        return self._records


class _Producer:
    """Refuses as many packs for each topic as `refusals` says."""

    def __init__(self, refusals: dict[str, BaseException | None]) -> None:
        self.sent: list[str] = []
        self._refusals = refusals

    def create_batch(self) -> _Pack:
        return _Pack()

    async def send_batch(self, pack: _Pack, topic: str, partition: int) -> "asyncio.Future[None]":
        self.sent.append(topic)
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        refusal = self._refusals.get(topic)
        if refusal is not None and self.sent.count(topic) <= 2:
            answer.set_exception(refusal)
        else:
            answer.set_result(None)
        return answer


class _Owner:
    """Notes what had been sent when the state was written."""

    def __init__(self, producer: _Producer) -> None:
        self.before: list[Counter[str]] = []
        self._producer = producer

    async def write(self, *_: object) -> None:
        self.before.append(Counter(self._producer.sent))


async def _publish(refusals: dict[str, BaseException | None]) -> list[Counter[str]]:
    producer = _Producer(refusals)
    owner: Any = _Owner(producer)
    scores, dead = Records.of([(b"key", b"value")]), [(b"key", b"value", [])]
    await Delivery(_SETTINGS, lambda **_: producer).publish(owner, 0, scores, dead, Records.of([]))
    return owner.before


@pytest.mark.parametrize(("refused", "other"), [(_DEAD, _SCORES), (_SCORES, _DEAD)])
async def test_only_what_was_refused_is_sent_again(refused: str, other: str) -> None:
    """A dead-letter topic that is down for a day must not fill the score topic with copies; state waits for both."""
    assert await _publish({refused: MessageSizeTooLargeError()}) == [Counter({refused: 3, other: 1})]


async def test_an_error_that_is_not_kafkas_is_not_retried() -> None:
    """It ends the worker instead of going round for ever."""
    with pytest.raises(ZeroDivisionError):
        await _publish({_DEAD: ZeroDivisionError()})
