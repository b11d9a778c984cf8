"""A shop's probabilities as arrays, ready for sampling and for the filter.

Letters in shapes: K states, G groups, C categories, E event types in the order of `EVENT_TYPES`.
"""

import math
from dataclasses import dataclass

import numpy as np

from training.simulator.arrays import Floats, Ints
from training.simulator.shop import Shop
from worker.contract.events import EVENT_TYPES

#: A session of the worker ends after half an hour without an event; ours stay below it.
SESSION_GAP_S = 1800
MAX_GAP_S = SESSION_GAP_S - 1

VIEW, SEARCH, FAVOURITE, CART, REMOVE, PURCHASE_CODE = (
    EVENT_TYPES.index(name) for name in ("view", "search", "favourite", "cart", "remove_from_cart", "purchase")
)
#: What a view shows.
NEW, OLDER, SAME = 0, 1, 2
#: A rule that had nothing to decide at this event.
NOT_DECIDED = -1


@dataclass(frozen=True)
class Tables:
    """`types[c]` and `repeat[d]` are the distributions given what is possible: c = 0 with an empty cart, 1 with items in it;
    d = 0 with no item seen (always new), 1 with one (no older item), 2 with more."""

    types: Floats  # [2, K, E]
    repeat: Floats  # [3, K, 3]
    stay: Floats  # [K]
    gap_mu: Floats  # [K]
    gap_sd: Floats  # [K]
    gap_mass: Floats  # [K] probability that a gap drawn from the state lies below the session gap
    start: Floats  # [G, K]
    transitions: Floats  # [K, K]
    proceed: Floats  # [G, K]
    purchase: Floats  # [G, K]
    value: Floats  # [G, K] probability of a purchase later in the session, given the state
    after_purchase: Floats  # [G] the same, given that this event is a purchase
    checkout_gap: tuple[float, float]
    checkout_proceed: float
    share: Floats  # [C]
    group_of: Ints  # [C]


def tables_of(shop: Shop) -> Tables:
    """The tables of a shop. Solves v = purchase + diag(proceed) transitions v for each group."""
    states = shop.states
    log_odds = np.array([group.purchase_log_odds for group in shop.groups])
    start = np.array([group.start for group in shop.groups])
    transitions = np.array(shop.transitions)
    proceed, purchase = _outcomes(shop, log_odds)
    value = np.stack([_value(proceed[g], purchase[g], transitions) for g in range(len(shop.groups))])
    share = np.array([category.share for category in shop.categories])
    gap_mu = np.array([state.gap_mu for state in states])
    gap_sd = np.array([state.gap_sd for state in states])
    return Tables(
        types=_type_tables(shop),
        repeat=_repeat_tables(np.array([state.repeat for state in states])),
        stay=np.array([state.stay for state in states]),
        gap_mu=gap_mu,
        gap_sd=gap_sd,
        gap_mass=gap_mass(gap_mu, gap_sd),
        start=start,
        transitions=transitions,
        proceed=proceed,
        purchase=purchase,
        value=value,
        after_purchase=shop.checkout.proceed * (start * value).sum(axis=1),
        checkout_gap=(shop.checkout.gap_mu, shop.checkout.gap_sd),
        checkout_proceed=shop.checkout.proceed,
        share=share / share.sum(),
        group_of=np.array([category.group for category in shop.categories]),
    )


def gap_mass(mu: Floats, sd: Floats) -> Floats:
    """P(|N(mu, sd)| < log1p(MAX_GAP_S)), elementwise."""
    top = math.log1p(MAX_GAP_S)
    return np.array([_normal_cdf((top - m) / s) - _normal_cdf((-top - m) / s) for m, s in zip(mu, sd, strict=True)])


def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def _outcomes(shop: Shop, log_odds: Floats) -> tuple[Floats, Floats]:
    """proceed and purchase [G, K] with the purchase odds times exp(log_odds) and the rest scaled to sum to 1."""
    proceed = np.array([state.proceed for state in shop.states])
    purchase = np.array([state.purchase for state in shop.states])
    weight = purchase * np.exp(log_odds)[:, None]
    total = weight + (1 - purchase)
    return proceed / total, weight / total


def _value(proceed: Floats, purchase: Floats, transitions: Floats) -> Floats:
    step = proceed[:, None] * transitions
    solved: Floats = np.linalg.solve(np.eye(len(proceed)) - step, purchase)
    return solved


def _type_tables(shop: Shop) -> Floats:
    full = np.zeros((len(shop.states), len(EVENT_TYPES)))
    for k, state in enumerate(shop.states):
        for name, probability in state.types.items():
            full[k, EVENT_TYPES.index(name)] = probability
    full /= full.sum(axis=1, keepdims=True)
    empty_cart = full.copy()
    empty_cart[:, REMOVE] = 0
    return np.stack([empty_cart / empty_cart.sum(axis=1, keepdims=True), full])


def _repeat_tables(repeat: Floats) -> Floats:
    none_seen = np.zeros_like(repeat)
    none_seen[:, NEW] = 1
    one_seen = repeat.copy()
    one_seen[:, OLDER] = 0
    return np.stack([none_seen, one_seen / one_seen.sum(axis=1, keepdims=True), repeat / repeat.sum(axis=1, keepdims=True)])
