"""Which items follow which: what is counted, how it is mixed, and that counting on from a version loses nothing."""

import numpy as np
import pytest
import torch

from tests.logs import click
from training.candidates import Candidates
from training.examples import Examples, examples_of
from training.history import fold_log
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


def _said(tables: NextItems, examples: Examples, candidates: Candidates, session: int, at: int) -> dict[str, float]:
    """What follows row `at` of the session, by tables that outweigh the network."""
    codes, _ = tensors(examples.batch(np.array([session])).inputs)
    p = tables(codes, torch.tensor([0]), torch.tensor([at]), torch.zeros(1, len(candidates.ids)))
    return dict(zip(candidates.ids, p[0].tolist(), strict=True))


def _even(tables: NextItems) -> NextItems:
    tables.weight.fill_(1.0)
    return tables


def test_what_followed_an_item_is_named_although_all_items_share_a_bucket() -> None:
    """Nearer ones more, those before it less than those after, and the item itself as its own part says."""
    shop = _shop("abc", "abd", "abd", "xyz")
    candidates = Candidates.most_frequent(shop.items)
    tables = _even(NextItems().fitted_to(count(shop, candidates)))
    said = _said(tables, shop, candidates, 0, 0)  # after "a"
    assert said["b"] > said["d"] > said["c"] > 0
    assert said["x"] == said["y"] == said["z"] == 0
    # Parts that speak: what follows, the item itself, the network. Pairs: 3 of "b", 1/2 + 1 of the others, and doubt worth 2.
    assert said["b"] == pytest.approx(3 / (3 + 1.5 + 2) / 3)
    assert said["a"] == pytest.approx(1 / 3)
    assert sum(said.values()) <= 1


def test_rows_further_back_are_asked_too() -> None:
    """And nothing that lies ahead of the row is."""
    shop = _shop("ab", "ab", "cd", "cd", "ac")
    candidates = Candidates.most_frequent(shop.items)
    tables = _even(NextItems().fitted_to(count(shop, candidates)))
    assert _said(tables, shop, candidates, 4, 0)["d"] == 0
    after = _said(tables, shop, candidates, 4, 1)
    assert after["b"] > 0
    assert after["d"] > 0


def test_an_item_that_was_never_seen_leaves_all_to_the_network() -> None:
    """Its part is shared out among those that speak, so that nothing is lost."""
    shop = _shop("ab", "ab", "q")
    candidates = Candidates(("a", "b"), (2, 2))
    tables = _even(NextItems().fitted_to(count(shop.select(np.array([0, 1])), candidates)))
    codes, _ = tensors(shop.batch(np.array([2])).inputs)
    network = torch.tensor([[0.3, 0.7]])
    torch.testing.assert_close(tables(codes, torch.tensor([0]), torch.tensor([0]), network), network)


def test_counting_on_is_counting_all() -> None:
    """A version's tables and fresh sessions together say what all sessions say, although the candidates are numbered anew."""
    whole = _shop("abc", "abd", "zzz", "zza", "zzb")
    old, fresh = whole.select(np.arange(2)), whole.select(np.arange(2, 5))
    before, after = Candidates(("a", "b", "c", "d"), (2, 2, 1, 1)), Candidates.most_frequent(whole.items)
    tables = NextItems().fitted_to(count(old, before))
    counted = added(tables.counts(before, after), count(fresh, after))
    grown, at_once = _even(tables.fitted_to(counted)), _even(NextItems().fitted_to(count(whole, after)))
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
