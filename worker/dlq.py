"""Looking at dead letters, and putting records back where they came from.

Putting back is done once for every dead letter. The record that is put back says so itself, in a header that names its
origin, so "was it put back?" is answered by reading the origin's partition after the origin: there is no second place to keep
in step, and a crash in between leaves either the record with its header or nothing. Two people who put back the same
records at the same moment could still do it twice; the event ids then make the worker drop the copies.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress

import msgspec
from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from worker.dead import REPLAYED_FROM, DeadLetter, Origin, parse_dead
from worker.errors import ConfigurationError, DeliveryError, InklingError
from worker.kafka import connection
from worker.send import Record, send_packed
from worker.settings import Settings
from worker.span import bounds, read_span, reader
from worker.topic import records_to_end, whole_topic

#: Records put back in one go: bounds memory.
_PORTION = 1000
#: A record that was whole as a dead letter is whole with its own headers and this more.
_REQUEST_BYTES = 2_000_000


class Listing(msgspec.Struct):
    """What lies among the dead: how many of each reason, and the newest, newest first. Copies after a crash count once.

    `foreign` records on the topic are no dead letters.
    """

    reasons: Counter[str]
    newest: list[DeadLetter]
    foreign: int


class Replayed(msgspec.Struct):
    """What came of putting records back. `again`: had been put back before. `died_again`: are dead once more although put
    back, and were left, unless named. `cut`: are not kept whole, so there is nothing to put back.
    """

    put_back: int = 0
    again: int = 0
    died_again: int = 0
    cut: int = 0


async def list_dead(settings: Settings, newest: int) -> Listing:
    """All dead letters, counted, and the `newest` of them. Raises ConfigurationError when Kafka or the topic is away."""
    reasons: Counter[str] = Counter()
    foreign = 0
    heap: list[tuple[int, Origin, DeadLetter]] = []
    async for letter in _each_once(settings):
        if letter is None:
            foreign += 1
            continue
        reasons[letter.reason] += 1
        heapq.heappush(heap, (letter.timestamp_ms, letter.origin, letter))
        if len(heap) > newest:
            heapq.heappop(heap)
    return Listing(reasons, [letter for _, _, letter in sorted(heap, key=lambda entry: entry[:2], reverse=True)], foreign)


async def find_dead(settings: Settings, origin: Origin) -> DeadLetter:
    """The dead letter of one record. Raises InklingError when there is none."""
    async for letter in _each_once(settings):
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
    async for letter in _each_once(settings):
        if letter is None or not wanted(letter):
            continue
        if letter.cut:
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


def printable(data: bytes | None, most: int = 4000) -> str:
    """Bytes as text that cannot do anything to a terminal: as UTF-8 where they are, else escaped; cut at `most` characters."""
    if data is None:
        return "(none)"
    text = data[: 4 * most].decode("utf-8", "backslashreplace")
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text[:most])
    return shown + ("…" if len(text) > most or len(data) > 4 * most else "")


async def _each_once(settings: Settings) -> AsyncIterator[DeadLetter | None]:
    """Every dead letter, in the order of its partition; copies of an origin once, foreign records as None."""
    seen: set[Origin] = set()
    dead = settings.topics.dead
    try:
        async with whole_topic(settings.kafka, dead) as consumer:
            async for records in records_to_end(consumer):
                for record in records:
                    letter = parse_dead(record.value, record.key, record.headers)
                    if letter is None or letter.origin not in seen:
                        yield letter
                    if letter is not None:
                        seen.add(letter.origin)
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
    producer = AIOKafkaProducer(
        **connection(settings.kafka), enable_idempotence=True, acks="all", linger_ms=0, max_request_size=_REQUEST_BYTES
    )
    try:
        await producer.start()
        portion: list[DeadLetter] = []
        async for letter in _each_once(settings):
            if letter is not None and letter.origin in origins:
                portion.append(letter)
            if len(portion) == _PORTION:
                await _send(producer, portion)
                portion.clear()
        await _send(producer, portion)
    except KafkaError as error:
        raise DeliveryError(f"not all records are back ({error!r}): do it again, those that are will be left") from error
    finally:
        await producer.stop()


async def _send(producer: AIOKafkaProducer, letters: list[DeadLetter]) -> None:
    by_partition: defaultdict[tuple[str, int], list[Record]] = defaultdict(list)
    for letter in letters:
        headers = [*letter.headers, (REPLAYED_FROM, str(letter.origin).encode())]
        by_partition[letter.origin.topic, letter.origin.partition].append((letter.key, letter.value, headers))
    for (topic, partition), records in by_partition.items():
        await send_packed(producer, topic, partition, records)
