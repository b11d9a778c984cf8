"""Simulated logs with their truth, cut by time as a judge would: what training may see, and the sessions that judge it."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from training.simulate import Clickstream, Drift, load_shop, simulate
from training.simulator.hazards import with_purchases
from training.simulator.shop import Shop
from worker.contract.events import ClickEvent
from worker.contract.features import hash64

#: 2026-01-05T00:00:00Z, a Monday, and two weeks, as `inkling simulate` has it.
START_MS, HOURS = 1_767_571_200_000, 14 * 24.0
#: The last fifth of the sessions judges; labels must have matured before it begins.
TEST_SHARE = 0.2


class SetSpec(NamedTuple):
    """One simulated shop. `purchase_rate` replaces the shop's own; `strange` moves all of its parameters by chance.

    Of a `blind` shop nothing tells who buys: it shows what is made up of a small log by heart.
    """

    name: str
    shop: str
    sessions: int
    purchase_rate: float | None = None
    strange: bool = False
    drift: Drift | None = None
    blind: bool = False


#: Trained on 80%: at least 14 thousand sessions but for the small sets.
SETS: tuple[SetSpec, ...] = (
    SetSpec("electronics", "electronics", 20_000),
    SetSpec("diginetica-like", "diginetica", 20_000),
    SetSpec("rees46-like", "rees46", 20_000),
    SetSpec("strange", "electronics", 20_000, strange=True),
    SetSpec("strange-rare", "diginetica", 30_000, 0.015, strange=True),
    SetSpec("strange-often", "rees46", 18_000, 0.10, strange=True),
    SetSpec("ramp", "electronics", 20_000, drift=Drift("ramp", START_MS, 2.0, ramp_ms=round(HOURS * 3_600_000))),
    SetSpec("small", "electronics", 4_000),
    SetSpec("small-strange", "diginetica", 6_000, strange=True),
    SetSpec("few", "electronics", 1_200),
    SetSpec("few-blind", "diginetica", 1_200, blind=True),
    SetSpec("small-blind", "diginetica", 4_000, blind=True),
)


@dataclass(frozen=True)
class SimulatedSet:
    """A log; until when it may be learned from; and of the judging sessions' events before their first purchase [n]:
    hash of the event's id, session, position, label, true probability. `prevalence` is that of the sessions before."""

    events: list[ClickEvent]
    until_ms: int
    hashes: npt.NDArray[np.uint64]
    session: npt.NDArray[np.int64]
    position: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64]
    truth: npt.NDArray[np.float64]
    prevalence: float
    sessions: int

    def places_in(self, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Where in these each judging event [n] is."""
        order = np.argsort(hashes)
        at = order[np.searchsorted(hashes[order], self.hashes)]
        assert np.array_equal(hashes[at], self.hashes), "every judging event has its score"
        return at


def simulated_set(spec: SetSpec, seed: int) -> SimulatedSet:
    """Deterministic by seed."""
    return cut(simulate(shop_of(spec, seed), spec.sessions, 1000 + seed, START_MS, hours=HOURS, drift=spec.drift))


def shop_of(spec: SetSpec, seed: int) -> Shop:
    """The shop of a set. A strange one differs from seed to seed."""
    shop = load_shop(spec.shop)
    if spec.strange:
        shop = _strange(shop, seed)
    if spec.blind:
        shop = _blind(shop)
    return shop if spec.purchase_rate is None else with_purchases(shop, spec.purchase_rate)


def cut(stream: Clickstream) -> SimulatedSet:
    """The stream's last fifth of the sessions, by when they began, judges."""
    clicks = stream.clicks
    first = clicks.step == 0
    in_order = clicks.session[first]  # by time
    test = in_order[round((1 - TEST_SHARE) * len(in_order)) :]
    until_ms = int(clicks.time_ms[first][len(in_order) - len(test)])
    is_test = np.isin(clicks.session, test)
    purchase = clicks.type == 5
    bought_ms = np.full(int(clicks.session.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(bought_ms, clicks.session[purchase], clicks.time_ms[purchase])
    eligible = clicks.time_ms < bought_ms[clicks.session]
    label = (bought_ms[clicks.session] < np.iinfo(np.int64).max).astype(np.int64)
    judged = is_test & eligible
    events = list(stream.events())
    return SimulatedSet(
        events=events,
        until_ms=until_ms,
        hashes=np.array([hash64("event", event.event_id) for event, yes in zip(events, judged, strict=True) if yes], np.uint64),
        session=clicks.session[judged],
        position=clicks.step[judged] + 1,
        label=label[judged],
        truth=clicks.p[judged],
        prevalence=float(label[eligible & ~is_test].mean()),
        sessions=len(in_order),
    )


def _blind(shop: Shop) -> Shop:
    """The shop with one and the same outcome in every state and group."""
    proceed, purchase = (float(np.mean([getattr(state, name) for state in shop.states])) for name in ("proceed", "purchase"))
    states = tuple(replace(state, proceed=proceed, purchase=purchase, end=1 - proceed - purchase) for state in shop.states)
    return replace(shop, states=states, groups=tuple(replace(group, purchase_log_odds=0.0) for group in shop.groups))


def _strange(shop: Shop, seed: int) -> Shop:
    """Another shop of the same kind: states, paths and groups moved so far that no parameter is as it was shipped."""
    rng = np.random.default_rng(seed)

    def mixed(p: tuple[float, ...], weight: float = 0.35) -> tuple[float, ...]:
        """Between the distribution and a random one of the same support."""
        support = np.array(p) > 0
        random = rng.dirichlet(np.ones(int(support.sum())))
        out = np.zeros(len(p))
        out[support] = (1 - weight) * np.array(p)[support] + weight * random
        return tuple((out / out.sum()).tolist())

    states = []
    for state in shop.states:
        types = dict(zip(state.types, mixed(tuple(state.types.values()), 0.15), strict=True))
        odds = float(np.exp(rng.normal(0, 0.5)))
        weights = np.array([state.proceed, state.purchase * odds, state.end * float(np.exp(rng.normal(0, 0.2)))])
        proceed, purchase, _ = (weights / weights.sum()).tolist()
        states.append(
            replace(
                state,
                types=types,
                gap_mu=state.gap_mu + rng.normal(0, 0.4),
                gap_sd=state.gap_sd * float(np.exp(rng.normal(0, 0.2))),
                repeat=mixed(state.repeat, 0.25),
                stay=float(np.clip(state.stay + rng.normal(0, 0.1), 0.02, 0.98)),
                proceed=proceed,
                purchase=purchase,
                end=1 - proceed - purchase,
            )
        )
    return replace(
        shop,
        states=tuple(states),
        transitions=tuple(mixed(row, 0.25) for row in shop.transitions),
        groups=tuple(
            replace(group, start=mixed(group.start), purchase_log_odds=group.purchase_log_odds + rng.normal(0, 0.4))
            for group in shop.groups
        ),
        visits=replace(shop.visits, return_probability=float(rng.uniform(0.1, 0.5))),
        catalogue_seed=seed,
    )
