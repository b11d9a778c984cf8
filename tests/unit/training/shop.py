"""Small logs of events for the tests of training."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from training.read import LoggedEvent, logged
from worker.contract.events import EVENT_TYPES, ClickEvent

T0 = 1_700_000_000_000
MINUTE = 60_000
HOUR = 60 * MINUTE


def click(number: int, time_ms: int, visitor: str = "v", kind: str = "view", item: str | None = "i1") -> ClickEvent:
    """Event `e<number>`, `time_ms` after T0."""
    return ClickEvent(f"e{number}", T0 + time_ms, visitor, kind, item_id=item)  # type: ignore[arg-type]


def random_log(seed: int, events: int = 400, visitors: int = 5, span_ms: int = 40 * HOUR) -> list[ClickEvent]:
    """Sorted events of a few visitors: sessions from one event to more than a window, pauses up to days, equal times."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, span_ms // 1000, events // 2)) * 1000
    times = np.sort(np.concatenate([times, rng.choice(times, events - len(times)) + rng.integers(0, 3, events - len(times))]))
    kinds = rng.choice(EVENT_TYPES, events, p=[0.6, 0.05, 0.05, 0.15, 0.03, 0.08, 0.02, 0.02])
    return [
        click(k, int(time), f"v{rng.integers(visitors)}", str(kind), f"i{rng.integers(9)}" if rng.uniform() < 0.9 else None)
        for k, (time, kind) in enumerate(zip(times, kinds, strict=True))
    ]


def on_one_partition(events: Iterable[ClickEvent]) -> list[LoggedEvent]:
    return list(logged(events, 1))


def write_jsonl(path: Path, events: Iterable[ClickEvent], *more: bytes) -> Path:
    """The events as a file, `more` lines at its end."""
    lines = [json.dumps({name: getattr(e, name) for name in ("event_id", "event_time", "visitor_id", "event_type", "item_id")})
             for e in events]  # fmt: skip
    path.write_bytes(b"".join(line.encode() + b"\n" for line in lines) + b"".join(line + b"\n" for line in more))
    return path
