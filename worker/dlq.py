"""Looking at dead letters, putting records back where they came from, and dropping what is dealt with.

Putting back is done once for every dead letter. The record that is put back says so itself, in a header that names its
origin, so "was it put back?" is answered by reading the origin's partition after the origin: there is no second place to keep
in step, and a crash in between leaves either the record with its header or nothing. Two people who put back the same
records at the same moment could still do it twice; the event ids then make the worker drop the copies.

Dropping deletes nothing: Kafka deletes from the beginning only, and the auditor needs a dead letter for every click that has
no score. A record behind the dead letter, on its partition, says that it is dropped: retention takes the letter first.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import msgspec
from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from worker.dead import REPLAYED_FROM, DeadLetter, Origin, drop_record, parse_dead, parse_dropped
from worker.errors import ConfigurationError, DeliveryError, InklingError
from worker.kafka import connection
from worker.send import Record, send_packed
from worker.settings import Settings
from worker.span import bounds, read_span, reader
from worker.topic import records_to_end, whole_topic

#: Records put back in one go: bounds memory.
_PORTION = 1000
#: Origins that one record drops.
_DROPS = 500
#: A record that was whole as a dead letter is whole with its own headers and this more.
_REQUEST_BYTES = 2_000_000


class Listing(msgspec.Struct):
    """What lies among the dead: how many of each reason, and the newest, newest first. Copies after a crash count once.

    `foreign` records on the topic are no dead letters; `dropped` ones are not counted among the others.
    """

    reasons: Counter[str]
    newest: list[DeadLetter]
    foreign: int
    dropped: int


class Replayed(msgspec.Struct):
    """What came of putting records back. `again`: had been put back before. `died_again`: are dead once more although put
    back, and were left, unless named. `cut`: are not kept whole, so there is nothing to put back. `dropped`: are dealt with.
    """

    put_back: int = 0
    again: int = 0
    died_again: int = 0
    cut: int = 0
    dropped: int = 0


async def list_dead(settings: Settings, newest: int) -> Listing:
    """All dead letters, counted, and the `newest` of them. Raises ConfigurationError when Kafka or the topic is away."""
    reasons: Counter[str] = Counter()
    foreign = dropped = 0
    drops = await _drops(settings)
    heap: list[tuple[int, Origin, DeadLetter]] = []
    async for _, letter in _each_once(settings):
        if letter is None:
            foreign += 1
            continue
        if letter.origin in drops:
            dropped += 1
            continue
        reasons[letter.reason] += 1
        heapq.heappush(heap, (letter.timestamp_ms, letter.origin, letter))
        if len(heap) > newest:
            heapq.heappop(heap)
    newest_first = [letter for _, _, letter in sorted(heap, key=lambda entry: entry[:2], reverse=True)]
    return Listing(reasons, newest_first, foreign, dropped)


async def find_dead(settings: Settings, origin: Origin) -> DeadLetter:
    """The dead letter of one record, be it dropped. Raises InklingError when there is none."""
    async for _, letter in _each_once(settings):
        if letter is not None and letter.origin == origin:
            return letter
    raise InklingError(f"no dead letter of {origin}: see `inkling dlq list`")


async def replay_dead(settings: Settings, wanted: Callable[[DeadLetter], bool], *, named: bool = False) -> Replayed:
    """Put back the records of the wanted dead letters: key, value and headers as they came, on the partition they came from.

    A record that was put back and died again is left, unless `named` says that it is meant. Each is confirmed.
    Raises DeliveryError when Kafka does not confirm; what is not back then can be put back by doing it again.
    """
    result = Replayed()
    origins: set[Origin] = set()
    drops = await _drops(settings)
    async for _, letter in _each_once(settings):
        if letter is None or not wanted(letter):
            continue
        if letter.origin in drops:
            result.dropped += 1
        elif letter.cut:
            result.cut += 1
        elif not named and any(name == REPLAYED_FROM for name, _ in letter.headers):
            result.died_again += 1
        else:
            origins.add(letter.origin)
    done = await _put_back_before(settings, origins)
    result.again = len(origins & done)
    result.put_back = len(origins - done)
    if result.put_back:
        await _put_back(settings, origins - done)
    return result


async def droppable(settings: Settings, wanted: Callable[[DeadLetter], bool]) -> dict[int, list[Origin]]:
    """The wanted dead letters that are not dropped yet, by the partition of the topic that they lie on."""
    drops = await _drops(settings)
    found: defaultdict[int, list[Origin]] = defaultdict(list)
    async for partition, letter in _each_once(settings):
        if letter is not None and letter.origin not in drops and wanted(letter):
            found[partition].append(letter.origin)
    return dict(found)


async def drop_dead(settings: Settings, found: Mapping[int, Sequence[Origin]]) -> None:
    """Drop dead letters that `droppable` found: they are neither listed nor put back any more.

    Each is confirmed. Raises DeliveryError when Kafka does not confirm; it may be done again.
    """
    async with _producer(settings, "not all are dropped") as producer:
        for partition, origins in found.items():
            records = [drop_record(origins[start : start + _DROPS]) for start in range(0, len(origins), _DROPS)]
            await send_packed(producer, settings.topics.dead, partition, records)


def printable(data: bytes | None, most: int = 4000) -> str:
    """Bytes as text that cannot do anything to a terminal: as UTF-8 where they are, else escaped; cut at `most` characters."""
    if data is None:
        return "(none)"
    text = data[: 4 * most].decode("utf-8", "backslashreplace")
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text[:most])
    return shown + ("…" if len(text) > most or len(data) > 4 * most else "")


async def _each_once(settings: Settings) -> AsyncIterator[tuple[int, DeadLetter | None]]:
    """Every dead letter with its partition, in the order of that; copies of an origin once, foreign records as None."""
    seen: set[Origin] = set()
    async for record in _records(settings):
        letter = parse_dead(record.value, record.key, record.headers)
        if letter is not None and letter.origin not in seen:
            seen.add(letter.origin)
            yield record.partition, letter
        elif letter is None and not parse_dropped(record.headers):
            yield record.partition, None


async def _drops(settings: Settings) -> set[Origin]:
    """The origins of all dead letters that were dropped."""
    return {origin async for record in _records(settings) for origin in parse_dropped(record.headers)}


async def _records(settings: Settings) -> AsyncIterator[ConsumerRecord]:
    dead = settings.topics.dead
    try:
        async with whole_topic(settings.kafka, dead) as consumer:
            async for records in records_to_end(consumer):
                for record in records:
                    yield record
    except KafkaError as error:
        raise ConfigurationError(f"cannot read {dead} at {settings.kafka.bootstrap_servers}: {error!r}") from error


async def _put_back_before(settings: Settings, origins: Iterable[Origin]) -> set[Origin]:
    """What is back already, by the origins' partitions, each read from the first origin on."""
    first: dict[TopicPartition, int] = {}
    for origin in origins:
        tp = TopicPartition(origin.topic, origin.partition)
        first[tp] = min(first.get(tp, origin.offset), origin.offset)
    done: set[Origin] = set()
    try:
        async with reader(settings.kafka) as consumer:
            for tp, offset in first.items():
                start, end = await bounds(consumer, tp)
                async for records in read_span(consumer, tp, max(start, offset), end):
                    done.update(origin for record in records for origin in _put_back_from(record))
    except KafkaError as error:
        raise ConfigurationError(f"cannot read {sorted({tp.topic for tp in first})}: {error!r}") from error
    return done


def _put_back_from(record: ConsumerRecord) -> Iterator[Origin]:
    for name, value in record.headers:
        if name == REPLAYED_FROM and value is not None:
            # A header of that name which somebody else made up stands for nothing.
            with suppress(ValueError):
                yield Origin.parse(value.decode())


async def _put_back(settings: Settings, origins: set[Origin]) -> None:
    async with _producer(settings, "not all records are back") as producer:
        portion: list[DeadLetter] = []
        async for _, letter in _each_once(settings):
            if letter is not None and letter.origin in origins:
                portion.append(letter)
            if len(portion) == _PORTION:
                await _send(producer, portion)
                portion.clear()
        await _send(producer, portion)


@asynccontextmanager
async def _producer(settings: Settings, otherwise: str) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(
        **connection(settings.kafka), enable_idempotence=True, acks="all", linger_ms=0, max_request_size=_REQUEST_BYTES
    )
    try:
        await producer.start()
        yield producer
    except KafkaError as error:
        raise DeliveryError(f"{otherwise} ({error!r}): do it again, those that are will be left") from error
    finally:
        await producer.stop()


async def _send(producer: AIOKafkaProducer, letters: list[DeadLetter]) -> None:
    by_partition: defaultdict[tuple[str, int], list[Record]] = defaultdict(list)
    for letter in letters:
        headers = [*letter.headers, (REPLAYED_FROM, str(letter.origin).encode())]
        by_partition[letter.origin.topic, letter.origin.partition].append((letter.key, letter.value, headers))
    for (topic, partition), records in by_partition.items():
        await send_packed(producer, topic, partition, records)
