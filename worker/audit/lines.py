"""Scores out of JSON, compiled: of the lines that our own worker writes, a batch at a time.

A line is plain if it is what `worker.scoring.lines` makes of an event's first score: the constant text of a ScoreEvent, and in
its holes whole numbers of at most 15 digits, ids in printable ASCII, hashes of 16 digits and probabilities with six decimals.
Of any other line nothing is said here, not even that it is wrong: `scores.parse` is asked. A test holds the two equal on whatever
is called plain.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Raw

from worker.contract.codec import encode
from worker.contract.compiled import compiled
from worker.contract.events import EVENT_TYPES, HAZARD_HEADS, HORIZONS, ScoreEvent
from worker.contract.scan import Bytes, Longs, Texts, text_end

Words = npt.NDArray[np.uint64]
Maker = tuple[str, str, str]  # model, version, path

#: Probabilities of a score: purchase and cart by horizon, churn, next type.
WIDTH = len(HAZARD_HEADS) * len(HORIZONS) + 1 + len(EVENT_TYPES)

_quoted = msgspec.json.Encoder().encode
_HOLE = b"\x00"  # no JSON that msgspec writes holds it
_MOST_DIGITS = 15
_HASH, _DECIMALS = 16, 6
_QUOTE, _COMMA, _OPEN, _CLOSE, _ZERO, _POINT, _PLUS, _MINUS = (ord(char) for char in '",[]0.+-')
_TRUE, _FALSE = np.frombuffer(b"true", np.uint8), np.frombuffer(b"false", np.uint8)
_HEX = np.full(256, -1, np.int64)
_HEX[list(b"0123456789abcdef")] = range(16)
_PRINTABLE = np.array([0x20 <= byte <= 0x7E and chr(byte) not in '"\\' for byte in range(256)])
#: FNV-1a (Fowler, Noll, Vo), 64 bits.
_FNV_OFFSET, _FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_BYTE = np.uint64(0xFF)


class Form(NamedTuple):
    """What the lines of a partition have in common: pieces of constant text, and between them the makers that are known."""

    text: Bytes
    ends: Longs  # of the pieces
    makers: Bytes
    maker_ends: Longs
    numbers: Longs  # of the makers


class Columns(NamedTuple):
    """What B events' first scores say; of what is not `known`, nothing that counts. `maker` is its number."""

    known: npt.NDArray[np.bool_]  # [B]
    offset: Longs  # [B] of the event
    who: Words  # [B] `identities`
    session: Words  # [B]
    input_hash: Words  # [B]
    position: Longs  # [B]
    maker: Longs  # [B]
    p: npt.NDArray[np.float32]  # [B, WIDTH]


def columns(size: int) -> Columns:
    """Columns to be filled in."""
    offset, position, maker = np.zeros((3, size), np.int64)
    who, session, input_hash = np.zeros((3, size), np.uint64)
    p = np.zeros((size, WIDTH), np.float32)
    return Columns(np.zeros(size, np.bool_), offset, who, session, input_hash, position, maker, p)


def form_of(place: str, makers: Mapping[int, Maker]) -> Form:
    """The form of scores whose id begins with `place`. Names and order of the fields come from a ScoreEvent with holes."""
    hole: Any = Raw(_HOLE)
    quoted: Any = Raw(b'"' + _HOLE + b'"')
    score_id: Any = Raw(_quoted(place)[:-1] + _HOLE + b'"')
    event = ScoreEvent(
        score_id=score_id, event_id=quoted, visitor_id=quoted, session_id=quoted, position=hole, event_time=hole, scored_at=hole,
        age_ms=hole, deadline_met=hole, model=hole, version=hole, path=hole, input_hash=quoted, scores=hole, next_items=hole,
    )  # fmt: skip
    pieces = encode(event).split(_HOLE)
    after_model, after_version = pieces[10], pieces[11]
    del pieces[10:12]
    told = [after_model.join(map(_quoted, maker[:2])) + after_version + _quoted(maker[2]) for maker in makers.values()]
    return Form(*_laid_out(pieces), *_laid_out(told), np.array(list(makers), np.int64))


def _laid_out(texts: list[bytes]) -> tuple[Bytes, Longs]:
    return np.frombuffer(b"".join(texts), np.uint8), np.cumsum([len(text) for text in texts], dtype=np.int64)


def _template() -> tuple[Bytes, npt.NDArray[np.uint8], Longs]:
    """The field `scores` with zeros for its numbers, where it is constant (255, else 0), and where the numbers begin."""
    number = "0." + "0" * _DECIMALS
    named = [",".join(f'"{name}":{number}' for name in names) for names in (HORIZONS, HORIZONS, EVENT_TYPES)]
    text = f'{{"purchase":{{{named[0]}}},"cart":{{{named[1]}}},"churn":{number},"next_type":{{{named[2]}}}}}'
    holes = [at for at in range(len(text)) if text.startswith(f":{number}", at)]
    constant = np.full(len(text), 255, np.uint8)
    for hole in holes:
        constant[hole + 1] = 0
        constant[hole + 3 : hole + 3 + _DECIMALS] = 0
    return np.frombuffer(text.encode(), np.uint8), constant, np.array(holes) + 1


_TEMPLATE, _CONSTANT, _HOLES = _template()
assert len(_HOLES) == WIDTH


@compiled()
def read(lines: Texts, simple: npt.NDArray[np.bool_], form: Form, first: int, end: int, scores: Columns) -> None:
    """Read plain lines about the events from offset `first` to before `end`. `simple` is as in `scan.scan`."""
    maker = 0
    for i in range(len(lines.starts)):
        scores.known[i], maker = _read(i, lines, simple, form, maker, scores)
        scores.known[i] &= first <= scores.offset[i] < end


@compiled()
def identities(text: Bytes, event_ids: Longs, visitor_ids: Longs, times_ms: Longs) -> Words:
    """Who and when, hashed, [B]. The spans say where in `text` the ids are, as JSON has them without their quotes."""
    found = np.empty(len(times_ms), np.uint64)
    for i in range(len(times_ms)):
        found[i] = _identity(text, event_ids[i, 0], event_ids[i, 1], visitor_ids[i, 0], visitor_ids[i, 1], times_ms[i])
    return found


@compiled()
def _identity(text: Bytes, event: int, event_end: int, visitor: int, visitor_end: int, time_ms: int) -> np.uint64:
    found = _FNV_OFFSET
    for at in range(event, event_end):
        found = (found ^ np.uint64(text[at])) * _FNV_PRIME
    found = (found ^ _BYTE) * _FNV_PRIME  # no UTF-8 has this byte
    for at in range(visitor, visitor_end):
        found = (found ^ np.uint64(text[at])) * _FNV_PRIME
    for k in range(8):
        found = (found ^ (np.uint64(time_ms) >> np.uint64(8 * k) & _BYTE)) * _FNV_PRIME
    return found


@compiled()
def _read(i: int, lines: Texts, simple: npt.NDArray[np.bool_], form: Form, expected: int, scores: Columns) -> tuple[bool, int]:
    """Whether a line is plain, and the place of its maker in the form.

    Each step says where it ends, or -1 if it or one before it is not as expected.
    """
    text = lines.text
    at, scores.offset[i] = _integer(text, _constant(text, lines.starts[i], form, 0))
    event = _constant(text, at, form, 1)
    event_end = _id_end(text, event)
    visitor = _constant(text, event_end, form, 2)
    visitor_end = _id_end(text, visitor)
    at, scores.session[i] = _hash(text, _constant(text, visitor_end, form, 3))
    at, scores.position[i] = _integer(text, _constant(text, at, form, 4))
    at, time_ms = _integer(text, _constant(text, at, form, 5))
    at, _ = _integer(text, _constant(text, at, form, 6))
    at, _ = _integer(text, _constant(text, at, form, 7))
    at = _bool(text, _constant(text, at, form, 8))
    at, maker = _maker(text, _constant(text, at, form, 9), form, expected)
    at, scores.input_hash[i] = _hash(text, _constant(text, at, form, 10))
    at = _probabilities(text, _constant(text, at, form, 11), lines.ends[i], scores.p[i])
    if at < 0:
        return False, expected
    scores.who[i] = _identity(text, event, event_end, visitor, visitor_end, time_ms)
    scores.maker[i] = form.numbers[maker]
    items = _constant(text, at, form, 12)
    if items >= 0:
        at = _items_end(text, items, simple)
    return _constant(text, at, form, 13) == lines.ends[i], maker


@compiled()
def _constant(text: Bytes, at: int, form: Form, piece: int) -> int:
    return _follows(text, at, form.text, form.ends[piece - 1] if piece else 0, form.ends[piece])


@compiled()
def _follows(text: Bytes, at: int, other: Bytes, start: int, end: int) -> int:
    """Where a text ends that is expected at a place."""
    if at < 0:
        return -1
    for k in range(start, end):
        if text[at] != other[k]:
            return -1
        at += 1
    return at


@compiled()
def _integer(text: Bytes, at: int) -> tuple[int, int]:
    number, start = 0, at
    if at < 0:
        return -1, 0
    while _is_digit(text[at]):
        number = 10 * number + (text[at] - _ZERO)
        at += 1
        if at - start > _MOST_DIGITS:
            return -1, 0
    if at == start or (text[start] == _ZERO and at > start + 1):
        return -1, 0
    return at, number


@compiled(inline="always")
def _is_digit(char: np.uint8) -> bool:
    return _ZERO <= int(char) < _ZERO + 10


@compiled()
def _id_end(text: Bytes, at: int) -> int:
    return text_end(text, at, _PRINTABLE) if at >= 0 else -1


@compiled()
def _hash(text: Bytes, at: int) -> tuple[int, np.uint64]:
    number = np.uint64(0)
    if at < 0:
        return -1, number
    for k in range(_HASH):
        digit = _HEX[text[at + k]]
        if digit < 0:
            return -1, number
        number = number << np.uint64(4) | np.uint64(digit)
    return at + _HASH, number


@compiled()
def _bool(text: Bytes, at: int) -> int:
    return max(_follows(text, at, _TRUE, 0, 4), _follows(text, at, _FALSE, 0, 5))


@compiled()
def _maker(text: Bytes, at: int, form: Form, expected: int) -> tuple[int, int]:
    """One of the makers. The expected one is looked at first."""
    for k in range(len(form.maker_ends)):
        maker = (expected + k) % len(form.maker_ends)
        after = _follows(text, at, form.makers, form.maker_ends[maker - 1] if maker else 0, form.maker_ends[maker])
        if after >= 0:
            return after, maker
    return -1, expected


@compiled()
def _probabilities(text: Bytes, at: int, end: int, p: npt.NDArray[np.float32]) -> int:
    """The field `scores`: all of its constant text at once, then the digits."""
    if at < 0 or at + len(_TEMPLATE) > end:
        return -1
    wrong = np.uint8(0)
    for k in range(len(_TEMPLATE)):
        wrong |= (text[at + k] ^ _TEMPLATE[k]) & _CONSTANT[k]
    if wrong:
        return -1
    for hole in range(len(_HOLES)):
        place = at + _HOLES[hole]
        millionths = np.int64(text[place]) - _ZERO
        right = 0 <= millionths <= 9
        for k in range(place + 2, place + 2 + _DECIMALS):
            digit = np.int64(text[k]) - _ZERO
            right &= 0 <= digit <= 9
            millionths = 10 * millionths + digit
        if not right:
            return -1
        p[hole] = millionths / 10.0**_DECIMALS  # the nearest double, as any parser's
    return at + len(_TEMPLATE)


@compiled()
def _items_end(text: Bytes, at: int, simple: npt.NDArray[np.bool_]) -> int:
    """The end of a list of pairs of a text and a number."""
    if text[at] != _OPEN:
        return -1
    if text[at + 1] == _CLOSE:
        return at + 2
    while True:
        if text[at + 1] != _OPEN or text[at + 2] != _QUOTE:
            return -1
        at = text_end(text, at + 3, simple)
        if at < 0 or text[at + 1] != _COMMA:
            return -1
        at = _number_end(text, at + 2)
        if at < 0 or text[at] != _CLOSE:
            return -1
        at += 1
        if text[at] == _CLOSE:
            return at + 1
        if text[at] != _COMMA:
            return -1


@compiled()
def _number_end(text: Bytes, at: int) -> int:
    """The end of a number that is not negative; its exponent has at most two digits."""
    at, _ = _integer(text, at)
    if at >= 0 and text[at] == _POINT:
        at = _digits_end(text, at + 1, _MOST_DIGITS + 9)
    if at >= 0 and text[at] in (ord("e"), ord("E")):
        at += 1
        at = _digits_end(text, at + 1 if text[at] in (_PLUS, _MINUS) else at, 2)
    return at


@compiled()
def _digits_end(text: Bytes, at: int, most: int) -> int:
    start = at
    while _is_digit(text[at]) and at - start <= most:
        at += 1
    return at if 0 < at - start <= most else -1
