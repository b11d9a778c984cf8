"""The outcome join of one partition, from Kafka to Kafka.

The state is a fold of the log and nothing else, so it is folded anew whenever a partition is taken over:

 1. Read the newest progress. Every portion of outcomes carries it in the headers of its last record, in the same partition:
    it can be neither ahead of what is out nor lost without it.
 2. Read the scores from the lowest that still had an outcome to come (and a little before, to know copies again) to the end.
 3. Read the clicks from the beginning to the end, and publish what has matured and was not out.
 4. Take batches of both as they come; publish what has matured, and wait until the broker has confirmed it.
 5. Only then may their offsets be committed: of scores, up to the lowest that still has an outcome to come.

A crash between publishing and its confirmation brings outcomes twice, with the same id and the same value. Commits only tell
others how far this is; a restart goes by 1 to 3.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from structlog import get_logger
from tenacity import RetryCallState, retry, retry_if_exception_type, wait_exponential

from worker import metrics
from worker.contract.codec import decode, encode
from worker.contract.events import ClickEvent, OutcomeEvent, ScoreEvent
from worker.errors import StateError
from worker.labels import COPY_REACH, PROGRESS_HEADER, OutcomeJoin, Progress
from worker.quality import OnlineQuality
from worker.send import Record, send_packed
from worker.settings import Settings
from worker.span import bounds, read_span, reader

log = get_logger()

#: Outcomes matured and sent at once: bounds memory when much matures together.
_PORTION = 4000
#: How far from its end the outcome topic is searched for progress: past a portion that a crash cut off.
_SEARCHED = 3 * _PORTION
#: Batches that may wait.
_WAITING = 4

_scores = msgspec.json.Decoder(ScoreEvent)
_outcomes = msgspec.json.Decoder(OutcomeEvent)
_progress = msgspec.json.Decoder(Progress)


def _say_why(attempt: RetryCallState) -> None:
    error = attempt.outcome.exception() if attempt.outcome else None
    log.warning("Kafka failed, trying again", doing=attempt.fn.__name__ if attempt.fn else "", error=repr(error))


_until_kafka_is_there = retry(
    retry=retry_if_exception_type(KafkaError), wait=wait_exponential(multiplier=0.1, max=5), before_sleep=_say_why
)


class PartitionJoin:
    """Run `run` in a task. Give it batches by `take` once it is `ready` and `has_room`.

    `taken` and `finished` are the next offsets, by topic; before `ready` they are empty.
    """

    def __init__(
        self, settings: Settings, partition: int, producer: AIOKafkaProducer, quality: OnlineQuality, room: asyncio.Event
    ) -> None:
        self.ready = False
        self.idle = asyncio.Event()
        self.idle.set()
        self._closing = False
        self.taken: dict[str, int] = {}
        self.finished: dict[str, int] = {}
        self._settings = settings
        self._topics = settings.topics
        self._partition = partition
        self._producer = producer
        self._quality = quality
        self._room = room
        self._join = OutcomeJoin(settings.session.policy)
        self._queue: asyncio.Queue[Sequence[ConsumerRecord]] = asyncio.Queue()
        self._max_future_ms = int(settings.session.max_future_s * 1000)

    @property
    def has_room(self) -> bool:
        """Whether a batch may be given."""
        return self.ready and self._queue.qsize() < _WAITING

    @property
    def pending(self) -> int:
        """Scores with outcomes still to come."""
        return self._join.pending

    def take(self, records: Sequence[ConsumerRecord]) -> None:
        """Queue a batch of one topic."""
        self.taken[records[0].topic] = records[-1].offset + 1
        self._queue.put_nowait(records)
        self.idle.clear()

    def close(self) -> None:
        """Let `run` return soon. Better than cancelling it: Kafka's client may swallow that, or leave a socket open."""
        self._closing = True
        self._queue.put_nowait([])

    async def run(self) -> None:
        """Steps 1 to 5, until `close`."""
        await self._restore()
        self.ready = not self._closing
        self._room.set()
        while not self._closing:
            records = await self._queue.get()
            self._room.set()
            self._feed(records)
            await self._publish_matured()
            if self._queue.empty():
                self.idle.set()

    @_until_kafka_is_there
    async def _restore(self) -> None:
        async with reader(self._settings.kafka) as consumer:
            clicks = TopicPartition(self._topics.clicks, self._partition)
            scores = TopicPartition(self._topics.scores, self._partition)
            # 1 what is out already
            resume = await self._read_progress(consumer)
            self._join = OutcomeJoin(self._settings.session.policy, resume)
            # 2 scores
            first, score_end = await bounds(consumer, scores)
            oldest, click_end = await bounds(consumer, clicks)
            if resume is not None and (resume.scores > score_end or resume.clicks > click_end):
                raise StateError(
                    f"partition {self._partition} of {self._topics.outcomes} is ahead of {clicks.topic} or {scores.topic}: "
                    "those were made anew. Make the outcome topic anew too, or use another INKLING_TOPICS__OUTCOMES"
                )
            start = first if resume is None else max(first, resume.lowest_open - COPY_REACH)
            async for records in read_span(consumer, scores, start, score_end):
                if self._closing:
                    return
                self._feed(records)
            # 3 clicks
            async for records in read_span(consumer, clicks, oldest, click_end):
                if self._closing:
                    return
                self._feed(records)
                await self._publish_matured()
        self.taken = {clicks.topic: click_end, scores.topic: score_end}
        self._note_finished()
        log.info("partition joined", partition=self._partition, clicks=click_end - oldest, pending=self.pending)

    async def _read_progress(self, consumer: AIOKafkaConsumer) -> Progress | None:
        """The newest progress, None when there is none. What is read on the way counts for the online figures."""
        tp = TopicPartition(self._topics.outcomes, self._partition)
        start, end = await bounds(consumer, tp)
        newest: Progress | None = None
        async for records in read_span(consumer, tp, max(start, end - _SEARCHED), end):
            for record in records:
                for name, value in record.headers:
                    if name == PROGRESS_HEADER and value is not None:
                        newest = _progress.decode(value)
                self._count(record)
        return newest

    def _count(self, record: ConsumerRecord) -> None:
        try:
            self._quality.observe([_outcomes.decode(record.value or b"")])
        except (msgspec.DecodeError, UnicodeError):
            log.warning("not an outcome of ours", topic=record.topic, partition=record.partition, offset=record.offset)

    def _feed(self, records: Sequence[ConsumerRecord]) -> None:
        if records and records[0].topic == self._topics.scores:
            for record in records:
                self._feed_score(record)
            return
        for record in records:
            event = decode(record.value, record.key, record.timestamp, self._max_future_ms)
            self._join.add_click(event if isinstance(event, ClickEvent) else None, record.offset)

    def _feed_score(self, record: ConsumerRecord) -> None:
        try:
            score = _scores.decode(record.value or b"")
            if not score.score_id.startswith(f"{self._topics.clicks}:{self._partition}:"):
                raise ValueError(f"{score.score_id} is of another partition")
            self._join.add_score(score, record.offset)
        except (msgspec.DecodeError, UnicodeError, ValueError) as error:
            log.warning("not a score of ours, left out", topic=record.topic, partition=record.partition,
                        offset=record.offset, reason=str(error))  # fmt: skip

    async def _publish_matured(self) -> None:
        while outcomes := self._join.advance(_PORTION):
            await self._publish(outcomes, self._join.progress)
            for (head, horizon), count in Counter((outcome.head, outcome.horizon) for outcome in outcomes).items():
                metrics.labels_joined.labels(head, horizon).inc(count)
            self._quality.observe(outcomes)
        self._note_finished()

    def _note_finished(self) -> None:
        progress = self._join.progress
        if self.taken:
            self.finished = {self._topics.scores: progress.lowest_open, self._topics.clicks: progress.clicks}

    @_until_kafka_is_there
    async def _publish(self, outcomes: list[OutcomeEvent], progress: Progress) -> None:
        records: list[Record] = [(outcome.visitor_id.encode(), encode(outcome), []) for outcome in outcomes]
        records[-1][2].append((PROGRESS_HEADER, encode(progress)))
        await send_packed(self._producer, self._topics.outcomes, self._partition, records)
