"""How like real sessions those of a shop are: the same figures of both, and how well p is calibrated on the real ones."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from training.simulator.arrays import Bools, Floats, Ints
from training.simulator.arrivals import Arrivals
from training.simulator.clicks import Clicks
from training.simulator.fit import numbering
from training.simulator.observe import Session, observe
from training.simulator.shop import Shop
from training.simulator.tables import PURCHASE_CODE, SEARCH, SESSION_GAP_S, tables_of
from training.simulator.truth import purchase_probability
from worker.contract.events import EVENT_TYPES

#: Simulated sessions to compare with: enough that their own noise does not show.
_SESSIONS = 40_000
#: Real sets have few buyers: smaller bins would hold a handful each.
_REAL_BINS = 5


@dataclass(frozen=True)
class Figures:
    """What sessions look like. `items_seen` is the mean number of distinct items; shares are of all events."""

    mean_length: float
    length_p90: float
    gap_p50_s: float
    gap_p90_s: float
    purchase_rate: float
    items_seen: float
    type_shares: dict[str, float]


@dataclass(frozen=True)
class Bin:
    """Events next to each other in p: mean p, share with a purchase later, and the difference in standard errors by session."""

    p: float
    rate: float
    z: float


@dataclass(frozen=True)
class Fidelity:
    """`log_loss` and `constant_log_loss` (of the mean rate) are those of p on the real sessions; `bins` its calibration there."""

    real: Figures
    simulated: Figures
    bins: list[Bin]
    log_loss: float
    constant_log_loss: float


def fidelity(shop: Shop, sessions: Sequence[Session], seed: int = 0) -> Fidelity:
    """Compares the shop with real sessions, those it was fitted to or others of the same shop."""
    names = numbering(sessions, shop)
    observation = observe(sessions, {c: shop.categories[i].group for c, i in names.items()}, names)
    p, label = purchase_probability(tables_of(shop), observation.observed), observation.purchase_later()
    clicks, _ = Arrivals(shop, seed, 0, sessions_per_hour=1000).block(_SESSIONS)
    return Fidelity(
        real=_real_figures(sessions),
        simulated=_simulated_figures(clicks),
        bins=calibration(p, label, observation.session, _REAL_BINS),
        log_loss=log_loss(p, label),
        constant_log_loss=log_loss(np.full(len(p), label.mean()), label),
    )


def calibration(p: Floats, label: Bools, session: Ints, bins: int = 10) -> list[Bin]:
    """Calibration of p [N] in bins of equal size. Events of one session share their fate, so errors are summed by session."""
    found = []
    for rows in np.array_split(np.argsort(p, kind="stable"), bins):
        error = np.bincount(session[rows], weights=label[rows] - p[rows])
        spread = math.sqrt(float((error**2).sum()))
        found.append(Bin(float(p[rows].mean()), float(label[rows].mean()), float(error.sum()) / spread if spread else 0.0))
    return found


def log_loss(p: Floats, label: Bools) -> float:
    """Mean negative log-likelihood of the labels."""
    q = np.clip(np.where(label, p, 1 - p), 1e-12, 1)
    return float(-np.log(q).mean())


def _real_figures(sessions: Sequence[Session]) -> Figures:
    gaps_s = [(b.event_time - a.event_time) / 1000 for session in sessions for a, b in pairwise(session)]
    types = np.array([EVENT_TYPES.index(event.event_type) for session in sessions for event in session])
    buys = [any(event.event_type == "purchase" for event in session) for session in sessions]
    items = [len({event.item_id for event in session if event.item_id is not None}) for session in sessions]
    return _figures(
        np.array([len(session) for session in sessions]), np.array(gaps_s), types, np.array(buys), float(np.mean(items))
    )


def _simulated_figures(clicks: Clicks) -> Figures:
    clicks = clicks.take(np.lexsort((clicks.step, clicks.session)))
    same_session = clicks.session[1:] == clicks.session[:-1]
    gaps_s = np.diff(clicks.time_ms)[same_session] / 1000
    lengths = np.bincount(clicks.session)
    buys = np.bincount(clicks.session, weights=clicks.type == PURCHASE_CODE) > 0
    shown = clicks.type != SEARCH
    distinct = len(np.unique(np.stack([clicks.session[shown], clicks.item[shown]]), axis=1).T)
    return _figures(lengths, gaps_s, clicks.type, buys, distinct / len(lengths))


def _figures(lengths: Ints, gaps_s: Floats, types: Ints, buys: Bools, items: float) -> Figures:
    shares = np.bincount(types, minlength=len(EVENT_TYPES)) / len(types)
    gaps_s = gaps_s[gaps_s < SESSION_GAP_S]
    return Figures(
        mean_length=float(lengths.mean()),
        length_p90=float(np.quantile(lengths, 0.9)),
        gap_p50_s=float(np.median(gaps_s)) if len(gaps_s) else 0.0,
        gap_p90_s=float(np.quantile(gaps_s, 0.9)) if len(gaps_s) else 0.0,
        purchase_rate=float(buys.mean()),
        items_seen=items,
        type_shares={name: float(share) for name, share in zip(EVENT_TYPES, shares, strict=True) if share},
    )
