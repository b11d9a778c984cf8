"""How a shop changes: the drifted parameters, and from when they hold. A session keeps the shop in which it started."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from training.simulator.arrays import Ints
from training.simulator.shop import Category, InvalidShop, Shop, State
from training.simulator.tables import tables_of

#: hazard: purchase odds times `strength` (a purchase ends most sessions, so that four times the odds are twice the buyers).
#: ramp: the same, but little by little. swap: the states with the highest and the lowest chance of a purchase exchange how they
#: look. mix: traffic moves from the popular categories to the others by the fraction `strength`. new_items: the fraction
#: `strength` of the catalogue is replaced.
DriftKind = Literal["none", "hazard", "ramp", "swap", "mix", "new_items"]
DRIFT_KINDS: tuple[DriftKind, ...] = get_args(DriftKind)

DEFAULT_STRENGTH: dict[DriftKind, float] = {"none": 0, "hazard": 4, "ramp": 4, "swap": 1, "mix": 0.8, "new_items": 0.5}
#: A ramp is a stair of so many steps.
RAMP_STEPS = 24


@dataclass(frozen=True)
class Drift:
    """From `at_ms` on the shop differs. `strength` None is the kind's default; a ramp takes `ramp_ms` to get there."""

    kind: DriftKind
    at_ms: int
    strength: float | None = None
    ramp_ms: int = 24 * 3_600_000


@dataclass(frozen=True)
class Schedule:
    """`shops[i]` holds from `from_ms[i]` until the next one."""

    from_ms: Ints
    shops: tuple[Shop, ...]

    def epoch(self, start_ms: Ints) -> Ints:
        """The index of the shop that holds for a session that starts then."""
        index: Ints = np.searchsorted(self.from_ms, start_ms, side="right") - 1
        return index


def schedule(shop: Shop, drift: Drift | None) -> Schedule:
    """The shop before and after the drift. Raises: InvalidShop where the drift makes no sense for the shop."""
    always = np.iinfo(np.int64).min
    if drift is None or drift.kind == "none":
        return Schedule(np.array([always]), (shop,))
    strength = DEFAULT_STRENGTH[drift.kind] if drift.strength is None else drift.strength
    if drift.kind != "ramp":
        return Schedule(np.array([always, drift.at_ms]), (shop, drifted(shop, drift.kind, strength)))
    if strength <= 0:
        raise InvalidShop(f"ramp: strength multiplies odds, so it must be positive, not {strength}")
    rungs = np.arange(1, RAMP_STEPS + 1) / RAMP_STEPS
    from_ms = drift.at_ms + (drift.ramp_ms * (rungs - rungs[0])).astype(np.int64)
    return Schedule(
        np.concatenate([[always], from_ms]),
        (shop, *(drifted(shop, "hazard", float(strength**rung)) for rung in rungs)),
    )


def drifted(shop: Shop, kind: DriftKind, strength: float) -> Shop:
    """The shop after a drift that has come in full. Raises: InvalidShop."""
    match kind:
        case "none":
            return shop
        case "hazard" | "ramp":
            return _with_purchase_odds(shop, strength)
        case "swap":
            return _with_states_swapped(shop)
        case "mix":
            return _with_traffic_moved(shop, strength)
        case "new_items":
            return replace(shop, renewed=shop.renewed + strength * (1 - shop.renewed))


def _with_purchase_odds(shop: Shop, factor: float) -> Shop:
    if factor <= 0:
        raise InvalidShop(f"hazard: strength multiplies odds, so it must be positive, not {factor}")
    shift = float(np.log(factor))
    return replace(shop, groups=tuple(replace(g, purchase_log_odds=g.purchase_log_odds + shift) for g in shop.groups))


def _with_states_swapped(shop: Shop) -> Shop:
    """Behaviour changes its meaning while the rate of purchases stays."""
    if len(shop.states) < 2:
        raise InvalidShop("swap: a shop with one state has nothing to swap")
    value = tables_of(shop).value.mean(axis=0)
    high, low = int(value.argmax()), int(value.argmin())
    states = list(shop.states)
    states[high] = _looking_like(shop.states[high], shop.states[low])
    states[low] = _looking_like(shop.states[low], shop.states[high])
    return replace(shop, states=tuple(states))


def _looking_like(state: State, other: State) -> State:
    return replace(state, types=other.types, gap_mu=other.gap_mu, gap_sd=other.gap_sd, repeat=other.repeat, stay=other.stay)


def _with_traffic_moved(shop: Shop, fraction: float) -> Shop:
    """Each category gives up the fraction of its share and takes over as much from its mirror image in the order of shares."""
    if not 0 <= fraction <= 1:
        raise InvalidShop(f"mix: strength is a fraction, not {fraction}")
    order = sorted(range(len(shop.categories)), key=lambda c: shop.categories[c].share)
    mirror = dict(zip(order, reversed(order), strict=True))

    def moved(index: int, category: Category) -> Category:
        return replace(category, share=(1 - fraction) * category.share + fraction * shop.categories[mirror[index]].share)

    return replace(shop, categories=tuple(moved(i, category) for i, category in enumerate(shop.categories)))
