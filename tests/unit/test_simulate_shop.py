"""Shops: loading, saving, and refusing what is none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from training.simulate import InvalidShop, load_shop, save_shop, shipped_shops, simulate
from training.simulator.catalogue import catalogue_of, draw_unseen
from training.simulator.hazards import purchase_rate, with_purchases


@pytest.mark.parametrize("name", shipped_shops())
def test_shipped_shops_load_and_simulate(name: str) -> None:
    """Each shipped shop is valid, says where it comes from, and makes sessions of several events, some with a purchase."""
    shop = load_shop(name)
    assert shop.name == name
    assert len(shop.source) > 10
    stream = simulate(shop, 2_000, 1, 0, hours=24)
    assert 2 < len(stream) / 2_000 < 10
    assert 0.02 < purchase_rate(shop) < 0.12
    assert stream.labels().any()


def test_save_and_load_give_the_same_shop(tmp_path: Path) -> None:
    """A saved shop is equal when it is loaded, defaults included."""
    save_shop(load_shop(), tmp_path / "copy.json")
    assert load_shop(tmp_path / "copy.json") == load_shop()


def test_unknown_shop_names_the_known_ones() -> None:
    """A wrong name is answered with the names there are."""
    with pytest.raises(InvalidShop, match="electronics"):
        load_shop("nowhere")


def test_what_is_no_shop_is_refused(tmp_path: Path) -> None:
    """JSON of another shape, and a file that is not there, are one-line errors."""
    path = tmp_path / "shop.json"
    with pytest.raises(InvalidShop, match="cannot read"):
        load_shop(path)
    path.write_text('{"name": "x"}')
    with pytest.raises(InvalidShop, match="is no shop"):
        load_shop(path)


def test_probabilities_must_be_probabilities(tmp_path: Path) -> None:
    """Outcomes and transitions that do not sum to 1, types that are no browsing, and a shop with one category are refused."""
    shop = load_shop()
    first, *rest = shop.states
    with pytest.raises(InvalidShop, match="proceed, purchase, end"):
        replace(shop, states=(replace(first, end=0.9), *rest))
    with pytest.raises(InvalidShop, match="types"):
        replace(shop, states=(replace(first, types={"purchase": 1.0}), *rest))
    with pytest.raises(InvalidShop, match="transitions"):
        replace(shop, transitions=((0.5,) * 5,) * 5)
    with pytest.raises(InvalidShop, match="two categories"):
        replace(shop, categories=shop.categories[:1])


def test_broken_shop_file_is_an_invalid_shop(tmp_path: Path) -> None:
    """A file whose numbers do not fit together is refused like a shop built so."""
    path = tmp_path / "shop.json"
    save_shop(load_shop(), path)
    path.write_text(path.read_text().replace('"gap_sd": 1.1', '"gap_sd": 0.0'))
    with pytest.raises(InvalidShop, match="gap_sd"):
        load_shop(path)


def test_with_purchases_reaches_the_rate() -> None:
    """The hazards lent to a shop give exactly the rate asked for, simulated sessions agree, and impossible rates are refused."""
    shop = with_purchases(load_shop(), 0.05)
    assert purchase_rate(shop) == pytest.approx(0.05, abs=1e-9)
    stream = simulate(shop, 20_000, 1, 0, hours=24)
    buyers = set(stream.clicks.session[stream.clicks.type == 5].tolist())
    assert len(buyers) / 20_000 == pytest.approx(0.05, abs=0.006)
    with pytest.raises(InvalidShop, match="rate"):
        with_purchases(load_shop(), 0.99)


def test_new_items_are_new_while_there_are_any() -> None:
    """An item that is drawn as new has not been seen, down to the last one of the category; then one comes again."""
    catalogue = catalogue_of(load_shop())
    renewed = np.zeros(catalogue.size, dtype=np.bool_)
    category = np.array([5])
    begin, end = int(catalogue.first[5]), int(catalogue.first[6])
    rng = np.random.default_rng(0)
    for left_over in (begin, end - 1):
        seen = np.setdiff1d(np.arange(begin, end), [left_over])[None]
        assert draw_unseen(catalogue, renewed, category, seen, rng).tolist() == [left_over]
    assert begin <= draw_unseen(catalogue, renewed, category, np.arange(begin, end)[None], rng)[0] < end
