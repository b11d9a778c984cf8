"""Expectation maximisation for the shop's hidden states (Baum-Welch), over all sessions at once.

A purchase ends one chain of states and starts another, so that it needs no state of its own. What the model leaves out because
it is impossible (removing from an empty cart, an older item where there is none, gaps above half an hour) counts as draws that
were thrown away, and their expected number is added back: without that the estimates would be biased.

Letters in shapes: N events, n sessions, K states, G groups, E event types.
"""

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from training.simulator.arrays import Bools, Floats
from training.simulator.shop import Group, Shop, State
from training.simulator.tables import MAX_GAP_S, NEW, NOT_DECIDED, OLDER, PURCHASE_CODE, REMOVE, SAME, Tables, tables_of
from training.simulator.truth import Observed, emissions
from worker.contract.events import EVENT_TYPES

#: Pseudo-counts: they keep every probability off 0 where a state has seen too little.
_PRIOR = 0.1
#: A group's first states lean on those of all groups with the weight of so many sessions.
_GROUP_PRIOR = 20.0
#: Standard deviation of the groups' log odds around 0.
_LOG_ODDS_SD = 0.5
_MIN_GAP_SD = 0.2
_NEWTON_STEPS = 8


@dataclass(frozen=True)
class Expected:
    """What the E step found: `state` [N, K] the posterior of each event's state, `moves` [K, K] expected transitions, and the
    log-likelihood of all sessions."""

    state: Floats
    moves: Floats
    log_likelihood: float


@dataclass(frozen=True)
class Fates:
    """Of each event [N]: is it the first of a chain; is it followed by another browsing event, by a purchase, or by nothing; is
    it a purchase; the group of its session."""

    starts: Bools
    proceeds: Bools
    buys: Bools
    ends: Bools
    purchase: Bools
    group: np.ndarray[tuple[int], np.dtype[np.int64]]


def fates(observed: Observed) -> Fates:
    """Reads them off the layout."""
    purchase = observed.type == PURCHASE_CODE
    starts, proceeds, buys = (np.zeros(len(purchase), dtype=np.bool_) for _ in range(3))
    blocks = observed.blocks()
    for block, following in pairwise(blocks):
        n = following.stop - following.start
        proceeds[block][:n] = ~purchase[block][:n] & ~purchase[following]
        buys[block][:n] = ~purchase[block][:n] & purchase[following]
        starts[following] = purchase[block][:n] & ~purchase[following]
    starts[blocks[0]] = True
    group = np.concatenate([observed.group[: block.stop - block.start] for block in blocks])
    return Fates(starts, proceeds, buys, ~purchase & ~proceeds & ~buys, purchase, group)


def expectation(tables: Tables, observed: Observed, fate: Fates) -> Expected:
    """Forward and backward over all sessions, scaled at each event."""
    likelihood = emissions(tables, observed)
    blocks = observed.blocks()
    proceed, end = tables.proceed[fate.group], (1 - tables.proceed - tables.purchase)[fate.group]
    last = np.where(fate.buys[:, None], tables.purchase[fate.group], end)  # [N, K] what closes a chain
    forward, scale = _forward(tables, likelihood, proceed, fate, blocks)
    closing = (forward * last).sum(axis=1)
    closes = fate.ends | fate.buys
    log_likelihood = float(np.log(scale[~fate.purchase]).sum() + np.log(closing[closes]).sum())

    moves = np.zeros_like(tables.transitions)
    backward = last
    for block, following in zip(blocks[-2::-1], blocks[:0:-1], strict=True):
        n = following.stop - following.start
        rows = np.flatnonzero(fate.proceeds[block][:n])
        seen = (likelihood[following] * backward[following])[rows]
        here = forward[block][rows] * proceed[block][rows]
        reached = seen @ tables.transitions.T  # [m, K] sum over the next state
        weight = 1 / np.maximum((here * reached).sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        moves += (here * weight).T @ seen * tables.transitions
        later = proceed[block][rows] * reached
        backward[block.start + rows] = later / later.sum(axis=1, keepdims=True)
    state = forward * backward
    state /= np.maximum(state.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    state[fate.purchase] = 0
    return Expected(state, moves, log_likelihood)


def maximisation(shop: Shop, observed: Observed, fate: Fates, expected: Expected) -> Shop:
    """The shop whose parameters fit the expected states best; categories, visits and checkout stay as they are."""
    gamma, tables = expected.state, tables_of(shop)
    types = _types(tables, observed, gamma)
    repeat = _repeats(tables, observed, gamma)
    gap_mu, gap_sd = _gaps(tables, observed, gamma)
    decided = observed.stayed != NOT_DECIDED
    stay = _fraction(gamma[decided & (observed.stayed == 1)].sum(axis=0), gamma[decided].sum(axis=0))
    purchase, log_odds = _purchases(shop, fate, gamma)
    proceed = _fraction(gamma[fate.proceeds].sum(axis=0), gamma[fate.proceeds | fate.ends].sum(axis=0)) * (1 - purchase)
    moves = expected.moves + _PRIOR
    states = tuple(
        State(
            name=state.name,
            types={EVENT_TYPES[e]: float(p) for e, p in enumerate(types[k]) if p > 0},
            gap_mu=float(gap_mu[k]),
            gap_sd=float(gap_sd[k]),
            repeat=(float(repeat[k, NEW]), float(repeat[k, OLDER]), float(repeat[k, SAME])),
            stay=float(stay[k]),
            proceed=float(proceed[k]),
            purchase=float(purchase[k]),
            end=float(1 - proceed[k] - purchase[k]),
        )
        for k, state in enumerate(shop.states)
    )
    return replace(
        shop,
        states=states,
        transitions=tuple(tuple(row) for row in (moves / moves.sum(axis=1, keepdims=True)).tolist()),
        groups=_groups(shop, fate, gamma, log_odds),
    )


def _forward(tables: Tables, likelihood: Floats, proceed: Floats, fate: Fates, blocks: list[slice]) -> tuple[Floats, Floats]:
    """Scaled forward messages [N, K] and their scales [N]."""
    forward = np.empty_like(likelihood)
    scale = np.empty(len(likelihood))
    prior = tables.start[fate.group[blocks[0]]]
    for t, block in enumerate(blocks):
        message = prior * likelihood[block]
        scale[block] = np.maximum(message.sum(axis=1), np.finfo(np.float64).tiny)
        forward[block] = message / scale[block][:, None]
        if t + 1 < len(blocks):
            following = blocks[t + 1]
            n = following.stop - following.start
            ahead = (forward[block][:n] * proceed[block][:n]) @ tables.transitions
            prior = np.where(fate.purchase[block][:n, None], tables.start[fate.group[following]], ahead)
    return forward, scale


def _types(tables: Tables, observed: Observed, gamma: Floats) -> Floats:
    counts = np.stack([gamma[observed.type == e].sum(axis=0) for e in range(len(EVENT_TYPES))], axis=1)  # [K, E]
    occurring = counts.sum(axis=0) > 0
    remove = tables.types[1, :, REMOVE]
    counts[:, REMOVE] += gamma[~observed.carted].sum(axis=0) * remove / (1 - remove)
    counts += _PRIOR * occurring
    total: Floats = counts / counts.sum(axis=1, keepdims=True)
    return total


def _repeats(tables: Tables, observed: Observed, gamma: Floats) -> Floats:
    free = observed.seen > 0  # the first view is new anyway
    counts = np.stack([gamma[free & (observed.repeat == kind)].sum(axis=0) for kind in (NEW, OLDER, SAME)], axis=1)  # [K, 3]
    older = tables.repeat[2, :, OLDER]
    one_seen = gamma[(observed.seen == 1) & (observed.repeat != NOT_DECIDED)].sum(axis=0)
    counts[:, OLDER] += one_seen * older / (1 - older)
    counts += _PRIOR
    total: Floats = counts / counts.sum(axis=1, keepdims=True)
    return total


def _gaps(tables: Tables, observed: Observed, gamma: Floats) -> tuple[Floats, Floats]:
    """Mean and deviation of the normals that are folded at 0 and cut off at the session gap."""
    first = int(observed.counts[0])
    x, weight = np.log1p(observed.gap_s[first:])[:, None], gamma[first:]  # purchases weigh nothing
    # Which side of 0 was it folded from?  P(+) = 1 / (1 + exp(-2 x mu / sd^2))
    sign = np.tanh(x * tables.gap_mu / tables.gap_sd**2)
    count, total, square = weight.sum(axis=0), (weight * sign * x).sum(axis=0), (weight * x**2).sum(axis=0)
    missing = count * (1 - tables.gap_mass) / tables.gap_mass
    top = (math.log1p(MAX_GAP_S) - tables.gap_mu) / tables.gap_sd
    hazard = _inverse_mills(top)
    beyond = tables.gap_mu + tables.gap_sd * hazard
    beyond_square = tables.gap_mu**2 + tables.gap_sd**2 * (1 + top * hazard) + 2 * tables.gap_mu * tables.gap_sd * hazard
    all_ = np.maximum(count + missing, _PRIOR)
    mean = (total + missing * beyond) / all_
    variance = (square + missing * beyond_square) / all_ - mean**2
    return mean, np.sqrt(np.maximum(variance, _MIN_GAP_SD**2))


def _inverse_mills(z: Floats) -> Floats:
    """phi(z) / (1 - Phi(z)); z itself far out, where both vanish."""

    def ratio(v: float) -> float:
        return math.exp(-0.5 * v * v) / math.sqrt(math.pi / 2) / math.erfc(v / math.sqrt(2)) if v < 8 else v

    return np.array([ratio(v) for v in z.tolist()])


def _purchases(shop: Shop, fate: Fates, gamma: Floats) -> tuple[Floats, Floats]:
    """Purchase probability of each state [K] and log odds of each group [G]: Newton's steps on a logistic regression with a
    normal prior on the groups."""
    states, groups = len(shop.states), len(shop.groups)
    bought = np.stack([gamma[fate.buys & (fate.group == g)].sum(axis=0) for g in range(groups)])  # [G, K]
    shown = np.stack([gamma[fate.group == g].sum(axis=0) for g in range(groups)])
    if not bought.sum():
        return np.zeros(states), np.zeros(groups)
    alpha = np.log(_fraction(bought.sum(axis=0), shown.sum(axis=0)))
    alpha -= np.log1p(-np.exp(alpha))
    delta = np.array([group.purchase_log_odds for group in shop.groups])
    for _ in range(_NEWTON_STEPS):
        p = 1 / (1 + np.exp(-(alpha + delta[:, None])))
        spread = shown * p * (1 - p)
        delta += ((bought - shown * p).sum(axis=1) - delta / _LOG_ODDS_SD**2) / (spread.sum(axis=1) + 1 / _LOG_ODDS_SD**2)
        p = 1 / (1 + np.exp(-(alpha + delta[:, None])))
        spread = shown * p * (1 - p)
        # The same pseudo-counts as everywhere keep a state without a purchase finite.
        slope = (bought - shown * p).sum(axis=0) + _PRIOR * (1 - 2 / (1 + np.exp(-alpha)))
        alpha += np.clip(slope / (spread.sum(axis=0) + _PRIOR), -2, 2)
    return 1 / (1 + np.exp(-alpha)), delta


def _groups(shop: Shop, fate: Fates, gamma: Floats, log_odds: Floats) -> tuple[Group, ...]:
    overall = gamma[fate.starts].sum(axis=0) + _PRIOR
    overall /= overall.sum()
    groups = []
    for g, group in enumerate(shop.groups):
        counts = gamma[fate.starts & (fate.group == g)].sum(axis=0) + _GROUP_PRIOR * overall
        groups.append(replace(group, start=tuple((counts / counts.sum()).tolist()), purchase_log_odds=float(log_odds[g])))
    return tuple(groups)


def _fraction(hits: Floats, tries: Floats) -> Floats:
    fraction: Floats = (hits + _PRIOR) / (tries + 2 * _PRIOR)
    return fraction
