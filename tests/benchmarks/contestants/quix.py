"""Quix Streams with state and changelog: the last 64 events and their number by visitor, one score record an event."""

import json
import sys
import time
from pathlib import Path

from quixstreams import Application, State

job = json.loads(sys.argv[1])
report = Path(job["report"])
app = Application(
    broker_address=job["bootstrap"],
    consumer_group=job["group"],
    auto_offset_reset="earliest",
    commit_interval=1.0,
    state_dir=job["state_dir"],
    loglevel="ERROR",
)
clicks = app.topic(job["clicks"], key_deserializer="str", value_deserializer="json")
scores = app.topic(job["output"], key_serializer="str", value_serializer="json")
started = False


def score(event: dict, state: State) -> dict:
    global started
    if not started:
        started = True
        report.write_text(f"{time.time()}\n")
    session = state.get("session") or {"count": 0, "events": []}
    row = [event["event_time"], event["event_type"], event.get("item_id"), event.get("price")]
    session = {"count": session["count"] + 1, "events": [*session["events"][-63:], row]}
    state.set("session", session)
    return {"event_id": event["event_id"], "count": session["count"], "p": 0.25}


if __name__ == "__main__":
    app.dataframe(clicks).apply(score, stateful=True).to_topic(scores)
    app.run()
