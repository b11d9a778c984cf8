"""A short log and, field by field, what the contract made of it when it was written down."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from worker.contract.codec import MAX_EVENT_TIME_MS, decode
from worker.contract.events import ClickEvent
from worker.contract.features import CODES, NUMBERS, ROW, FeatureSpec
from worker.contract.fold import Fold
from worker.contract.session import SessionPolicy

CLICKS = Path(__file__).parent / "clicks.jsonl"
STEPS = Path(__file__).parent / "steps.jsonl"
#: The default spec and policy, but for a window that fills and as few buckets as there once were.
SPEC = FeatureSpec(window=6, item_buckets=4096)
POLICY = SessionPolicy()


def golden_clicks() -> list[ClickEvent]:
    """The events of the log, in order; the offset of each is its place."""
    events = []
    for line in CLICKS.read_bytes().splitlines():
        event = decode(line, json.loads(line)["visitor_id"].encode(), MAX_EVENT_TIME_MS, 0)
        assert isinstance(event, ClickEvent)
        events.append(event)
    return events


def golden_steps() -> list[dict[str, Any]]:
    """What each event does now, and last the hash of all counters."""
    fold = Fold(SPEC, POLICY)
    steps = []
    for offset, event in enumerate(golden_clicks()):
        session, outcome, _ = fold.apply(event, offset)
        row = np.frombuffer(session.rows, ROW)[-1]
        steps.append(
            {
                "event": event.event_id,
                "outcome": outcome.value,
                "session": session.session_id,
                "position": session.position,
                "window": len(session.rows) // ROW.itemsize,
                "input_hash": session.input_hash,
                "newest": {
                    **dict(zip(CODES, row["codes"].tolist(), strict=True)),
                    # Nine digits tell any two float32 apart.
                    **{name: f"{value:.9g}" for name, value in zip(NUMBERS, row["numbers"].tolist(), strict=True)},
                },
                "rows_sha256": hashlib.sha256(session.rows).hexdigest(),
            }
        )
    counters = b"".join(fold.counters.block(number) for number in range(fold.counters.blocks))
    return [*steps, {"counters_sha256": hashlib.sha256(counters).hexdigest()}]


def written(steps: list[dict[str, Any]]) -> str:
    """Steps as the golden file holds them."""
    return "".join(json.dumps(step) + "\n" for step in steps)
