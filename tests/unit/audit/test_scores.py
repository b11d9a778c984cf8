"""Scores read as columns against the definition: `scores.parse` of each."""

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.audit.lines import WIDTH, Columns, Maker, identities
from worker.audit.scores import Reader, Score, parse
from worker.contract.clicks import clicks_of, in_quotes
from worker.contract.codec import MAX_EVENT_TIME_MS, MIN_EVENT_TIME_MS, encode
from worker.contract.events import EVENT_TYPES, HORIZONS, ClickEvent, ScoreEvent
from worker.contract.features import FeatureSpec
from worker.scoring.base import Scores
from worker.scoring.items import NextItems
from worker.scoring.lines import Scored, score_lines

_PLACE = "clicks:3"
_BOUNDS = 5, 10**12
_MAKERS: tuple[Maker, ...] = (("intent", "2026-vé1", "fallback"), ("intent", "2", "model"), ("int", "2", "model"))
_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
_IDS = st.text("ab1-_ /'~", max_size=8) | _TEXTS
_NUMBERS = st.integers(0, 10**15 - 1) | st.sampled_from([0, 4, 5, 10**12 - 1, 10**12, 10**15, 10**18])
_HASHES = st.integers(0, 2**64 - 1)
_CHANCES = st.floats(0, 1, width=32) | st.sampled_from([0.0, 1.0, 1e-6, 0.999999])
_LISTED = st.lists(st.tuples(_TEXTS, _CHANCES), max_size=3)
_ITEMS_FIELD = b',"next_items":'
_ITEMS = st.lists(st.tuples(_TEXTS, _CHANCES | st.floats(0, allow_nan=False, allow_infinity=False)), max_size=3)
_PIECES = st.sampled_from(
    [b"", b" ", b",", b"}", b"{", b'"', b"]", b"[", b"\\", b":", b":r1", b"0", b"9", b"00", b".", b"-", b"e", b"E-5", b"a", b"F",
     b"null", b"true", b"\x00", b"\x1f", b"\x7f", b"\xc3", b"\xc3\xa9", b"\\u00e9", b'"position":7,', b'"other":[1],', b"999999"]
)  # fmt: skip
_PATCHES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 2), _PIECES), max_size=2)


def _line(draw: st.DrawFn, ids: st.SearchStrategy[str], numbers: st.SearchStrategy[int], items: bool) -> bytes:
    """A line as the worker writes it."""
    (text, spans), (model, version, path) = in_quotes([draw(ids), draw(ids)]), draw(st.sampled_from(_MAKERS))
    offset, position, time_ms, age_ms = (np.array([draw(numbers)]) for _ in range(4))
    session, input_hash = (np.array([draw(_HASHES)], np.uint64) for _ in range(2))
    revision = np.array([draw(st.sampled_from([0, 0, 0, 3]) if numbers is _NUMBERS else st.just(0))])
    scored = Scored(f"{_PLACE}:", offset, text, spans[:1], spans[1:], session, position, time_ms, age_ms, input_hash, revision)
    chances = np.array([draw(st.lists(_CHANCES, min_size=WIDTH, max_size=WIDTH))], np.float32)
    purchase, cart, churn, types = np.split(chances, np.cumsum([len(HORIZONS), len(HORIZONS), 1]), axis=1)
    likeliest = NextItems.of([draw(_LISTED)]) if items else None
    scores = Scores(purchase, cart, churn[:, 0], types, likeliest, version, path)  # type: ignore[arg-type]
    line = score_lines(scored, scores, model, draw(numbers), 1e6)[0]
    if items and draw(st.booleans()):  # as workers wrote them before, with any number
        return line[: line.index(_ITEMS_FIELD)] + _ITEMS_FIELD + msgspec.json.encode(draw(_ITEMS)) + b"}"
    return line


@st.composite
def _plain(draw: st.DrawFn) -> bytes:
    numbers = st.integers(_BOUNDS[0], _BOUNDS[1] - 1)
    return _line(draw, st.text("ab1-_ /'~", max_size=8), numbers, items=False)


@st.composite
def _values(draw: st.DrawFn) -> bytes:
    """What is nearly a line of ours."""
    value = _line(draw, _IDS, _NUMBERS, items=draw(st.booleans()))
    for place, gone, piece in draw(_PATCHES):
        at = int(place * len(value))
        value = value[:at] + piece + value[at + gone :]
    return value


def _reader(makers: Sequence[Maker] = _MAKERS) -> Reader:
    reader = Reader(_PLACE, *_BOUNDS)
    for maker in makers:
        reader.number(maker)
    return reader


def _row(reader: Reader, columns: Columns, row: int) -> Score:
    numbers = (int(column[row]) for column in columns[1:6])
    offset, who, session, input_hash, position = numbers
    p = tuple(columns.p[row].tolist())
    return Score(
        f"{_PLACE}:{offset}", _PLACE, offset, 0, who, session, input_hash, position, reader.makers[columns.maker[row]], p
    )


def _rounded(score: Score) -> Score:
    return score._replace(p=tuple(np.array(score.p, np.float32).tolist()))


@settings(max_examples=1500)
@given(st.lists(_values(), max_size=4))
def test_what_is_read_is_what_parse_says(values: list[bytes]) -> None:
    """Of whatever comes, whole or broken; one broken line in a batch leaves the others alone."""
    reader = _reader()
    columns = reader.read(values)
    for row in np.flatnonzero(columns.known):
        assert _row(reader, columns, row) == _rounded(parse(values[row]))
        assert _BOUNDS[0] <= columns.offset[row] < _BOUNDS[1]


@settings(max_examples=200)
@given(st.lists(_plain(), max_size=4))
def test_what_our_worker_writes_is_read_without_parsing(values: list[bytes]) -> None:
    """Of every maker that is known, and of none that is not."""
    assert _reader().read(values).known.all()
    assert not _reader(_MAKERS[1:]).read([value for value in values if b"fallback" in value]).known.any()


def test_the_makers_of_the_last_lines_are_read_without_parsing() -> None:
    """However many versions a long log names, and an old one that comes again is known by its number."""
    reader = _reader([("intent", f"v{number}", "model") for number in range(100)])
    assert reader.number(("intent", "v3", "model")) == 3
    lines = [_one_line("intent", version) for version in ("v3", "v99", "v50")]
    assert reader.read(lines).known.tolist() == [True, True, False]
    assert reader.read(lines[:2]).maker.tolist() == [3, 99]


@pytest.mark.parametrize(
    "items",
    [[], [("lamp", 0.25)], [("lämp, 40 W", 0.5), ("", 1e-06), ("b", 0.0), ("c", 1.0)]],
)
def test_next_items_are_read_over(items: list[tuple[str, float]]) -> None:
    """Nobody checks them, but they are on most lines."""
    assert _reader().read([_one_line("intent", "2", items)]).known.all()


def _one_line(model: str, version: str, items: list[tuple[str, float]] | None = None) -> bytes:
    name, number, (text, span) = np.ones(1, np.uint64), np.full(1, 7), in_quotes(["e"])
    scored = Scored(f"{_PLACE}:", number, text, span, span, name, number, number, number, name, np.zeros(1, np.int64))
    horizons, types = (np.full((1, len(names)), 0.25, np.float32) for names in (HORIZONS, EVENT_TYPES))
    scores = Scores(horizons, horizons, horizons[:, 0], types, None if items is None else NextItems.of([items]), version, "model")
    return score_lines(scored, scores, model, 0, 0)[0]


@given(_TEXTS.filter(bool), _TEXTS.filter(bool), st.integers(MIN_EVENT_TIME_MS, MAX_EVENT_TIME_MS - 1))
def test_click_and_score_have_the_same_identity(event_id: str, visitor_id: str, time_ms: int) -> None:
    """However their ids are written."""
    clicks = clicks_of([ClickEvent(event_id, time_ms, visitor_id, "view")], FeatureSpec())
    score = ScoreEvent(
        f"{_PLACE}:7", event_id, visitor_id, "0", 1, time_ms, 0, 0, True, "m", "1", "model", "0",
        {"purchase": dict.fromkeys(HORIZONS, 0.1), "cart": dict.fromkeys(HORIZONS, 0.1), "churn": 0.1,
         "next_type": dict.fromkeys(EVENT_TYPES, 0.1)},
    )  # fmt: skip
    assert identities(clicks.text, clicks.event_id, clicks.visitor_id, clicks.time_ms).tolist() == [parse(encode(score)).who]


def test_identities_tell_ids_and_times_apart() -> None:
    """Also where the same letters stand in other ids, and times differ in one bit."""
    events = [("a", "bc", 5), ("ab", "c", 5), ("abc", "", 5), ("bc", "a", 5), ("a", "bc", 4), ("a", "bc", 5 + 2**40)]
    text, spans = in_quotes([name for event in events for name in event[:2]])
    found = identities(text, spans[::2].copy(), spans[1::2].copy(), np.array([event[2] for event in events]))
    assert len(set(found.tolist())) == len(events)
