"""The decoder and a slower, independent reading of the rules agree about every record."""

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpus import MAX_FUTURE_MS, bad_records, odd_records
from tests.fuzz.mutation import mutated
from tests.fuzz.oracle import disagreement
from worker.contract.codec import decode
from worker.contract.events import EVENT_TYPES, ClickEvent

NOW_MS = 1_700_000_000_000


def _disagreement(value: bytes | None, key: bytes | None) -> str | None:
    return disagreement(value, key, NOW_MS, MAX_FUTURE_MS, decode(value, key, NOW_MS, MAX_FUTURE_MS))


@pytest.mark.parametrize("seed", range(6))
def test_they_agree_about_the_corpus_and_its_damage(seed: int) -> None:
    """Every record of the corpus, and what is left of it after damage."""
    dice = random.Random(seed)
    cases = [
        (case.value, case.key)
        for case in (*bad_records(NOW_MS, dice, large=False), *odd_records(NOW_MS, dice, large=False))
        if case.value is not None and len(case.value) < 5_000
    ]
    cases += [(mutated(value, dice), key) for value, key in cases for _ in range(5)]
    assert [(value, told) for value, key in cases if (told := _disagreement(value, key))] == []


_scalars = (
    st.none() | st.booleans() | st.integers() | st.integers(NOW_MS - 10**9, NOW_MS + 10**9) | st.floats() | st.text(max_size=8)
    | st.sampled_from((*EVENT_TYPES, "v", "", " "))
)  # fmt: skip
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=4), inner, max_size=3),
    max_leaves=4,
)
_names = st.sampled_from(ClickEvent.__struct_fields__) | st.text(max_size=5)
_sound = {"event_id": "e", "event_time": NOW_MS, "visitor_id": "v", "event_type": "view"}


@settings(max_examples=300)
@given(st.lists(st.tuples(_names, _values), max_size=5), st.booleans(), st.randoms(use_true_random=False))
def test_they_agree_about_any_members(members: list[tuple[str, Any]], ascii_only: bool, dice: random.Random) -> None:
    """Members in any order, repeated or not, of any kind."""
    every = [*_sound.items(), *members]
    dice.shuffle(every)
    written = ", ".join(f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=ascii_only)}" for name, value in every)
    assert _disagreement(("{" + written + "}").encode("utf-8", "surrogatepass"), b"v") is None
