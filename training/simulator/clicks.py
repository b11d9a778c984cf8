"""Simulated events as columns, and as the events of the contract."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from training.simulator.arrays import Bools, Floats, Ints
from training.simulator.catalogue import Catalogue
from training.simulator.reveal import NO_ITEM
from training.simulator.shop import Shop
from training.simulator.tables import PURCHASE_CODE, SEARCH
from worker.contract.events import EVENT_TYPES, ClickEvent


@dataclass(frozen=True)
class Clicks:
    """N events, a row each: time in ms since the epoch, numbers of visitor and session, step in the session, index in
    `EVENT_TYPES`, item code or NO_ITEM, category, and p, the true probability of a purchase strictly later in the session."""

    time_ms: Ints
    visitor: Ints
    session: Ints
    step: Ints
    type: Ints
    item: Ints
    category: Ints
    p: Floats

    def __len__(self) -> int:
        return len(self.time_ms)

    def take(self, rows: Ints | Bools | slice) -> "Clicks":
        """These rows, in this order."""
        return Clicks(*(getattr(self, field.name)[rows] for field in fields(self)))

    def in_time_order(self) -> "Clicks":
        """Sorted by time; events of the same millisecond by session."""
        return self.take(np.lexsort((self.step, self.session, self.time_ms)))

    def purchase_later(self) -> Bools:
        """The label that p is about: whether the session has a purchase strictly later."""
        last = np.full(int(self.session.max()) + 1 if len(self) else 0, -1, dtype=np.int64)
        bought = self.type == PURCHASE_CODE
        np.maximum.at(last, self.session[bought], self.step[bought])
        later: Bools = last[self.session] > self.step
        return later


def concatenated(parts: Sequence[Clicks]) -> Clicks:
    """All rows of the parts, one part after the other."""
    none = np.empty(0, dtype=np.int64)
    whole = [Clicks(none, none, none, none, none, none, none, np.empty(0)), *parts]
    return Clicks(*(np.concatenate([getattr(part, field.name) for part in whole]) for field in fields(Clicks)))


def as_events(clicks: Clicks, shop: Shop, catalogue: Catalogue, seed: int) -> Iterator[ClickEvent]:
    """The rows as events of the contract. Ids hold the seed, so that streams with different seeds can be mixed."""
    names = [category.name for category in shop.categories]
    queries = [name.rpartition(".")[2].replace("_", " ") for name in names]
    ids, brands, prices, currency = catalogue.ids, catalogue.brands, catalogue.prices, shop.currency
    columns = (clicks.time_ms, clicks.visitor, clicks.session, clicks.step, clicks.type, clicks.item, clicks.category)
    for time_ms, visitor, session, step, type_, item, category in zip(*(column.tolist() for column in columns), strict=True):
        if item == NO_ITEM:
            yield ClickEvent(
                event_id=f"e{seed}-{session}-{step}",
                event_time=time_ms,
                visitor_id=f"v{seed}-{visitor}",
                event_type=EVENT_TYPES[type_],
                session_id=f"s{seed}-{session}",
                category=names[category],
                query=queries[category] if type_ == SEARCH else None,
            )
        else:
            yield ClickEvent(
                event_id=f"e{seed}-{session}-{step}",
                event_time=time_ms,
                visitor_id=f"v{seed}-{visitor}",
                event_type=EVENT_TYPES[type_],
                session_id=f"s{seed}-{session}",
                item_id=ids[item],
                category=names[category],
                brand=brands[item],
                price=prices[item],
                currency=currency,
            )
