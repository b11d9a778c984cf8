"""Sound events as JSON, changed in one place."""

import json
from collections.abc import Mapping
from typing import Any

from worker.contract.events import Reason

#: What `worker.settings` allows by default.
MAX_FUTURE_MS = 86_400_000
VISITOR = "corpus-visitor"

#: A class of bad values: its name, the reason for all of them, and the values by name.
BadClass = tuple[str, Reason, Mapping[str, bytes | None]]


class Record:
    """Writes one sound event as JSON, changed in one place."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self._made = 0

    def fields(self) -> dict[str, Any]:
        self._made += 1
        return {
            "event_id": f"corpus-{self._made}",
            "event_time": self.now_ms,
            "visitor_id": VISITOR,
            "event_type": "view",
            "item_id": "item-1",
            "price": 9.5,
        }

    def with_(self, **changes: Any) -> bytes:
        """Fields set to values."""
        return json.dumps(self.fields() | changes, ensure_ascii=False).encode()

    def without(self, *names: str) -> bytes:
        return json.dumps({name: value for name, value in self.fields().items() if name not in names}).encode()

    def literal(self, field: str, text: str | bytes) -> bytes:
        """A field's value as written out, which need not be JSON."""
        written = text.encode() if isinstance(text, str) else text
        return self.without(field)[:-1] + f', "{field}": '.encode() + written + b"}"
