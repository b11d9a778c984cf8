"""Hostile and odd records for the clicks topic: what must become a dead letter and why, and what must be scored.

`bad_records` and `odd_records` take the time at which the records are to be produced and differ in nothing else from
run to run, unless they are given dice: then every variant stands in another event, and what variants leave open is drawn
anew. `kind` names the class, `name` the variant. `stories` are several events whose order is what is odd, and `wire` has
what only a Kafka client can do wrong.
"""

import json
import random
import struct
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from tests.corpus.formats import formats
from tests.corpus.malformed import malformed
from tests.corpus.odd import odd_values
from tests.corpus.record import MAX_FUTURE_MS, Record
from tests.corpus.unfit import unfit
from worker.contract.events import Reason

__all__ = ["MAX_FUTURE_MS", "BadRecord", "OddRecord", "bad_records", "odd_records"]


class BadRecord(NamedTuple):
    """A record that is no event, with the only reason it may be given."""

    kind: str
    name: str
    key: bytes | None
    value: bytes | None
    reason: Reason


class OddRecord(NamedTuple):
    """A record that looks wrong and is sound: it must be decoded, folded and scored."""

    kind: str
    name: str
    key: bytes
    value: bytes


def bad_records(now_ms: int, dice: random.Random | None = None, large: bool = True) -> Iterator[BadRecord]:
    """Every bad record, class by class; without those of many kilobytes if `large` is false."""
    record = Record(now_ms, dice, large)
    for kind, reason, variants in chain(malformed(record), formats(record), unfit(record)):
        for name, value in variants.items():
            yield BadRecord(kind, name, record.visitor.encode(), value, reason)
    yield from _bad_keys(record)


def odd_records(now_ms: int, dice: random.Random | None = None, large: bool = True) -> Iterator[OddRecord]:
    """Every odd but sound record, class by class. All ids of events differ."""
    for kind, variants in odd_values(Record(now_ms, dice, large)).items():
        for name, value in variants.items():
            visitor = json.loads(value, parse_int=float)["visitor_id"]  # float takes any number of digits
            yield OddRecord(kind, name, visitor.encode(), value)


def _bad_keys(record: Record) -> Iterator[BadRecord]:
    yield BadRecord("no key", "sound event", None, record.with_(), Reason.NULL_KEY)
    yield BadRecord("no key", "no JSON", None, b"{", Reason.NULL_KEY)
    visitor = record.visitor
    wrong = {
        "empty": b"",
        "other visitor": b"somebody-else",
        "other case": visitor.upper().encode(),
        "as JSON": json.dumps(visitor).encode(),
        "longer": visitor.encode() + b" ",
        "shorter": visitor.encode()[:-1],
        "UTF-16": visitor.encode("utf-16-le"),
        "no UTF-8": b"\xff\xfe",
        "NUL behind": visitor.encode() + b"\0",
        "number": struct.pack(">q", 42),
        "serialised": b"\0\0\0\0\1" + visitor.encode(),
        "long": visitor.encode() * 5_000,
        "drawn": record.dice.randbytes(12),
    }
    for name, key in wrong.items():
        yield BadRecord("key unlike visitor", name, key, record.with_(), Reason.KEY_MISMATCH)
    composed, decomposed = "jos\u00e9", "jose\u0301"
    yield BadRecord("key in other form", "NFC", composed.encode(), record.with_(visitor_id=decomposed), Reason.KEY_MISMATCH)
    yield BadRecord("key in other form", "NFD", decomposed.encode(), record.with_(visitor_id=composed), Reason.KEY_MISMATCH)
    twice = record.with_()[:-1] + b', "visitor_id": "somebody-else"}'
    yield BadRecord("visitor twice", "last counts", visitor.encode(), twice, Reason.KEY_MISMATCH)
