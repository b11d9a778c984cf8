"""Fits a shop to real events: what it sells and when visitors come by counting, the hidden states by expectation maximisation.

The number of states is the one with the least BIC.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from training.simulator.arrays import Floats
from training.simulator.em import expectation, fates, maximisation
from training.simulator.observe import Session, observe
from training.simulator.shop import Shop, State
from training.simulator.skeleton import REST, skeleton_of
from training.simulator.tables import tables_of
from training.simulator.truth import Observed
from worker.contract.events import EVENT_TYPES

#: EM ends when an iteration gains less log-likelihood per event.
_TOLERANCE = 2e-6
_ITERATIONS = 400


@dataclass(frozen=True)
class Fit:
    """A fitted shop, its log-likelihood and BIC, and BIC by number of states."""

    shop: Shop
    log_likelihood: float
    bic: float
    bic_by_states: dict[int, float]


def fit_shop(
    sessions: Sequence[Session],
    *,
    name: str,
    source: str,
    states: Sequence[int] = (2, 3, 4, 5, 6),
    restarts: int = 3,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Fit:
    """The shop that describes the sessions best. Raises: InvalidShop where they have fewer than two categories."""
    skeleton = skeleton_of(sessions, name, source)
    names = numbering(sessions, skeleton)
    observed = observe(sessions, {c: skeleton.categories[i].group for c, i in names.items()}, names).observed
    best: Fit | None = None
    bic_by_states: dict[int, float] = {}
    for count in states:
        rng = np.random.default_rng([seed, count])
        climbs = (_climb(_guess(skeleton, observed, count, rng), observed) for _ in range(restarts))
        shop, log_likelihood = max(climbs, key=lambda climb: climb[1])
        bic = _parameters(shop) * math.log(len(observed.type)) - 2 * log_likelihood
        bic_by_states[count] = bic
        progress(f"{count} states: log-likelihood {log_likelihood:.0f}, BIC {bic:.0f}")
        if best is None or bic < best.bic:
            best = Fit(shop, log_likelihood, bic, bic_by_states)
    if best is None:
        raise ValueError("states must name at least one number of states")
    return replace(best, shop=_named_by_value(best.shop))


def numbering(sessions: Sequence[Session], shop: Shop) -> dict[str | None, int]:
    """The shop's category number for each category of the sessions; unknown ones, and none at all, go to the last (REST)."""
    index = {category.name: i for i, category in enumerate(shop.categories)}
    last = len(shop.categories) - 1
    return {event.category: index.get(event.category or REST, last) for session in sessions for event in session}


def iterations(shop: Shop, observed: Observed) -> Iterator[tuple[Shop, float]]:
    """EM from this shop on: each better shop, with the log-likelihood of the one before it."""
    fate = fates(observed)
    while True:
        expected = expectation(tables_of(shop), observed, fate)
        shop = maximisation(shop, observed, fate, expected)
        yield shop, expected.log_likelihood


def _climb(shop: Shop, observed: Observed) -> tuple[Shop, float]:
    before = -math.inf
    for better, log_likelihood in islice(iterations(shop, observed), _ITERATIONS):
        if log_likelihood - before < _TOLERANCE * len(observed.type):
            break
        shop, before = better, log_likelihood
    return shop, before


def _guess(skeleton: Shop, observed: Observed, count: int, rng: np.random.Generator) -> Shop:
    """A random place to start from, with gaps and outcomes spread around those of the data."""
    log_gap = np.log1p(observed.gap_s[int(observed.counts[0]) :])
    mu = np.quantile(log_gap, (np.arange(count) + rng.random(count)) / count) if len(log_gap) else np.full(count, 4.0)
    sd = max(float(log_gap.std()) if len(log_gap) else 1.0, 0.5)
    shares = np.bincount(observed.type, minlength=len(EVENT_TYPES)) * np.array([e != "purchase" for e in EVENT_TYPES])
    purchases = max(float((observed.type == EVENT_TYPES.index("purchase")).mean()), 1e-4)
    states = []
    for k in range(count):
        types = shares / shares.sum() * rng.uniform(0.7, 1.3, len(shares))
        purchase, end = purchases * rng.uniform(0.2, 2.0), rng.uniform(0.05, 0.5)
        states.append(
            State(
                name=f"state-{k}",
                types={EVENT_TYPES[e]: float(p) for e, p in enumerate(types / types.sum()) if p > 0},
                gap_mu=float(mu[k]),
                gap_sd=sd * float(rng.uniform(0.6, 1.0)),
                repeat=_triple(rng.dirichlet((8, 3, 2))),
                stay=float(rng.uniform(0.3, 0.9)),
                proceed=(1 - purchase) * (1 - end),
                purchase=purchase,
                end=(1 - purchase) * end,
            )
        )
    start = rng.dirichlet(np.full(count, 4.0))
    transitions = rng.dirichlet(np.ones(count), count) * 0.5 + np.eye(count) * 0.5
    return replace(
        skeleton,
        states=tuple(states),
        transitions=tuple(tuple(row) for row in transitions.tolist()),
        groups=tuple(replace(group, start=tuple(start.tolist())) for group in skeleton.groups),
    )


def _triple(values: Floats) -> tuple[float, float, float]:
    a, b, c = values.tolist()
    return a, b, c


def _parameters(shop: Shop) -> int:
    """Free parameters of the states, for BIC."""
    count, groups = len(shop.states), len(shop.groups)
    per_state = len(shop.states[0].types) - 1 + 2 + 2 + 1 + 2  # types, gap, repeat, stay, outcome
    return count * per_state + count * (count - 1) + groups * (count - 1) + groups - 1


def _named_by_value(shop: Shop) -> Shop:
    """Orders the states by the chance of a purchase, the least first, so that two fits can be compared."""
    value = tables_of(shop).value.mean(axis=0)
    if not value.any():  # no purchases: by length of stay
        value = np.array([state.proceed for state in shop.states])
    order = np.argsort(value).tolist()
    return replace(
        shop,
        states=tuple(replace(shop.states[old], name=f"state-{new}") for new, old in enumerate(order)),
        transitions=tuple(tuple(shop.transitions[i][j] for j in order) for i in order),
        groups=tuple(replace(group, start=tuple(group.start[i] for i in order)) for group in shop.groups),
    )
