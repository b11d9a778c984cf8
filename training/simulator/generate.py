"""Sessions out of a shop, many at once, with numpy.

First the chains of hidden states, then what each event shows. Both go step by step over all sessions that are still on; the
layout is that of `truth.Observed`: longest session first, so that each step is a contiguous block.
"""

from dataclasses import dataclass

import numpy as np

from training.simulator.arrays import Bools, Floats, Ints
from training.simulator.catalogue import Catalogue
from training.simulator.reveal import BUYING, choose, reveal
from training.simulator.tables import MAX_GAP_S, Tables
from training.simulator.truth import Observed, purchase_probability


@dataclass(frozen=True)
class Sessions:
    """N events of n sessions, step by step; `order` [n] gives each row's place in the caller's arrays.

    For each event [N]: row of its session, step in it, time in ms, type's index, item code or -1, category, and p, the true
    probability of a purchase later in the session. `end_ms` and `end_category` [n] describe each row's last event.
    """

    order: Ints
    row: Ints
    step: Ints
    time_ms: Ints
    type: Ints
    item: Ints
    category: Ints
    p: Floats
    end_ms: Ints
    end_category: Ints


def generate(
    tables: Tables, catalogue: Catalogue, renewed: Bools, start_ms: Ints, category: Ints, rng: np.random.Generator
) -> Sessions:
    """One session for each start time [n] and first category [n]. `renewed` [places] says which items have been replaced."""
    group = tables.group_of[category]
    order, counts, state = _chains(tables, group, rng)
    gap_ms = _gaps_ms(tables, state, rng)
    gap_ms[: len(order)] = 0
    row = np.concatenate([np.arange(n) for n in counts])
    revealed = reveal(tables, catalogue, renewed, counts, state, category[order], rng)
    observed = Observed(
        counts=counts,
        group=group[order],
        type=revealed.type,
        gap_s=gap_ms / 1000,
        repeat=revealed.repeat,
        seen=revealed.seen,
        stayed=revealed.stayed,
        carted=revealed.carted,
    )
    time_ms = _times(observed, start_ms[order], gap_ms)
    last = np.empty(len(order), dtype=np.int64)
    last[row] = np.arange(len(row))  # later steps overwrite earlier ones
    return Sessions(
        order=order,
        row=row,
        step=np.repeat(np.arange(len(counts)), counts),
        time_ms=time_ms,
        type=revealed.type,
        item=revealed.item,
        category=revealed.category,
        p=purchase_probability(tables, observed),
        end_ms=time_ms[last],
        end_category=revealed.category[last],
    )


def _chains(tables: Tables, group: Ints, rng: np.random.Generator) -> tuple[Ints, Ints, Ints]:
    """Order of the sessions by length [n], sizes of the steps [T], and hidden states [N] step by step (BUYING: a purchase)."""
    start = np.cumsum(tables.start, axis=1)
    transitions = np.cumsum(tables.transitions, axis=1)
    alive = np.arange(len(group))
    state = choose(start[group], rng)
    steps: list[tuple[Ints, Ints]] = []
    while len(alive):
        steps.append((alive, state))
        buying = state == BUYING
        here = group[alive]
        luck = rng.random(len(alive))
        goes_on = np.where(buying, tables.checkout_proceed, tables.proceed[here, state])
        buys = ~buying & (luck >= goes_on) & (luck < goes_on + tables.purchase[here, state])
        ahead = np.where(buying[:, None], start[here], transitions[state])
        following = np.where(buys, BUYING, choose(ahead, rng))
        on = buys | (luck < goes_on)
        alive, state = alive[on], following[on]
    length = np.zeros(len(group), dtype=np.int64)
    for alive, _ in steps:
        length[alive] += 1
    order = np.argsort(-length, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    blocks = []
    for alive, state in steps:
        block = np.empty_like(state)
        block[rank[alive]] = state
        blocks.append(block)
    return order, np.array([len(block) for block in blocks]), np.concatenate(blocks)


def _gaps_ms(tables: Tables, state: Ints, rng: np.random.Generator) -> Ints:
    """Time since the event before [N], at least 1 ms, so that event times order a session."""
    mu = np.append(tables.gap_mu, tables.checkout_gap[0])[state]  # BUYING is -1: the last entry
    sd = np.append(tables.gap_sd, tables.checkout_gap[1])[state]
    log_gap = np.abs(rng.normal(mu, sd))
    long = np.flatnonzero(log_gap >= np.log1p(MAX_GAP_S))
    while len(long):
        log_gap[long] = np.abs(rng.normal(mu[long], sd[long]))
        long = long[log_gap[long] >= np.log1p(MAX_GAP_S)]
    gaps: Ints = np.maximum(1, np.round(np.expm1(log_gap) * 1000)).astype(np.int64)
    return gaps


def _times(observed: Observed, start_ms: Ints, gap_ms: Ints) -> Ints:
    time_ms = np.empty(len(gap_ms), dtype=np.int64)
    now = start_ms
    for block in observed.blocks():
        now = now[: block.stop - block.start] + gap_ms[block]
        time_ms[block] = now
    return time_ms
