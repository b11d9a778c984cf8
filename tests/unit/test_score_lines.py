"""Scores as text: the very bytes that msgspec writes of a ScoreEvent, and no number that is no probability."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.contract.clicks import in_quotes
from worker.contract.codec import encode
from worker.contract.events import EVENT_TYPES, HORIZONS, ScoreEvent
from worker.scoring.base import Scores
from worker.scoring.items import NextItems
from worker.scoring.lines import Scored, score_lines

_NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(['"', "\\", "\n", "é", "\x00", "😀"])
_NUMBERS = st.integers(0, 2**62) | st.sampled_from([0, 9, 10, 99, 100, 10**18])
_HASHES = st.integers(0, 2**64 - 1)
_CHANCES = st.floats(0, 1, width=32) | st.sampled_from([0.0, 1.0, 0.5, 1e-7, 4.9999e-7, 0.999999, 0.9999995])
_WIDTH = 2 * len(HORIZONS) + 1 + len(EVENT_TYPES)
_ROWS = st.tuples(
    _NAMES, _NAMES, _NUMBERS, _HASHES, _NUMBERS, _NUMBERS, _NUMBERS, _HASHES, st.just(0) | _NUMBERS,
    st.lists(_CHANCES, min_size=_WIDTH, max_size=_WIDTH), st.lists(st.tuples(_NAMES, _CHANCES), max_size=3),
)  # fmt: skip


def scores_of(chances: list[list[float]], items: list[list[tuple[str, float]]] | None) -> Scores:
    numbers = np.array(chances, np.float32).reshape(-1, _WIDTH)
    purchase, cart, churn, types = np.split(numbers, np.cumsum([len(HORIZONS), len(HORIZONS), 1]), axis=1)
    listed = None if items is None else NextItems.of(items)
    return Scores(purchase, cart, churn[:, 0], types, listed, "2026-v\u00e91", "fallback")


def digits(p: float) -> msgspec.Raw:
    return msgspec.Raw(f"{round(float(np.float32(p)) * 1e6) / 1e6:.6f}".encode())


@settings(max_examples=300)
@given(st.lists(_ROWS, max_size=5), st.booleans(), _NAMES, _NUMBERS, st.floats(0, 1e19))
def test_lines_are_what_msgspec_writes(rows: list, with_items: bool, name: str, now_ms: int, deadline_ms: float) -> None:  # type: ignore[type-arg]
    """Whatever the ids and numbers, with and without next items."""
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(11)]
    event_ids, visitor_ids, offsets, sessions, positions, times, ages, hashes, revisions, chances, items = columns
    longs = [np.array(column, np.int64) for column in (offsets, positions, times, ages, revisions)]
    words = [np.array(column, np.uint64) for column in (sessions, hashes)]
    text, spans = in_quotes([*event_ids, *visitor_ids])
    names = text, spans[: len(rows)], spans[len(rows) :]
    scored = Scored(name + ":3:", longs[0], *names, words[0], longs[1], longs[2], longs[3], words[1], longs[4])
    scores = scores_of(chances, items if with_items else None)
    expected = []
    for event_id, visitor_id, offset, session, position, time_ms, age_ms, input_hash, revision, some, likeliest in rows:
        purchase, cart, (churn, *types) = some[:5], some[5:10], some[10:]
        value = {
            "purchase": dict(zip(HORIZONS, map(digits, purchase), strict=True)),
            "cart": dict(zip(HORIZONS, map(digits, cart), strict=True)),
            "churn": digits(churn),
            "next_type": dict(zip(EVENT_TYPES, map(digits, types), strict=True)),
        }
        expected.append(
            encode(
                ScoreEvent(
                    f"{name}:3:{offset}:r{revision}" if revision else f"{name}:3:{offset}",
                    event_id,
                    visitor_id,
                    f"{session:016x}",
                    position,
                    time_ms,
                    now_ms,
                    age_ms,
                    age_ms <= deadline_ms,
                    "intent",
                    "2026-v\u00e91",
                    "fallback",
                    f"{input_hash:016x}",
                    value,  # type: ignore[arg-type]
                    [(item, digits(p)) for item, p in likeliest if item] if with_items else None,  # type: ignore[misc]
                )
            )
        )
    written, sizes = score_lines(scored, scores, "intent", now_ms, deadline_ms)
    assert (written, sizes.tolist()) == (b"".join(expected), list(map(len, expected)))


@pytest.mark.parametrize("bad", [float("nan"), -0.001, 1.001, float("inf")])
def test_what_is_no_probability_is_refused(bad: float) -> None:
    """A model gone wrong must not write numbers that look like scores."""
    one, name, (text, span) = np.ones(1, np.int64), np.ones(1, np.uint64), in_quotes(["e"])
    scored = Scored("", one, text, span, span, name, one, one, one, name, one)
    with pytest.raises(ValueError, match="no probability"):
        score_lines(scored, scores_of([[bad] * _WIDTH], None), "", 0, 0)
