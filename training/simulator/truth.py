"""The exact posterior: P(a purchase strictly later in this session | everything observed so far).

Works on observed things only, so it scores simulated and real sessions alike, and no model can do better on simulated ones.

Sessions are laid out step by step: sort them by length, longest first; then event t of the sessions that have one is a contiguous
block, and row r of each block is the same session. `Observed.counts[t]` is the size of block t.
"""

from dataclasses import dataclass

import numpy as np

from training.simulator.arrays import Bools, Floats, Ints
from training.simulator.tables import NOT_DECIDED, PURCHASE_CODE, Tables

_LOG_SQRT_2PI = 0.9189385332046727


@dataclass(frozen=True)
class Observed:
    """n sessions with N events in all, step by step (see above).

    group [n]; for each event [N]: its type's index; seconds since the event before (anything for a session's first); what a view
    showed (NEW, OLDER, SAME or NOT_DECIDED); how many items had been seen before it, at most 2; whether a new item or a search
    stayed in the category (1, 0 or NOT_DECIDED); whether the cart held anything before it.
    """

    counts: Ints
    group: Ints
    type: Ints
    gap_s: Floats
    repeat: Ints
    seen: Ints
    stayed: Ints
    carted: Bools

    def blocks(self) -> list[slice]:
        """Where each step's events are."""
        ends = np.cumsum(self.counts)
        return [slice(int(end - count), int(end)) for end, count in zip(ends, self.counts, strict=True)]


def purchase_probability(tables: Tables, observed: Observed) -> Floats:
    """p [N]: the forward filter a_t ~ B_t(x_t) * ((a_{t-1} * proceed[g]) A), read out as a_t . value[g].

    A purchase starts the session afresh: what follows it depends on the group alone.
    """
    likelihood = emissions(tables, observed)
    start = tables.start[observed.group]  # [n, K]
    proceed = tables.proceed[observed.group]
    value = tables.value[observed.group]
    after_purchase = tables.after_purchase[observed.group]
    bought = observed.type == PURCHASE_CODE
    p = np.empty(len(bought))
    prior = start
    for t, block in enumerate(observed.blocks()):
        belief = prior * likelihood[block]  # [n_t, K]
        belief /= np.maximum(belief.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        n = len(belief)
        p[block] = np.where(bought[block], after_purchase[:n], (belief * value[:n]).sum(axis=1))
        if t + 1 < len(observed.counts):
            n = int(observed.counts[t + 1])
            prior = np.where(bought[block][:n, None], start[:n], (belief[:n] * proceed[:n]) @ tables.transitions)
    return p


def emissions(tables: Tables, observed: Observed) -> Floats:
    """B [N, K]: the likelihood of each event in each state, but for factors that all states share. 1 for purchases."""
    likelihood: Floats = tables.types.transpose(0, 2, 1)[observed.carted.astype(np.int64), observed.type]
    first = int(observed.counts[0]) if len(observed.counts) else 0
    likelihood[first:] *= gap_density(tables, observed.gap_s[first:])
    viewed = observed.repeat != NOT_DECIDED
    likelihood[viewed] *= tables.repeat.transpose(0, 2, 1)[observed.seen[viewed], observed.repeat[viewed]]
    likelihood *= np.stack([1 - tables.stay, tables.stay, np.ones_like(tables.stay)])[observed.stayed]
    likelihood[observed.type == PURCHASE_CODE] = 1
    return likelihood


def gap_density(tables: Tables, gap_s: Floats) -> Floats:
    """Density of log1p(gap) [N, K] under the folded normals, cut off at the session gap."""
    x = np.log1p(gap_s)[:, None]
    scale = np.exp(-_LOG_SQRT_2PI) / (tables.gap_sd * tables.gap_mass)
    near = np.exp(-0.5 * ((x - tables.gap_mu) / tables.gap_sd) ** 2)
    folded = np.exp(-0.5 * ((x + tables.gap_mu) / tables.gap_sd) ** 2)
    density: Floats = (near + folded) * scale
    return density
