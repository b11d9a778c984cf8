"""What the shop sells: every item's id, category, brand and price, fixed by the shop's `catalogue_seed`."""

from dataclasses import dataclass

import numpy as np

from training.simulator.arrays import Bools, Floats, Ints
from training.simulator.shop import Shop

#: Attempts to draw an unseen item by popularity before taking the most popular unseen one.
_DRAWS = 8


@dataclass(frozen=True)
class Catalogue:
    """`size` items and, behind them, a successor for each: item i + size takes i's place when i is `renewed`.

    Arrays over all 2 * size codes; `cumulative` is over the size places, `category + cumulative popularity within it`, so that
    one search finds an item of a given category.
    """

    size: int
    ids: list[str]
    brands: list[str]
    prices: list[float]
    category: Ints
    cumulative: Floats
    first: Ints  # [C + 1] first place of each category
    luck: Floats  # [size] a place is renewed when its luck is below the shop's `renewed`


def catalogue_of(shop: Shop) -> Catalogue:
    """The catalogue of a shop; the same for each drifted form of it."""
    rng = np.random.default_rng(shop.catalogue_seed)
    counts = np.array([category.items for category in shop.categories])
    size = int(counts.sum())
    category = np.tile(np.repeat(np.arange(len(counts)), counts), 2)
    mu = np.array([c.price_mu for c in shop.categories])[category]
    sd = np.array([c.price_sd for c in shop.categories])[category]
    prices = np.round(np.exp(rng.normal(mu, sd)), 2)
    brand_count = np.array([c.brands for c in shop.categories])[category]
    # Squaring makes the first brands of a category common and the last ones rare.
    brand = (brand_count * rng.random(2 * size) ** 2).astype(np.int64)
    ids = rng.permutation(2 * size) + 100_000
    return Catalogue(
        size=size,
        ids=[str(i) for i in ids.tolist()],
        brands=[f"brand-{c}-{b}" for c, b in zip(category.tolist(), brand.tolist(), strict=True)],
        prices=prices.tolist(),
        category=category,
        cumulative=np.concatenate([c + _popularity(int(n), shop.zipf) for c, n in enumerate(counts)]),
        first=np.concatenate([[0], np.cumsum(counts)]),
        luck=rng.random(size),
    )


def draw_unseen(catalogue: Catalogue, renewed: Bools, category: Ints, seen: Ints, rng: np.random.Generator) -> Ints:
    """One item code for each row, of the row's category [m] and not among the row's seen codes [m, D] (-1 is no item).

    When every item of the category has been seen, one of them comes again.
    """
    code = _draw(catalogue, renewed, category, rng)
    clash = np.flatnonzero((seen == code[:, None]).any(axis=1))
    for _ in range(_DRAWS):
        if not len(clash):
            return code
        code[clash] = _draw(catalogue, renewed, category[clash], rng)
        clash = clash[(seen[clash] == code[clash, None]).any(axis=1)]
    for row in clash:
        places = np.arange(catalogue.first[category[row]], catalogue.first[category[row] + 1])
        unseen = np.setdiff1d(_codes(catalogue, renewed, places), seen[row])
        code[row] = unseen[0] if len(unseen) else code[row]
    return code


def _draw(catalogue: Catalogue, renewed: Bools, category: Ints, rng: np.random.Generator) -> Ints:
    place = np.searchsorted(catalogue.cumulative, category + rng.random(len(category)), side="right")
    # Rounding at a category's upper edge must not reach into the next one.
    return _codes(catalogue, renewed, np.minimum(place, catalogue.first[category + 1] - 1))


def _codes(catalogue: Catalogue, renewed: Bools, place: Ints) -> Ints:
    codes: Ints = np.where(renewed[place], place + catalogue.size, place)
    return codes


def _popularity(items: int, exponent: float) -> Floats:
    weight = np.arange(1, items + 1) ** -exponent
    total: Floats = np.cumsum(weight) / weight.sum()
    return total
