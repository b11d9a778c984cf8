"""Sound events as JSON, changed in one place."""

import json
import random
from collections.abc import Mapping
from typing import Any

from worker.contract.events import EVENT_TYPES, Reason

#: What `worker.settings` allows by default.
MAX_FUTURE_MS = 86_400_000
VISITOR = "corpus-visitor"

#: A class of bad values: its name, the reason for all of them, and the values by name.
BadClass = tuple[str, Reason, Mapping[str, bytes | None]]

_TEXTS = ("item-1", "sku 77/b", "лампа", "椅子", "ä ö", "😀", "", "0", "null")


class Record:
    """Writes one sound event as JSON, changed in one place.

    `dice` decides what the event is otherwise, and whatever a variant leaves open; without any, every run gets the same.
    `large` says whether values of many kilobytes are wanted.
    """

    def __init__(self, now_ms: int, dice: random.Random | None = None, large: bool = True) -> None:
        self.now_ms = now_ms
        self.dice = dice or random.Random(0)
        self.large = large
        self.visitor = VISITOR if dice is None else f"corpus-{dice.randrange(40)}"
        self._drawn = dice is not None
        self._name = f"corpus-{dice.randrange(2**48):012x}" if dice is not None else "corpus"
        self._made = 0

    def fields(self) -> dict[str, Any]:
        self._made += 1
        fields: dict[str, Any] = {
            "event_id": f"{self._name}-{self._made}",
            "event_time": self.now_ms,
            "visitor_id": self.visitor,
            "event_type": "view",
            "item_id": "item-1",
            "price": 9.5,
        }
        if self._drawn:
            dice = self.dice
            fields |= {
                "event_time": self.now_ms - dice.randrange(600_000),
                "event_type": dice.choice(EVENT_TYPES),
                "item_id": dice.choice(_TEXTS),
                "price": dice.choice((0, 1, 9.5, 1e6, 0.1)),
            }
            fields |= {name: dice.choice(_TEXTS) for name in ("brand", "category", "title", "device") if dice.random() < 0.3}
        return fields

    def with_(self, **changes: Any) -> bytes:
        """Fields set to values."""
        return json.dumps(self.fields() | changes, ensure_ascii=False).encode()

    def without(self, *names: str) -> bytes:
        """In ASCII."""
        return json.dumps({name: value for name, value in self.fields().items() if name not in names}).encode()

    def literal(self, field: str, text: str | bytes) -> bytes:
        """A field's value as written out, which need not be JSON."""
        written = text.encode() if isinstance(text, str) else text
        return self.without(field)[:-1] + f', "{field}": '.encode() + written + b"}"
