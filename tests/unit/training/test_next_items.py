"""Which items follow which: what is counted, how it is mixed and named, and that counting on from a version loses nothing."""

import numpy as np
import pytest
import torch

from tests.logs import click
from training.candidates import Candidates
from training.examples import Examples, examples_of
from training.history import fold_log
from training.mix_items import mix
from training.next_items import BACK, NextItems, added, count, likeliest_weights
from training.read import LoggedEvent
from training.train import tensors
from worker.contract.features import FeatureSpec
from worker.contract.session import SessionPolicy

#: Two buckets but one, so that every item shares a bucket with every other; only the category tells them apart.
_SPEC = FeatureSpec(window=8, item_buckets=2, category_buckets=512, brand_buckets=16)


def _shop(*sessions: str) -> Examples:
    """A session per word, an item per letter, each in a category of its own."""
    events = [
        click(f"{v}-{k}", 1_767_571_200_000 + v * 100_000 + k * 1000, f"v{v}", item=item)
        for v, word in enumerate(sessions)
        for k, item in enumerate(word)
    ]
    return examples_of(fold_log((LoggedEvent(event, 0, k) for k, event in enumerate(events)), _SPEC, SessionPolicy()))


def _lists(examples: Examples, candidates: Candidates) -> NextItems:
    """Lists of these examples, all parts of which count the same."""
    return _even(NextItems(_SPEC.category_buckets).fitted_to(count(examples, candidates), candidates))


def _even(lists: NextItems) -> NextItems:
    lists.weight.fill_(1.0)
    return lists


def _said(lists: NextItems, examples: Examples, candidates: Candidates, session: int, at: int) -> dict[str, float]:
    """What is named after row `at` of the session."""
    codes, _ = tensors(examples.batch(np.array([session])).inputs)
    named, p = lists(codes, torch.tensor([0]), torch.tensor([at]), 10)
    assert (p[0].diff() <= 0).all(), "the likeliest first"
    told = [(candidates.ids[k], chance) for k, chance in zip(named[0].tolist(), p[0].tolist(), strict=True) if chance > 0]
    assert len(dict(told)) == len(told), "each once"
    return dict(told)


def test_what_followed_an_item_is_named_although_all_items_share_a_bucket() -> None:
    """Nearer ones more, those before it less than those after, and the item itself as its own part says."""
    shop = _shop("abc", "abd", "abd", "xyz")
    candidates = Candidates.most_frequent(shop.items)
    said = _said(_lists(shop, candidates), shop, candidates, 0, 0)  # after "a"
    assert said["b"] > said["d"] > said["c"] > 0
    # Parts that speak: what follows, the category, all, the item itself, any. Pairs of 7.5 events and doubt worth 2: 3 of "b" are
    # next and 1/2 + 1 of the others further on. Of 12 events in all 3 are "b". "a" is alone in its category.
    assert said["b"] == pytest.approx((3 / (3 + 1.5 + 2) + 3 / (12 + 2)) / 5)
    assert said["a"] == pytest.approx((3 / (3 + 2) + 3 / (12 + 2) + 1) / 5)
    assert said["x"] == said["y"] == said["z"] == pytest.approx(1 / (12 + 2) / 5)
    assert sum(said.values()) <= 1


def test_rows_further_back_are_asked_too() -> None:
    """And nothing that lies ahead of the row is."""
    shop = _shop("ab", "ab", "cd", "cd", "ac")
    candidates = Candidates.most_frequent(shop.items)
    lists = _lists(shop, candidates)
    only_popular = 2 / (10 + 2)
    assert _said(lists, shop, candidates, 4, 0)["d"] == pytest.approx(only_popular / 5)
    after = _said(lists, shop, candidates, 4, 1)
    assert after["b"] > only_popular / 7
    assert after["d"] > only_popular / 7


def test_an_item_that_was_never_seen_leaves_all_to_what_is_frequent() -> None:
    """In its category, where that is known; their parts are shared out among those that speak, so that nothing is lost."""
    shop = _shop("ab", "ab", "q")
    candidates = Candidates(("a", "b"), (2, 2))
    lists = _lists(shop.select(np.array([0, 1])), candidates)
    assert _said(lists, shop, candidates, 2, 0) == {"a": pytest.approx(2 / 6 / 2), "b": pytest.approx(2 / 6 / 2)}


def test_the_likeliest_are_found_among_many() -> None:
    """As a sum over all lists written out says, however long they are together; the rest of the places stay impossible."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    rng = np.random.default_rng(0)
    shop = _shop(*("".join(rng.choice(list(letters), 8)) for _ in range(300)))
    candidates = Candidates.most_frequent(shop.items)
    lists = _lists(shop, candidates)
    lists.weight.copy_(torch.from_numpy(rng.uniform(size=lists.weight.shape)))
    codes, _ = tensors(shop.batch(np.array([7])).inputs)
    for at in range(8):
        where = torch.tensor([0]), torch.tensor([at])
        weight = lists.weight[min(at, BACK - 1)]
        everything = {}
        for number, name in enumerate(candidates.ids):
            given, left, speaks = lists.of_target(codes, *where, torch.tensor([number]))
            share = weight[:-1] * speaks[0]
            assert ((left[0] >= 0) & (given[0] + left[0] < 1 + 1e-6)).all()
            everything[name] = float((given[0] * share).sum() / (share.sum() + weight[-1]))
        best = dict(sorted(everything.items(), key=lambda pair: -pair[1])[:10])
        assert _said(lists, shop, candidates, 7, at) == pytest.approx(best, rel=1e-5)


def test_what_foresaw_later_sessions_counts() -> None:
    """Where one item follows another that does, where each follows itself the item itself; never more than one in all."""
    for words, best in ((["ab", "ac", "bc"] * 40, 0), (["aaa", "bbb", "ccc"] * 40, BACK + 2)):
        shop = _shop(*words)
        candidates = Candidates.most_frequent(shop.items)
        mixed = mix(_lists(shop.select(np.arange(60)), candidates), candidates, shop.select(np.arange(60, 120)))
        assert int(mixed.weight[0].argmax()) == best
        torch.testing.assert_close(mixed.weight.sum(dim=1), torch.ones(BACK))
        assert sum(_said(mixed, shop, candidates, 0, 0).values()) <= 1


def test_counting_on_is_counting_all() -> None:
    """A version's lists and fresh sessions together say what all sessions say, although the candidates are numbered anew."""
    whole = _shop("abc", "abd", "zzz", "zza", "zzb")
    old, fresh = whole.select(np.arange(2)), whole.select(np.arange(2, 5))
    before, after = Candidates(("a", "b", "c", "d"), (2, 2, 1, 1)), Candidates.most_frequent(whole.items)
    lists = _lists(old, before)
    grown = lists.fitted_to(added(lists.counts(before, after), count(fresh, after)), after)
    at_once = _lists(whole, after)
    for session in range(5):
        for at in range(3):
            assert _said(grown, whole, after, session, at) == pytest.approx(_said(at_once, whole, after, session, at), abs=1e-6)


def test_the_part_that_foresaw_gets_the_weight() -> None:
    """By number of rows; a part that does not speak takes none of it."""
    given = np.tile([[0.5, 0.001, 0.1]], (1000, 1))
    speaks = np.ones((1000, 3))
    length = np.repeat([0, 1], 500)
    given[500:, 0], given[500:, 1] = 0.001, 0.5
    weight = likeliest_weights(given, speaks, length)
    assert weight.shape == (BACK, 3)
    np.testing.assert_allclose(weight.sum(axis=1), 1)
    assert weight[0].argmax() == 0
    assert weight[1].argmax() == 1
    assert weight[0, 0] > 0.9
