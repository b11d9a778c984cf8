"""Everything that describes one shop: what its visitors want, how they click, what it sells, when they come.

The model is a latent-intent semi-Markov chain. A session has a hidden state that changes from event to event; the state decides
what kind of event it is, how long the visitor took, and whether the session goes on, ends or leads to a purchase.
"""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import msgspec

from worker.contract.events import EVENT_TYPES
from worker.errors import ConfigurationError

#: What the outcome of a state decides instead of its `types`.
PURCHASE = "purchase"
#: The default for `inkling simulate`.
DEFAULT_SHOP = "electronics"

_TOLERANCE = 1e-6
_MIN_GAP_SD = 0.05  # a narrower state would give likelihoods that underflow


class InvalidShop(ConfigurationError):
    """The parameters describe no shop, or a drift makes no sense for it."""


@dataclass(frozen=True)
class State:
    """One hidden intent.

    `types` is the probability of each event type but purchase. `gap_mu` and `gap_sd` describe log1p of the seconds since the
    event before: |N(gap_mu, gap_sd)|, below half an hour. `repeat` is the probability that a view shows a (new, older, same)
    item; `stay` that a new item or a search is in the category of the event before. `proceed`, `purchase` and `end` say what
    follows an event of a group whose `purchase_log_odds` is 0, and sum to 1.
    """

    name: str
    types: dict[str, float]
    gap_mu: float
    gap_sd: float
    repeat: tuple[float, float, float]
    stay: float
    proceed: float
    purchase: float
    end: float


@dataclass(frozen=True)
class Group:
    """Sessions that start in one of the group's categories: `start` is the first state's distribution [K], and
    `purchase_log_odds` is added to the log odds of a purchase in every state."""

    name: str
    start: tuple[float, ...]
    purchase_log_odds: float


@dataclass(frozen=True)
class Category:
    """`share` of the traffic (relative to the others'), number of items and brands, and log price ~ N(price_mu, price_sd)."""

    name: str
    group: int
    share: float
    items: int
    brands: int
    price_mu: float
    price_sd: float


@dataclass(frozen=True)
class Visits:
    """How visitors come: `hours` weighs the hours of the day (UTC); after a session a visitor comes back with probability
    `return_probability`, half an hour and exp(N(log(return_median_h), return_log_sd)) hours later, and starts in the category
    where the last session ended with probability `return_stay`."""

    return_probability: float = 0.35
    return_median_h: float = 20.0
    return_log_sd: float = 1.3
    return_stay: float = 0.6
    hours: tuple[float, ...] = (1.0,) * 24


@dataclass(frozen=True)
class Checkout:
    """The purchase event itself: its gap like a state's, and the probability that the session goes on after it,
    with a fresh intent from the group's `start`."""

    gap_mu: float = 4.6
    gap_sd: float = 0.7
    proceed: float = 0.15


@dataclass(frozen=True)
class Shop:
    """The parameter set. K states, `transitions` [K][K] rows sum to 1 and hold given that the session goes on.

    `zipf` is the exponent of popularity by rank within a category; `renewed` the fraction of the catalogue that has been
    replaced by items nobody has seen (the drift `new_items`); `source` says where the numbers come from.
    """

    name: str
    source: str
    states: tuple[State, ...]
    transitions: tuple[tuple[float, ...], ...]
    groups: tuple[Group, ...]
    categories: tuple[Category, ...]
    visits: Visits = Visits()
    checkout: Checkout = Checkout()
    zipf: float = 0.9
    currency: str = "EUR"
    catalogue_seed: int = 1
    renewed: float = 0.0

    def __post_init__(self) -> None:
        """Raises: InvalidShop."""
        _check(self)


def load_shop(name: str | Path = DEFAULT_SHOP) -> Shop:
    """A shop by the name of a shipped one, or from a JSON file. Raises: InvalidShop."""
    path = Path(name)
    shipped = resources.files("training") / "shops" / f"{name}.json"
    try:
        if path.suffix == ".json" or path.is_file():
            raw = path.read_bytes()
        elif shipped.is_file():
            raw = shipped.read_bytes()
        else:
            raise InvalidShop(f"no shop {str(name)!r}: give a JSON file or one of {', '.join(shipped_shops())}")
        return msgspec.json.decode(raw, type=Shop)
    except OSError as error:
        raise InvalidShop(f"cannot read the shop {path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise InvalidShop(f"{name} is no shop: {error}") from error


def save_shop(shop: Shop, path: Path) -> None:
    """Writes the shop as indented JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(shop), indent=1) + b"\n")


def shipped_shops() -> list[str]:
    """The names that `load_shop` knows."""
    folder = resources.files("training") / "shops"
    return sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json"))


def _check(shop: Shop) -> None:
    count = len(shop.states)
    _require(count >= 1, "a shop needs a state")
    for state in shop.states:
        _require(
            set(state.types) <= set(EVENT_TYPES) - {PURCHASE}, f"{state.name}: types must be event types other than purchase"
        )
        _distribution(tuple(state.types.values()), f"{state.name}: types")
        _require(state.types.get("remove_from_cart", 0.0) < 1, f"{state.name}: nothing but remove_from_cart is impossible")
        _distribution(state.repeat, f"{state.name}: repeat")
        _require(state.repeat[0] + state.repeat[2] > 0, f"{state.name}: a view needs a new or the same item")
        _require(0 <= state.stay <= 1, f"{state.name}: stay must lie in [0, 1]")
        _distribution((state.proceed, state.purchase, state.end), f"{state.name}: proceed, purchase, end")
        _require(state.proceed < 1, f"{state.name}: a state must be able to end")
        _require(state.gap_sd >= _MIN_GAP_SD, f"{state.name}: gap_sd must be at least {_MIN_GAP_SD}")
    _require(len(shop.transitions) == count, "transitions needs a row for each state")
    for row in shop.transitions:
        _require(len(row) == count, "each row of transitions needs a column for each state")
        _distribution(row, "a row of transitions")
    for group in shop.groups:
        _require(len(group.start) == count, f"group {group.name}: start needs an entry for each state")
        _distribution(group.start, f"group {group.name}: start")
    _require(len(shop.categories) >= 2, "a shop needs at least two categories")
    for category in shop.categories:
        _require(0 <= category.group < len(shop.groups), f"category {category.name}: no group {category.group}")
        _require(category.share > 0 and category.items > 0 and category.brands > 0, f"category {category.name}: empty")
    _require(len(shop.visits.hours) == 24 and min(shop.visits.hours) > 0, "visits.hours needs 24 positive weights")
    _require(0 <= shop.visits.return_probability < 1, "visits.return_probability must lie in [0, 1)")
    _require(0 <= shop.checkout.proceed < 1, "checkout.proceed must lie in [0, 1)")
    _require(0 <= shop.renewed <= 1, "renewed must lie in [0, 1]")


def _distribution(values: tuple[float, ...], what: str) -> None:
    _require(min(values) >= 0 and abs(sum(values) - 1) < _TOLERANCE, f"{what} must be probabilities that sum to 1")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise InvalidShop(message)
