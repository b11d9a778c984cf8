"""Sessions and counters of a partition, and their changelog.

Every batch leaves exactly one Kafka record batch in the changelog, which is there as a whole or not at all:

    key visitor id                   value  format byte + the visitor's session, packed, with all its rows
                                     no value: the visitor is forgotten
    key visitor id + 0x00 + row      value  the same with the rows from that one on, which are new: they follow on what the
                                            visitor's records before this one hold
    key 0x00 "counters" + n          value  format byte + counter block n, and behind it all other cells that changed; n is the
                                            next in turn each time
    key 0x00 "position"              value  format byte + the source offset up to which all of the above is folded

So what is read back always is the state at one source offset, and everything below that offset has its score:
delivery writes here only after the scores were confirmed, and only the partition's one owner can (`worker.owner`).
Visitor ids never hold control characters, so keys never clash.

Compaction may take any record that a later one of the same key replaces, and leaves a state that reads back the same: before
a window has come to the same row again it has moved on or begun anew, and then the session was written whole. Rows that a
later whole session replaces may so be without what they follow on; `PartitionState.check` sees to it that none is at the end.

For counters, because blocks go round: say a cell of block b was changed last by record r. While r is there, it and all that
come after it hold the cell as it is now, or not at all. If compaction has taken r, a later record has r's key; between these
two every block had its turn, b too, so one of key b came after r, and the newest of key b is always there and holds the cell.
"""

import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from typing import Protocol

import msgspec
from aiokafka.errors import KafkaTimeoutError

from worker import metrics
from worker.contract.cold import Cold, InMemory
from worker.contract.features import FeatureSpec
from worker.contract.session import SessionPolicy
from worker.contract.slab import Slab
from worker.errors import StateError
from worker.fetched import Fetched
from worker.record_batch import Records
from worker.settings import Settings
from worker.topic import columns_to_end, committed_offsets, partition_counts, whole_topic

Change = tuple[bytes, bytes | None]

_POSITION_FORMAT = b"\x01"
_COUNTERS_FORMAT = b"\x02"
#: Rows with who visits. Those before had other rows, and nobody can say what a session would be that has some of each.
_SESSION_FORMAT = b"\x03"
_SEPARATOR = b"\x00"
_COUNTERS_KEY = b"\x00counters"
_POSITION_KEY = b"\x00position"

_encoder = msgspec.msgpack.Encoder()


class Position(msgspec.Struct, frozen=True):
    """Up to where a changelog is folded, and by which rules: a state folded by others cannot be used."""

    next_offset: int
    spec: FeatureSpec
    policy: SessionPolicy
    newest_ms: int = 0


_positions = msgspec.msgpack.Decoder(Position)


class ColdPlace(Protocol):
    """Where sessions of all partitions are when there are more than are to stay in memory (`cold.ColdStore`)."""

    most_hot: int  # of a partition

    def sessions(self, rows_kept: dict[bytes, int]) -> Cold:
        """Room for those of one partition; with each goes its entry of `rows_kept`."""


class PartitionState:
    """The fold of one partition, and up to where it goes. What lies below `next_offset` has its score."""

    def __init__(self, spec: FeatureSpec, policy: SessionPolicy, place: ColdPlace | None = None) -> None:
        self._rows_kept: dict[bytes, int] = {}  # visitor -> the rows that have records of their own, as bits
        self._cold = InMemory() if place is None else place.sessions(self._rows_kept)
        self.fold = Slab(spec, policy, self._cold, None if place is None else place.most_hot)
        self.next_offset = 0
        #: What follows the visitor in the key of the rows from a row on.
        self._row_keys = [_SEPARATOR + row.to_bytes(2, "big") for row in range(spec.window)]
        self._loose: set[bytes] = set()  # visitors of whom rows were read that follow on nothing

    def changes(self, next_offset: int) -> Records:
        """The changelog records of what was folded since the last call; the log is folded up to before `next_offset`."""
        self.next_offset = next_offset
        gone: list[Change] = []
        for visitor in self.fold.expire():
            rows = self._rows_kept.pop(visitor, 0)
            gone += [(visitor + self._row_keys[row], None) for row in range(rows.bit_length()) if rows >> row & 1]
            gone.append((visitor, None))  # behind its rows, so that they are never without it
        sessions = self.fold.take_changed(_SESSION_FORMAT)
        kept, ends = self._rows_kept, self._row_keys
        keys = sessions.keys
        for at, row in enumerate(sessions.first.tolist()):
            if row:
                visitor = keys[at]
                kept[visitor] = kept.get(visitor, 0) | 1 << row
                keys[at] = visitor + ends[row]
        self.fold.cool()
        shared: list[Change] = []
        if (taken := self.fold.counters.take_changed()) is not None:
            number, cells = taken
            shared.append((_COUNTERS_KEY + number.to_bytes(4, "big"), _COUNTERS_FORMAT + cells))
        position = Position(next_offset, self.fold.spec, self.fold.policy, self.fold.newest_ms)
        shared.append((_POSITION_KEY, _POSITION_FORMAT + _encoder.encode(position)))
        return Records.joined([Records.of(gone), Records(keys, sessions.packed, sessions.sizes), Records.of(shared)])

    def restore(self, key: bytes, value: bytes | None) -> None:
        """Take one changelog record; in order. Raises StateError when it cannot be understood."""
        try:
            if value is not None and value[:1] == _SESSION_FORMAT and _SEPARATOR not in key:
                self.fold.put(key, value[1:])  # what nearly all records are
                if self._loose:
                    self._loose.discard(key)
            elif key.startswith(_SEPARATOR):
                self._restore_shared(key, value or b"")
            else:
                self._restore_session(key, value)
        except (msgspec.DecodeError, ValueError) as error:
            raise StateError(f"changelog record {key!r} is damaged: {error}") from error

    def check(self) -> None:
        """To be called when the end is reached. Raises StateError when a session lacks what its rows follow on."""
        if self._loose:
            raise StateError(
                f"the changelog has rows of visitor {min(self._loose).decode()!r} without the session that they belong to: it is "
                "damaged. Restore the topic, or empty it and reset the group's offsets to the earliest to fold the log anew"
            )

    def close(self) -> None:
        """Let go of what is elsewhere. The state is of no use after it."""
        self._cold.close()

    def _restore_shared(self, key: bytes, value: bytes) -> None:
        if key == _POSITION_KEY:
            position = _positions.decode(_body(value, _POSITION_FORMAT))
            if (position.spec, position.policy) != (self.fold.spec, self.fold.policy):
                raise StateError(
                    "the changelog was folded with other session settings or another feature spec: "
                    "put them back, or use another INKLING_TOPICS__CHANGELOG and consumer group"
                )
            self.next_offset = position.next_offset
            self.fold.newest_ms = position.newest_ms
        elif key.startswith(_COUNTERS_KEY):
            self.fold.counters.restore(int.from_bytes(key[len(_COUNTERS_KEY) :], "big"), _body(value, _COUNTERS_FORMAT))

    def _restore_session(self, key: bytes, value: bytes | None) -> None:
        visitor, rows_only, row = key.partition(_SEPARATOR)
        if rows_only:
            bit, kept = 1 << int.from_bytes(row, "big"), self._rows_kept.get(visitor, 0)
            self._rows_kept[visitor] = kept & ~bit if value is None else kept | bit
        if value is None:
            if not rows_only:
                self.fold.forget(visitor)
                self._rows_kept.pop(visitor, None)  # those of its rows came before
                self._loose.discard(visitor)
        elif not self.fold.extend(visitor, _body(value, _SESSION_FORMAT)):  # a whole one of this format is no matter of this
            self._loose.add(visitor)


def _body(value: bytes, known: bytes) -> bytes:
    if value[:1] > known:
        raise StateError(f"changelog record has format {value[:1].hex()}, this worker knows {known.hex()}: upgrade it")
    if b"" < value[:1] < known:
        raise StateError(
            f"the changelog is of an earlier version of the worker (format {value[:1].hex()}, this one's is {known.hex()}), "
            "whose rows were others: use another INKLING_TOPICS__CHANGELOG and consumer group, which folds the log anew"
        )
    if not value:
        raise ValueError("it is empty")
    return value[1:]


class Source(Protocol):
    """Where state is read back from (`KafkaSource`)."""

    def records(self, partitions: Collection[int]) -> AsyncIterator[Fetched]:
        """The changelog of the partitions, up to what is its end now, in order within each."""

    async def committed(self) -> Mapping[int, int]:
        """The offsets that the group has committed, by partition."""


class KafkaSource:
    """Reads the changelog topic and the group's commits."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def records(self, partitions: Collection[int]) -> AsyncIterator[Fetched]:
        changelog, group = self._settings.topics.changelog, self._settings.worker.group
        async with whole_topic(self._settings.kafka, changelog, partitions, columns=True) as consumer:
            try:
                starts = await consumer.beginning_offsets(consumer.assignment())
            except KafkaTimeoutError as error:
                raise await self._too_many(partitions) or error from error
            if cut := sorted(tp.partition for tp, start in starts.items() if start > 0):
                # Compaction never moves the start; only what deletes does, and it takes the oldest sessions.
                raise StateError(
                    f"the beginning of {changelog} is deleted in partitions {cut}: it was emptied or truncated, and sessions "
                    "are lost. Restore it; or make it anew, with cleanup.policy=compact alone, and reset the offsets of group "
                    f"{group} to the earliest to fold the log anew"
                )
            async for records in columns_to_end(consumer):
                yield records

    async def _too_many(self, partitions: Collection[int]) -> StateError | None:
        """Whether there are partitions of the clicks without a changelog."""
        topics = self._settings.topics
        counts = await partition_counts(self._settings.kafka, [topics.clicks, topics.changelog])
        clicks, changelog = counts.get(topics.clicks, 0), counts.get(topics.changelog, 0)
        if max(partitions) < changelog:
            return None
        return StateError(
            f"{topics.clicks} has {clicks} partitions and {topics.changelog} has {changelog}: partitions were added, so visitors "
            "have moved away from their sessions. Make both anew with the same number, or use others"
        )

    async def committed(self) -> Mapping[int, int]:
        settings = self._settings
        return await committed_offsets(settings.kafka, settings.worker.group, settings.topics.clicks)


async def restore(
    source: Source, settings: Settings, partitions: Iterable[int], spec: FeatureSpec, place: ColdPlace | None = None
) -> dict[int, PartitionState]:
    """Read the partitions' state back from the changelog; sessions go to the `place`, if there is one.

    Raises StateError when it is damaged, or lies behind what the group has committed: sessions would silently be lost.
    """
    started = time.monotonic()
    states = {partition: PartitionState(spec, settings.session.policy, place) for partition in partitions}
    # Asked before reading: if the partition has moved on to another owner meanwhile, that one's commits run ahead of us.
    committed = await source.committed()
    async for records in source.records(list(states)):
        state = states[records.partition.partition]
        for key, value in records.pairs():
            if key is not None:
                state.restore(key, value)
    for partition, state in states.items():
        state.check()
        if committed.get(partition, 0) > state.next_offset:
            raise StateError(
                f"the changelog of partition {partition} ends at offset {state.next_offset} of {settings.topics.clicks}, but "
                f"{committed[partition]} is committed: it was emptied or truncated. Restore the topic, or reset the offsets of "
                f"group {settings.worker.group} to the earliest to fold the log anew"
            )
        metrics.recovery.observe(time.monotonic() - started)
    return states
