"""Scores of a batch as columns: what `parse` says of each. Nearly all of them are read compiled."""

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec.structs import astuple

from worker.audit import lines
from worker.audit.lines import Columns, Maker
from worker.contract.clicks import in_quotes, simple_bytes, texts_of
from worker.contract.events import EVENT_TYPES, HORIZONS, revision_of


def _named(name: str, keys: tuple[str, ...]) -> type[msgspec.Struct]:
    """A struct with one float for each key: a third of the time of a dict."""
    return msgspec.defstruct(name, [(f"k{n}", float, msgspec.field(name=key)) for n, key in enumerate(keys)])


_Hazards = _named("_Hazards", HORIZONS)
_Types = _named("_Types", EVENT_TYPES)
_Probabilities = msgspec.defstruct(
    "_Probabilities", [("purchase", _Hazards), ("cart", _Hazards), ("churn", float), ("next_type", _Types)]
)


class _Score(msgspec.Struct):
    """The parts of a ScoreEvent that are checked."""

    score_id: str
    event_id: str
    visitor_id: str
    session_id: str
    position: Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
    event_time: int
    model: str
    version: str
    path: str
    input_hash: str
    scores: _Probabilities  # type: ignore[valid-type]  # made above, from the contract's names


_decoder = msgspec.json.Decoder(_Score)
#: So many makers are looked for on a line: more than score at any time, however many versions a long log names.
_RECENT = 16


class Score(NamedTuple):
    """What one score says. `place` is topic and partition of its event, `revision` 0 for the event's first score; the rest is as
    in `Columns`.
    """

    score_id: str
    place: str
    offset: int
    revision: int
    who: int
    session: int
    input_hash: int
    position: int
    maker: Maker
    p: tuple[float, ...]


def parse(value: bytes | None) -> Score:
    """A record's value as a score. Raises ValueError if it is none."""
    try:
        score = _decoder.decode(value or b"")
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    first, revision = revision_of(score.score_id)
    place, _, offset = first.rpartition(":")
    return Score(
        score.score_id, place, int(offset), revision, _identity(score), _hash64(score.session_id), _hash64(score.input_hash),
        score.position, (score.model, score.version, score.path), _probabilities(score),
    )  # fmt: skip


class Reader:
    """Reads scores about the events of a partition from offset `start` to before `end`; `place` is topic and partition.

    Lines are read compiled if their maker was asked for by `number` before, the last few of these.
    """

    def __init__(self, place: str, start: int, end: int) -> None:
        self.makers: list[Maker] = []
        self._place = f"{place}:"
        self._bounds = start, end
        self._numbers: dict[Maker, int] = {}
        self._recent: list[int] = []
        self._form = self._form_of_recent()

    def read(self, values: Sequence[bytes | None]) -> Columns:
        """Events' first scores among records' values. Of what is not `known`, `parse` is to be asked."""
        found = lines.columns(len(values))
        texts = texts_of(values)
        lines.read(texts, simple_bytes(texts.text), self._form, *self._bounds, found)
        return found

    def put(self, row: int, score: Score, found: Columns) -> None:
        """Fill in an event's first score that `parse` gave, whose offset is within the bounds."""
        told = (True, score.offset, score.who, score.session, score.input_hash, score.position, self.number(score.maker), score.p)
        columns: tuple[npt.NDArray[Any], ...] = found
        for column, value in zip(columns, told, strict=True):
            column[row] = value

    def number(self, maker: Maker) -> int:
        """The maker's index in `makers`, where it is put if it is new. From now on its lines are read compiled."""
        number = self._numbers.setdefault(maker, len(self.makers))
        if number == len(self.makers):
            self.makers.append(maker)
        if number not in self._recent:
            self._recent = [*self._recent, number][-_RECENT:]
            self._form = self._form_of_recent()
        return number

    def _form_of_recent(self) -> lines.Form:
        return lines.form_of(self._place, {number: self.makers[number] for number in self._recent})


def warm_up() -> None:
    """Compile, or load from disk where that was done before."""
    Reader("", 0, 0).read([b""])
    text, spans = in_quotes(["id"])
    lines.identities(text, spans, spans, np.zeros(1, np.int64))


def _identity(score: _Score) -> int:
    text, spans = in_quotes([score.event_id, score.visitor_id])
    # No event has a time past 64 bits, and none is before the epoch.
    time_ms = score.event_time if -(2**63) <= score.event_time < 2**63 else -1
    return int(lines.identities(text, spans[:1], spans[1:], np.array([time_ms]))[0])


def _probabilities(score: Any) -> tuple[float, ...]:
    """[WIDTH] in the order of `Columns.p`."""
    said = score.scores
    return (*astuple(said.purchase), *astuple(said.cart), said.churn, *astuple(said.next_type))


def _hash64(text: str) -> int:
    number = int(text, 16)
    if not 0 <= number < 2**64:
        raise ValueError(f"{text[:40]} is no hash of 64 bits")
    return number
