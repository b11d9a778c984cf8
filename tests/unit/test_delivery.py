"""What a batch's delivery sends again, and what not."""

import asyncio
from collections import Counter

import pytest
from aiokafka.errors import MessageSizeTooLargeError

from worker.delivery import Delivery
from worker.record_batch import Records
from worker.settings import Settings, WorkerSettings

_SETTINGS = Settings()
_SCORES, _DEAD, _CLICKS = _SETTINGS.topics.scores, _SETTINGS.topics.dead, _SETTINGS.topics.clicks


class _Pack:
    def __init__(self) -> None:
        self._records = 0

    def append(self, **_: object) -> object:
        self._records += 1
        return object()

    def record_count(self) -> int:
        return self._records

    def size(self) -> int:
        return 100 * self._records


class _Producer:
    """Refuses as many packs for each topic as `refusals` says."""

    def __init__(self, refusals: dict[str, BaseException | None]) -> None:
        self.sent: list[str] = []
        self._refusals = refusals

    async def partitions_for(self, _: str) -> set[int]:
        return {0, 1}

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
    """Notes what it is given to write."""

    def __init__(self) -> None:
        self.written: list[tuple[object, ...]] = []

    async def write(self, *what: object) -> None:
        self.written.append(what)


_RECORDS = Records.of([(b"key", b"value")]), [(b"key", b"value", [])], [(b"user", b"value", []), (b"other", b"value", [])]


async def _publish(refusals: dict[str, BaseException | None]) -> Counter[str]:
    producer = _Producer(refusals)
    await Delivery(_SETTINGS, lambda **_: producer).publish(0, *_RECORDS)
    return Counter(producer.sent)


@pytest.mark.parametrize("at_once", [False, True])
async def test_scores_go_out_ahead_of_the_state_or_with_it(at_once: bool) -> None:
    """Exactly once, the owner writes all of it in one transaction, and nothing is sent before."""
    worker = WorkerSettings(delivery="exactly_once" if at_once else "at_least_once")
    producer, owner, state = _Producer({}), _Owner(), Records.of([(b"v", b"session")])
    delivery = Delivery(Settings(worker=worker), lambda **_: producer)
    await delivery.publish(0, *_RECORDS)
    assert Counter(producer.sent) == (Counter() if at_once else Counter({_SCORES: 1, _DEAD: 1, _CLICKS: 1}))
    await delivery.keep(owner, *_RECORDS, state)  # type: ignore[arg-type]
    assert owner.written == [(state, *_RECORDS) if at_once else (state,)]
    assert delivery.at_once == at_once


@pytest.mark.parametrize("refused", [_DEAD, _SCORES, _CLICKS])
async def test_only_what_was_refused_is_sent_again(refused: str) -> None:
    """A dead-letter topic that is down for a day must not fill the score topic with copies."""
    sent = await _publish({refused: MessageSizeTooLargeError()})
    assert sent == Counter({_SCORES: 1, _DEAD: 1, _CLICKS: 1}) | Counter({refused: 3})


async def test_an_error_that_is_not_kafkas_is_not_retried() -> None:
    """It ends the worker instead of going round for ever."""
    with pytest.raises(ZeroDivisionError):
        await _publish({_DEAD: ZeroDivisionError()})
