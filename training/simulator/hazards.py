"""Purchases for a shop that was fitted to browsing alone, where the record of purchases and carts cannot be trusted."""

from dataclasses import replace

import numpy as np

from training.simulator.shop import InvalidShop, Shop, State
from training.simulator.tables import tables_of

#: Each state buys so many times as readily as the one below it.
_STEEPNESS = 3.0
_MAX_PURCHASE = 0.5
#: Carts per purchase outcome of a state's event, the most of its events that may be carts, and removals per cart.
_CARTS, _MAX_CARTS, _REMOVALS = 2.5, 0.4, 0.1


def purchase_rate(shop: Shop) -> float:
    """The fraction of sessions with a purchase, exactly."""
    tables = tables_of(shop)
    share = np.bincount(tables.group_of, weights=tables.share, minlength=len(shop.groups))
    return float(share @ (tables.start * tables.value).sum(axis=1))


def with_purchases(shop: Shop, rate: float) -> Shop:
    """The shop with purchases in the fraction `rate` of its sessions, and carts to match: the longer the sessions of a state
    still last, the readier it is to buy. That is an assumption, not a finding.

    Raises: InvalidShop where no hazard reaches the rate.
    """
    order = np.argsort([state.proceed for state in shop.states])
    readiness = np.empty(len(shop.states))
    readiness[order] = _STEEPNESS ** (np.arange(len(order)) - len(order) + 1.0)
    low, high = 0.0, _MAX_PURCHASE
    if not 0 < rate < purchase_rate(_buying(shop, high * readiness)):
        raise InvalidShop(f"no purchase hazard gives {shop.name} a purchase rate of {rate}: give a smaller one")
    for _ in range(50):  # halving: 50 steps exhaust a double
        middle = (low + high) / 2
        low, high = (middle, high) if purchase_rate(_buying(shop, middle * readiness)) < rate else (low, middle)
    return _buying(shop, high * readiness)


def _buying(shop: Shop, purchase: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> Shop:
    states = tuple(_state(state, float(p)) for state, p in zip(shop.states, purchase, strict=True))
    return replace(shop, states=states)


def _state(state: State, purchase: float) -> State:
    cart = min(_CARTS * purchase, _MAX_CARTS)
    acting = cart * (1 + _REMOVALS)
    types = {name: p * (1 - acting) for name, p in state.types.items()}
    types["cart"] = types.get("cart", 0.0) + cart
    types["remove_from_cart"] = types.get("remove_from_cart", 0.0) + cart * _REMOVALS
    proceed = state.proceed / (1 - state.purchase) * (1 - purchase)
    return replace(state, types=types, proceed=proceed, purchase=purchase, end=1 - proceed - purchase)
