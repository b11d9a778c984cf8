"""Sound events that are odd together: what they mean, and in what order they come."""

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from tests.corpus.record import MAX_FUTURE_MS
from worker.contract.events import EVENT_TYPES

_DAY_MS = 86_400_000
_GAP_MS = 1_800_000


class Story(NamedTuple):
    """Keys and values in the order in which they are to be sent. Every one is an event; policy may drop some."""

    kind: str
    records: list[tuple[bytes, bytes]]


def stories(now_ms: int, dice: random.Random, length: int = 200) -> Iterator[Story]:
    """One of each kind; the long ones have `length` events. Visitors and event ids are new ones."""
    for kind, make in {
        "purchase with no view": _purchase_alone,
        "remove before cart": _remove_first,
        "unknown item every time": _new_items,
        "very long session": _long_session,
        "all at the same time": _same_time,
        "backwards in time": _backwards,
        "clock ahead and back": _clock_ahead,
        "a session per event": _many_sessions,
        "the same record again and again": _one_record,
        "one event id for everything": _one_id,
        "event id of another visitor": _borrowed_id,
        "names that look alike": _alike,
        "log in, log out": _log_in,
        "price all over the place": _prices,
        "bot": _bot,
    }.items():
        teller = _Teller(now_ms, dice)
        make(teller, dice, length)
        yield Story(kind, teller.records)


class _Teller:
    def __init__(self, now_ms: int, dice: random.Random) -> None:
        self.now_ms = now_ms
        self.name = f"story-{dice.randrange(2**48):012x}"
        self.records: list[tuple[bytes, bytes]] = []

    def tell(self, kind: str, ago_ms: int, visitor: str | None = None, **fields: Any) -> None:
        """An event `ago_ms` before now; negative for the future."""
        visitor = self.name if visitor is None else visitor
        event = {
            "event_id": f"{self.name}-{len(self.records)}",
            "event_time": self.now_ms - ago_ms,
            "visitor_id": visitor,
            "event_type": kind,
        }
        self.records.append((visitor.encode(), msgspec.json.encode(event | fields)))


def _purchase_alone(teller: _Teller, dice: random.Random, length: int) -> None:
    teller.tell("purchase", 0, item_id="never-seen", price=dice.uniform(0, 100), quantity=dice.randint(0, 9))


def _remove_first(teller: _Teller, dice: random.Random, length: int) -> None:
    for ago_ms, kind in enumerate(("cart", "remove_from_cart", "remove_from_cart", "purchase", "remove_from_cart")):
        teller.tell(kind, 10_000 - ago_ms, item_id=dice.choice(("a", "b")))


def _new_items(teller: _Teller, dice: random.Random, length: int) -> None:
    for n in range(length):
        teller.tell("view", (length - n) * 100, item_id=f"item-{dice.randrange(2**40)}", category=f"c{n}", brand=f"b{n}")


def _long_session(teller: _Teller, dice: random.Random, length: int) -> None:
    for n in range(length):
        teller.tell(dice.choice(EVENT_TYPES), (length - n) * 1_000, item_id=str(dice.randrange(50)))


def _same_time(teller: _Teller, dice: random.Random, length: int) -> None:
    for _ in range(length):
        teller.tell(dice.choice(EVENT_TYPES), 0, item_id=str(dice.randrange(5)))


def _backwards(teller: _Teller, dice: random.Random, length: int) -> None:
    for n in range(length):
        teller.tell("view", n * dice.choice((0, 1_000, 5_000)), item_id=str(n))


def _clock_ahead(teller: _Teller, dice: random.Random, length: int) -> None:
    teller.tell("view", 5_000)
    teller.tell("view", -(MAX_FUTURE_MS - 60_000))
    for n in range(10):
        teller.tell("view", 4_000 - n)


def _many_sessions(teller: _Teller, dice: random.Random, length: int) -> None:
    for n in range(length):
        teller.tell("view", (length - n) * _GAP_MS - dice.choice((0, 1)), item_id="a")


def _one_record(teller: _Teller, dice: random.Random, length: int) -> None:
    teller.tell("view", 0, item_id="a")
    teller.records *= length


def _one_id(teller: _Teller, dice: random.Random, length: int) -> None:
    for n in range(length):
        teller.tell("view", length - n, event_id=teller.name, item_id=str(n))


def _borrowed_id(teller: _Teller, dice: random.Random, length: int) -> None:
    for n in range(20):
        teller.tell("cart", 1_000 - n, f"{teller.name}-{n % 4}", event_id=f"{teller.name}-{n // 4}", item_id="a")


def _alike(teller: _Teller, dice: random.Random, length: int) -> None:
    names = ("é", "e\u0301", "E\u0301", "é ", " é", "é\u200b", "\u202eé", "ｅ")  # noqa: RUF001  # that is the point
    for n in range(40):
        teller.tell("view", 1_000 - n, f"{teller.name}{dice.choice(names)}", item_id=str(n))


def _log_in(teller: _Teller, dice: random.Random, length: int) -> None:
    for n in range(40):
        teller.tell(
            "view", 1_000 - n, f"{teller.name}-{dice.randrange(3)}", user_id=dice.choice((None, "u1", "u2", "")), item_id=str(n)
        )


def _prices(teller: _Teller, dice: random.Random, length: int) -> None:
    for n in range(40):
        price = dice.choice((None, 0, 5e-324, 1e-30, 0.1, 1, 1e12, dice.uniform(0, 1e12)))
        teller.tell("cart", 1_000 - n, item_id="a", price=price, currency=dice.choice((None, "EUR", "", "XXX", "€")))


def _bot(teller: _Teller, dice: random.Random, length: int) -> None:
    start_ms = dice.randrange(_DAY_MS)
    for n in range(length):
        teller.tell(
            dice.choice(("view", "search")), start_ms - n, item_id=str(n), query="q" * dice.randrange(2_000), device="curl/8"
        )
