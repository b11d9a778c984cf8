"""Which category follows which: against a plain loop, and what becomes of names that one side does not know."""

import json
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from training.examples import Examples, examples_of
from training.history import fold_log
from training.labels import UNKNOWN
from training.next_categories import MOST_CATEGORIES, NextCategories, continued, count_categories, followed, mixed_categories
from training.next_items import BACK
from training.read import LoggedEvent
from worker.contract.events import ClickEvent
from worker.contract.features import FeatureSpec
from worker.contract.session import SessionPolicy
from worker.errors import ModelError

#: So few buckets that the names share them.
_SPEC = FeatureSpec(window=8, item_buckets=2, category_buckets=2, brand_buckets=2)
_DAY = 86_400_000


def _shop(*sessions: str) -> Examples:
    """A session per word, a category per letter, "." for none; a last visitor comes so late that all before is known."""
    events = [
        ClickEvent(f"{v}-{k}", 1_767_571_200_000 + v * 100_000 + k * 1000, f"v{v}", "view", category=None if c == "." else c)
        for v, word in enumerate(sessions)
        for k, c in enumerate(word)
    ]
    events.append(ClickEvent("end", events[-1].event_time + _DAY, "end", "view"))
    return examples_of(fold_log((LoggedEvent(event, 0, k) for k, event in enumerate(events)), _SPEC, SessionPolicy()))


def _said(tables: NextCategories, word: str, names: str) -> dict[str, float]:
    """What follows the word."""
    category = np.array([names.find(c) for c in word])
    p = tables(category, np.arange(1, len(word) + 1), names)
    assert p is not None
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-6)
    return dict(zip([*names, "other"], p[-1].tolist(), strict=True))


def _spelled_out(words: list[str], weight: np.ndarray, word: str, wanted: str) -> float:  # type: ignore[type-arg]
    """The mixture by its definition, pair by pair."""
    events = Counter(c for w in words for c in w if c != ".")
    pairs = Counter((a, b) for w in words for a, b in pairwise(w) if "." not in (a, b))
    unseen = (sum(n == 1 for n in events.values()) + 0.1) / (sum(events.values()) + 1)
    share = (1 - min(unseen, 0.5)) * (events[wanted] + 0.1) / sum(n + 0.1 for n in events.values())
    w = weight[min(len(word), BACK) - 1]
    parts = [(w[k], float(c == wanted)) for k, c in enumerate(reversed(word[-BACK:])) if c in events]
    if word[-1] in events:
        left = sum(n for (a, _), n in pairs.items() if a == word[-1])
        parts.append((w[BACK], (pairs[word[-1], wanted] + 2.0 * share) / (left + 2.0)))
    parts.append((w[BACK + 1], share))
    return float(sum(a * p for a, p in parts) / sum(a for a, _ in parts))


_WORDS = ["aabab", "abcaad", "bbbac", "ca.ab", "aaaaaaaaab", "b", "e"]


@pytest.mark.parametrize("word", ["a", "b", "ab", "aab.", "aaaabcabab", ".", "zb", "ab" * 6])
def test_the_mixture_is_that_of_a_plain_loop(word: str) -> None:
    """For every category, with weights of any size, of sessions shorter and longer than what is looked back at."""
    tables = count_categories(_shop(*_WORDS))
    weight = np.random.default_rng(1).uniform(0.1, 1, tables.weight.shape)
    tables = NextCategories(tables.names, tables.counts, tables.following, weight)
    said = _said(tables, word, "abcde")
    for c in "abcde":
        assert said[c] == pytest.approx(_spelled_out(_WORDS, weight, word, c), rel=1e-5)
    assert 0 < said["other"] < 0.1


def test_what_followed_is_read_off_the_sessions() -> None:
    """Category, place and the next event's category, over windows that overlap; none where none follows or is named."""
    category, position, target = followed(_shop("abc", "a.b", "a" * 11 + "b"))
    words = ["abc", "a.b", "a" * 11 + "b", "."]
    names = "abc"
    assert position.tolist() == [k + 1 for w in words for k in range(len(w))]
    assert category.tolist() == [names.find(c) for w in words for c in w]
    assert target.tolist() == [names.find(c) for w in words for c in (w + ".")[1:]]


def test_weights_are_fitted_on_sessions_that_were_not_counted() -> None:
    """Where the category stays, the newest one is trusted; where it always changes by the same rule, what followed is."""
    for words, follower in ((["aaaa", "bbbb", "cccc"] * 30, "a"), (["abca", "bcab", "cabc"] * 30, "b")):
        shop = _shop(*words)
        earlier, later = shop.split(0.7)
        assert _said(mixed_categories(earlier, later, shop), "ca" if follower == "b" else "aa", "abc")[follower] > 0.95


def test_names_that_one_side_does_not_know() -> None:
    """A name that training did not see shares what is left; one that the log does not name is among the others."""
    tables = count_categories(_shop(*_WORDS))
    whole, wider, narrower = (_said(tables, "ab", names) for names in ("abcde", "abcdexy", "abc"))
    assert wider["x"] == wider["y"] == pytest.approx(wider["other"]) == pytest.approx(whole["other"] / 3, rel=1e-4)
    assert narrower["other"] == pytest.approx(whole["d"] + whole["e"] + whole["other"], rel=1e-4)
    numbered = tables(np.array([0, 7]), np.array([1, 2]), "ab")
    assert numbered is not None
    np.testing.assert_allclose(numbered, tables(np.array([0, UNKNOWN]), np.array([1, 2]), "ab"))


def test_too_many_or_none_say_nothing() -> None:
    """Rather than a matrix that does not fit in memory, or a guess."""
    category, position = np.array([0]), np.array([1])
    assert count_categories(_shop("ab"))(category, position, [str(k) for k in range(MOST_CATEGORIES + 1)]) is None
    assert count_categories(_shop(".."))(category, position, ["a"]) is None
    assert mixed_categories(_shop(".."), _shop(".."), _shop("..")).names == ()


def test_counting_on_is_counting_all_at_once() -> None:
    """In whatever order the names came; from no counts at all, too."""
    one, two = ["abab", "ca"], ["dab", "bd.", "c"]
    grown = continued(count_categories(_shop(*one)), _shop(*two))
    at_once = count_categories(_shop(*one, *two))
    assert _said(grown, "ab", "abcd") == pytest.approx(_said(at_once, "ab", "abcd"))
    assert _said(continued(None, _shop(*two)), "ab", "abd") == _said(count_categories(_shop(*two)), "ab", "abd")


def test_a_version_keeps_all_of_it() -> None:
    """Read back it says the same; what is no such document is one clear error."""
    shop = _shop(*_WORDS)
    tables = mixed_categories(shop, shop, shop)
    document = tables.to_json()
    again = NextCategories.from_json(json.dumps(document).encode())
    assert _said(again, "aab", "abcde") == _said(tables, "aab", "abcde")
    for wrong in ({}, {**document, "counts": [1]}, {**document, "weight": [[1.0]]}, {**document, "following": [[99], [0], [1]]}):
        with pytest.raises(ModelError, match="next categories cannot be read"):
            NextCategories.from_json(json.dumps(wrong).encode())
