"""The ScoreEvents of a batch as JSON, compiled: the same bytes as `codec.encode` of each, in a fifth of the time.

Names and order of the fields come from an encoded ScoreEvent that has holes where events differ. A test holds what is written
equal to what msgspec writes.
"""

from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Raw

from worker.contract.clicks import in_quotes
from worker.contract.codec import encode
from worker.contract.compiled import compiled
from worker.contract.events import EVENT_TYPES, HORIZONS, ScoreEvent
from worker.contract.move import copy
from worker.scoring.base import Scores
from worker.scoring.items import NextItems

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

_HOLE = b"\x00"  # no JSON that msgspec writes holds it
_WHOLE = 1_000_000
#: Most characters of a number, a hash, and true or false.
_NUMBER, _HASH, _BOOL = 19, 16, 5
#: Characters of a probability, and what stands around an item's id besides.
_HOLE_TEXT = "#.######"
_CHANCE = len(_HOLE_TEXT)
_ITEM = len('["",],') + _CHANCE
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
_REVISION = np.frombuffer(b":r", np.uint8)  # between the event's place and the revision's number
_TRUE, _FALSE = np.frombuffer(b"true", np.uint8), np.frombuffer(b"false", np.uint8)
_NO_ITEMS = NextItems.of([])
_encoder = msgspec.json.Encoder()


class Scored(NamedTuple):
    """What B scores are about. `place` is the events' topic and partition as in a score id; sessions and hashes are numbers.

    `revisions` has the number of each score made anew after a late event, 0 for an event's first score.
    """

    place: str
    offsets: Longs  # [B]
    text: Bytes
    event_ids: Longs  # [B, 2] where in the text they are, as JSON has them without their quotes
    visitor_ids: Longs  # [B, 2] likewise
    sessions: Words  # [B]
    positions: Longs  # [B]
    event_times_ms: Longs  # [B]
    ages_ms: Longs  # [B]
    input_hashes: Words  # [B]
    revisions: Longs  # [B]


def score_lines(scored: Scored, scores: Scores, model: str, now_ms: int, deadline_ms: float) -> tuple[bytes, Longs]:
    """One ScoreEvent each, one behind the other, and how long each is, [B]. Probabilities have six digits.

    Raises ValueError for a number that is no probability.
    """
    chances = np.concatenate((scores.purchase, scores.cart, scores.churn[:, None], scores.next_type), axis=1)  # [B, N]
    items = (scores.next_items or _NO_ITEMS).read_only()
    between = _between(scored.place, model, scores, now_ms)
    ends = np.cumsum([len(text) for text in between])
    count = len(scored.offsets)
    names = int(sum(np.diff(spans).sum() for spans in (scored.event_ids, scored.visitor_ids)))
    rest = 5 * _NUMBER + len(_REVISION) + _BOOL + 2 * _HASH + len(_TEMPLATE)
    names += int(np.diff(items.spans).sum())
    room = count * (int(ends[-1]) + rest + len("[]") + _ITEM * items.spans.shape[1]) + names
    lines, line_ends = np.empty(room, np.uint8), np.empty(count, np.int64)
    numbers = np.stack([scored.offsets, scored.positions, scored.event_times_ms, scored.ages_ms, scored.revisions], axis=1)
    if not _write(
        np.frombuffer(b"".join(between), np.uint8), ends, numbers, scored.ages_ms <= deadline_ms,
        scored.sessions, scored.input_hashes, scored.text, scored.event_ids, scored.visitor_ids,
        scores.next_items is not None, items, chances, lines, line_ends,
    ):  # fmt: skip
        raise ValueError("a score is no probability")
    return lines[: line_ends[-1] if count else 0].tobytes(), np.diff(line_ends, prepend=0)


def warm_up() -> None:
    """Compile, or load from disk where that was done before."""
    number, name = np.ones(1, np.int64), np.ones(1, np.uint64)
    text, span = in_quotes(["id"])
    scored = Scored("", number, text, span, span, name, number, number, number, name, number)
    horizons, types = (np.zeros((1, len(names)), np.float32) for names in (HORIZONS, EVENT_TYPES))
    items = NextItems.read(bytes(4), np.zeros((1, 1), np.float32))
    scores = Scores(horizons, horizons, np.zeros(1, np.float32), types, items, "1", "model")
    score_lines(scored, scores, "", 0, 0)


def _between(place: str, model: str, scores: Scores, now_ms: int) -> list[bytes]:
    """What the lines have in common: the text before, between and behind the holes."""
    hole: Any = Raw(_HOLE)
    quoted: Any = Raw(b'"' + _HOLE + b'"')
    event = ScoreEvent(
        score_id=Raw(_encoder.encode(place)[:-1] + _HOLE + b'"'),  # type: ignore[arg-type]
        event_id=quoted,
        visitor_id=quoted,
        session_id=quoted,
        position=hole,
        event_time=hole,
        scored_at=now_ms,
        age_ms=hole,
        deadline_met=hole,
        model=model,
        version=scores.version,
        path=scores.path,
        input_hash=quoted,
        scores=hole,
        next_items=None if scores.next_items is None else hole,
    )
    return encode(event).split(_HOLE)


def _template() -> tuple[Bytes, Longs]:
    """The field `scores` with a hole for each number, as characters, and where the holes are."""
    horizons = ",".join(f'"{name}":{_HOLE_TEXT}' for name in HORIZONS)
    types = ",".join(f'"{name}":{_HOLE_TEXT}' for name in EVENT_TYPES)
    text = f'{{"purchase":{{{horizons}}},"cart":{{{horizons}}},"churn":{_HOLE_TEXT},"next_type":{{{types}}}}}'
    holes = [at for at in range(len(text)) if text.startswith(_HOLE_TEXT, at)]
    return np.frombuffer(text.encode(), np.uint8), np.array(holes)


_TEMPLATE, _HOLES = _template()
#: The three digits of each number below 1000.
_DIGITS = np.array([list(f"{number:03}".encode()) for number in range(1000)], np.uint8)


@compiled()
def _write(
    between: Bytes,
    ends: Longs,
    numbers: Longs,  # [B, 5] offset, position, event time, age, revision
    met: npt.NDArray[np.bool_],
    sessions: Words,
    hashes: Words,
    text: Bytes,
    event_ids: Longs,
    visitor_ids: Longs,
    listed: bool,  # whether there are next items
    items: NextItems,
    chances: npt.NDArray[np.float32],  # [B, N]
    lines: Bytes,
    line_ends: Longs,
) -> bool:
    """Fill the holes, in the order of ScoreEvent's fields, for one event after the other. False if a chance is none."""
    at = 0
    for i in range(len(numbers)):
        at = copy(between, 0, ends[0], lines, at)
        at = _integer(lines, at, numbers[i, 0])
        if numbers[i, 4]:
            at = copy(_REVISION, 0, len(_REVISION), lines, at)
            at = _integer(lines, at, numbers[i, 4])
        at = copy(between, ends[0], ends[1], lines, at)
        at = copy(text, event_ids[i, 0], event_ids[i, 1], lines, at)
        at = copy(between, ends[1], ends[2], lines, at)
        at = copy(text, visitor_ids[i, 0], visitor_ids[i, 1], lines, at)
        at = copy(between, ends[2], ends[3], lines, at)
        at = _hash(lines, at, sessions[i])
        at = copy(between, ends[3], ends[4], lines, at)
        at = _integer(lines, at, numbers[i, 1])
        at = copy(between, ends[4], ends[5], lines, at)
        at = _integer(lines, at, numbers[i, 2])
        at = copy(between, ends[5], ends[6], lines, at)
        at = _integer(lines, at, numbers[i, 3])
        at = copy(between, ends[6], ends[7], lines, at)
        at = copy(_TRUE, 0, 4, lines, at) if met[i] else copy(_FALSE, 0, 5, lines, at)
        at = copy(between, ends[7], ends[8], lines, at)
        at = _hash(lines, at, hashes[i])
        at = copy(between, ends[8], ends[9], lines, at)
        end = _chances(lines, at, chances[i])
        if end < 0:
            return False
        at = end
        at = copy(between, ends[9], ends[10], lines, at)
        if listed:
            at = _items(lines, at, items.text, items.spans[i], items.chances[i])
            if at < 0:
                return False
            at = copy(between, ends[10], ends[11], lines, at)
        line_ends[i] = at
    return True


@compiled()
def _items(lines: Bytes, at: int, text: Bytes, spans: Longs, chances: npt.NDArray[np.float32]) -> int:
    """The field `next_items` of one score. -1 for a number that is no probability."""
    lines[at] = ord("[")
    first = at = at + 1
    for k in range(len(spans)):
        if spans[k, 0] == spans[k, 1]:
            continue
        if at > first:
            lines[at] = ord(",")
            at += 1
        lines[at], lines[at + 1] = ord("["), ord('"')
        at = copy(text, spans[k, 0], spans[k, 1], lines, at + 2)
        lines[at], lines[at + 1] = ord('"'), ord(",")
        lines[at + 3] = ord(".")
        if not _chance(lines, at + 2, chances[k]):
            return -1
        at += 2 + _CHANCE
        lines[at] = ord("]")
        at += 1
    lines[at] = ord("]")
    return at + 1


@compiled()
def _integer(lines: Bytes, at: int, number: int) -> int:
    """The digits of a number that is not negative."""
    end, rest = at + 1, number // 10
    while rest:
        end += 1
        rest //= 10
    for k in range(end - 1, at - 1, -1):
        lines[k] = ord("0") + number % 10
        number //= 10
    return end


@compiled()
def _hash(lines: Bytes, at: int, number: np.uint64) -> int:
    """16 hex digits."""
    for k in range(16):
        lines[at + k] = _HEX[np.int64(number >> np.uint64(60 - 4 * k)) & 15]
    return at + 16


@compiled()
def _chances(lines: Bytes, at: int, chances: npt.NDArray[np.float32]) -> int:
    """The field `scores`. -1 for a number that is no probability."""
    copy(_TEMPLATE, 0, len(_TEMPLATE), lines, at)
    for hole in range(len(_HOLES)):
        if not _chance(lines, at + _HOLES[hole], chances[hole]):
            return -1
    return at + len(_TEMPLATE)


@compiled()
def _chance(lines: Bytes, place: int, chance: np.float32) -> bool:
    """The seven digits of a probability, around its point. False for a number that is none."""
    # In double precision, so that no more is lost than what is not printed.
    millionths = np.rint(np.float64(chance) * _WHOLE)
    if not 0 <= millionths <= _WHOLE:
        return False
    number = np.uint32(millionths)
    thousandths = number // np.uint32(1000)
    whole = thousandths // np.uint32(1000)
    lines[place] = np.uint32(ord("0")) + whole
    for digit in range(3):
        lines[place + 2 + digit] = _DIGITS[thousandths - whole * np.uint32(1000), digit]
        lines[place + 5 + digit] = _DIGITS[number - thousandths * np.uint32(1000), digit]
    return True
