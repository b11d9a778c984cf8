"""Kafka as far as the worker can tell: logs that take records whole, transactions that fence, compaction."""

import random
from collections.abc import Sequence
from enum import Enum

from aiokafka import ConsumerRecord
from aiokafka.errors import ProducerFenced

Payload = tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes | None]]]


class Fate(Enum):
    """What became of the transaction that an entry was written in."""

    OPEN = "open"
    COMMITTED = "committed"
    ABORTED = "aborted"


class Entry:
    """A record in a log."""

    __slots__ = ("fate", "headers", "key", "offset", "value")

    def __init__(self, offset: int, payload: Payload, fate: Fate) -> None:
        self.offset = offset
        self.key, self.value, self.headers = payload
        self.fate = fate


class Log:
    """One partition of a topic."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.end = 0

    def append(self, payloads: Sequence[Payload], fate: Fate = Fate.COMMITTED) -> list[Entry]:
        """Take a record batch as a whole."""
        new = [Entry(self.end + place, payload, fate) for place, payload in enumerate(payloads)]
        self.entries.extend(new)
        self.end += len(new)
        return new

    @property
    def stable_end(self) -> int:
        """Where the first open transaction begins: readers of committed records see no further."""
        return next((entry.offset for entry in self.entries if entry.fate is Fate.OPEN), self.end)

    def committed(self) -> list[Entry]:
        """What a reader of committed records sees."""
        end = self.stable_end
        return [entry for entry in self.entries if entry.fate is Fate.COMMITTED and entry.offset < end]

    def compact(self, upto: int, with_tombstones: bool) -> None:
        """Below `upto`, keep the newest committed record of each key, and nothing of what was aborted.

        Tombstones stay for a while and go with a later compaction, `with_tombstones`.
        """
        upto = min(upto, self.stable_end)
        newest = {entry.key: entry for entry in self.entries if entry.offset < upto and entry.fate is Fate.COMMITTED}
        kept = {id(entry) for entry in newest.values() if entry.value is not None or not with_tombstones}
        self.entries = [entry for entry in self.entries if entry.offset >= upto or id(entry) in kept]


class _Transactions:
    """What the coordinator knows of one transactional id."""

    def __init__(self) -> None:
        self.epoch = -1
        self.ongoing = False
        self.ended = 0  # transactions of this epoch
        self.entries: list[Entry] = []
        self.seen: set[int] = set()  # sequence numbers of this epoch

    def end(self, fate: Fate) -> None:
        for entry in self.entries:
            entry.fate = fate
        self.entries = []
        self.ongoing = False


class Broker:
    """Topics and transactions. Every method is one request, done at once."""

    def __init__(self) -> None:
        self.logs: dict[tuple[str, int], Log] = {}
        self._transactions: dict[str, _Transactions] = {}
        self.early_ends = 0  # of transactions, by what was meant for the one before

    def log(self, topic: str, partition: int) -> Log:
        return self.logs.setdefault((topic, partition), Log())

    def produce(self, topic: str, partition: int, payloads: Sequence[Payload]) -> None:
        """Append outside of any transaction. A copy of the request is appended again."""
        self.log(topic, partition).append(payloads)

    def open(self, name: str) -> int:
        """InitProducerId: undo what is under way, and shut out all earlier epochs."""
        transactions = self._transactions.setdefault(name, _Transactions())
        transactions.end(Fate.ABORTED)
        transactions.epoch += 1
        transactions.ended = 0
        transactions.seen = set()
        return transactions.epoch

    def begin(self, name: str, epoch: int) -> None:
        """AddPartitionsToTxn."""
        self._current(name, epoch).ongoing = True

    def write(self, name: str, epoch: int, sequence: int, topic: str, partition: int, payloads: Sequence[Payload]) -> None:
        """Produce in a transaction. A copy of the request does nothing."""
        transactions = self._current(name, epoch)
        if sequence in transactions.seen:
            return
        if not transactions.ongoing:
            raise ProducerFenced
        transactions.seen.add(sequence)
        transactions.entries += self.log(topic, partition).append(payloads, Fate.OPEN)

    def commit(self, name: str, epoch: int, number: int) -> None:
        """EndTxn, of the epoch's transaction of that number. The protocol does not have the number: a copy of the request that
        comes late ends the next transaction.
        """
        transactions = self._current(name, epoch)
        if number < transactions.ended:
            self.early_ends += bool(transactions.entries)
        else:
            transactions.ended += 1
        transactions.end(Fate.COMMITTED)

    def compact(self, topic: str, dice: random.Random) -> None:
        """Compact each partition of a topic up to a random place."""
        for (name, _), log in self.logs.items():
            if name == topic:
                log.compact(dice.randint(0, log.end), dice.random() < 0.5)

    def _current(self, name: str, epoch: int) -> _Transactions:
        transactions = self._transactions[name]
        if transactions.epoch != epoch:
            raise ProducerFenced
        return transactions


def as_record(topic: str, partition: int, entry: Entry, at_ms: int = 0) -> ConsumerRecord:
    """An entry as aiokafka gives it."""
    return ConsumerRecord(topic, partition, entry.offset, at_ms, 0, entry.key, entry.value, None, 0, 0, tuple(entry.headers))
