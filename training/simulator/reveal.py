"""What the events of hidden states show: type, item and category, and what of it the filter may use."""

from dataclasses import dataclass

import numpy as np

from training.simulator.arrays import Bools, Floats, Ints
from training.simulator.catalogue import Catalogue, draw_unseen
from training.simulator.tables import CART, NEW, NOT_DECIDED, OLDER, PURCHASE_CODE, REMOVE, SEARCH, VIEW, Tables

#: Stands for a state where the event is a purchase.
BUYING = -1
#: Stands for the item of an event that shows none.
NO_ITEM = -1


@dataclass(frozen=True)
class Revealed:
    """For each event [N]: type's index, item code or NO_ITEM, category; and `repeat`, `seen`, `stayed`, `carted` as in
    `truth.Observed`."""

    type: Ints
    item: Ints
    category: Ints
    repeat: Ints
    seen: Ints
    stayed: Ints
    carted: Bools


def reveal(
    tables: Tables, catalogue: Catalogue, renewed: Bools, counts: Ints, state: Ints, category: Ints, rng: np.random.Generator
) -> Revealed:
    """Dresses hidden states [N], step by step with `counts` [T]; `category` [n] is where each session starts.

    Beside the probabilities of the state there are rules: a search shows no item; a view shows a new, an older or the same item;
    carting and the like take the item on show, or a new one if there is none; removing takes an item out of the cart; a purchase
    takes an item of the cart, else the one on show, and empties the cart.
    """
    walk = _Walk(tables, catalogue, renewed, category, len(counts), rng)
    ends = np.cumsum(counts)
    steps = [walk.step(state[end - n : end]) for n, end in zip(counts, ends, strict=True)]
    return Revealed(*(np.concatenate(column) for column in zip(*steps, strict=True)))


class _Walk:
    """What lies before each visitor: `items` [n, T] the distinct items seen so far, `count` [n] how many, `in_cart` [n, T] which
    of them are in the cart, `on_show` [n] the one looked at last (its column), and `category` [n]."""

    def __init__(
        self, tables: Tables, catalogue: Catalogue, renewed: Bools, category: Ints, steps: int, rng: np.random.Generator
    ) -> None:
        n = len(category)
        self.tables, self.catalogue, self.renewed, self.rng = tables, catalogue, renewed, rng
        self.cumulative_types = np.cumsum(tables.types, axis=2)
        self.cumulative_repeat = np.cumsum(tables.repeat, axis=2)
        self.cumulative_share = np.cumsum(tables.share)
        self.items = np.full((n, steps), NO_ITEM, dtype=np.int64)
        self.in_cart = np.zeros((n, steps), dtype=np.bool_)
        self.count = np.zeros(n, dtype=np.int64)
        self.on_show = np.full(n, NO_ITEM, dtype=np.int64)
        self.category = category.copy()
        self.now = 0

    def step(self, state: Ints) -> tuple[Ints, Ints, Ints, Ints, Ints, Ints, Bools]:
        """The next event of the first len(state) sessions, as a block of each column of `Revealed`."""
        n = len(state)
        buying = state == BUYING
        seen = np.minimum(self.count[:n], 2)
        carted = self.in_cart[:n, : self.now].any(axis=1)
        types = np.where(buying, PURCHASE_CODE, choose(self.cumulative_types[carted.astype(np.int64), state], self.rng))
        viewing = types == VIEW
        repeat = np.where(viewing, choose(self.cumulative_repeat[seen, state], self.rng), NOT_DECIDED)

        from_cart = (types == REMOVE) | (buying & carted)
        shows_none = types == SEARCH
        shows_new = (repeat == NEW) | (~viewing & ~shows_none & ~from_cart & (seen == 0))
        stayed = self._roam(state, (shows_new | shows_none) & ~buying)

        column = self.on_show[:n].copy()  # [n] which of the distinct items this event is about
        self._show_new(np.flatnonzero(shows_new), column)
        self._show_older(np.flatnonzero(repeat == OLDER), column)
        rows = np.flatnonzero(from_cart)
        in_cart = self.in_cart[rows, : self.now]
        column[rows] = np.argmax(in_cart * self.rng.random(in_cart.shape), axis=1) if len(rows) else rows
        self.on_show[:n] = column
        column[shows_none] = NO_ITEM

        item = np.where(shows_none, NO_ITEM, self.items[np.arange(n), column])
        self.category[:n] = np.where(shows_none, self.category[:n], self.catalogue.category[item])
        self._move_cart(types, column)
        self.now += 1
        return types, item, self.category[:n].copy(), repeat, seen, stayed, carted

    def _roam(self, state: Ints, roaming: Bools) -> Ints:
        """Moves the roaming sessions to another category, or not; says which stayed [n]. The first event is where it is."""
        stayed = np.full(len(state), NOT_DECIDED, dtype=np.int64)
        rows = np.flatnonzero(roaming)
        if self.now == 0 or not len(rows):
            return stayed
        stays = self.rng.random(len(rows)) < self.tables.stay[state[rows]]
        stayed[rows] = stays
        leaving = rows[~stays]
        left = self.category[leaving]
        # A point on the line of shares with the category left behind cut out of it.
        share = self.tables.share[left]
        point = self.rng.random(len(leaving)) * (1 - share)
        point += np.where(point >= self.cumulative_share[left] - share, share, 0)
        self.category[leaving] = np.minimum(
            np.searchsorted(self.cumulative_share, point, side="right"), len(self.tables.share) - 1
        )
        return stayed

    def _show_new(self, rows: Ints, column: Ints) -> None:
        code = draw_unseen(self.catalogue, self.renewed, self.category[rows], self.items[rows, : self.now], self.rng)
        column[rows] = self.count[rows]
        self.items[rows, column[rows]] = code
        self.count[rows] += 1

    def _show_older(self, rows: Ints, column: Ints) -> None:
        older = (self.rng.random(len(rows)) * (self.count[rows] - 1)).astype(np.int64)
        column[rows] = older + (older >= self.on_show[rows])

    def _move_cart(self, types: Ints, column: Ints) -> None:
        rows = np.flatnonzero(types == CART)
        self.in_cart[rows, column[rows]] = True
        rows = np.flatnonzero(types == REMOVE)
        self.in_cart[rows, column[rows]] = False
        self.in_cart[: len(types)][types == PURCHASE_CODE] = False


def choose(cumulative: Floats, rng: np.random.Generator) -> Ints:
    """One index for each row of cumulative distributions [m, J]; an index of probability 0 never comes up."""
    point = rng.random((len(cumulative), 1)) * cumulative[:, -1:]
    chosen: Ints = (point >= cumulative).sum(axis=1)
    return chosen
