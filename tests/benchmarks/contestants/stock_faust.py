"""A stock Faust agent with a Table: the last 64 events and their number by visitor, one score record an event."""

import json
import sys
import time
from pathlib import Path

import faust

job = json.loads(sys.argv.pop())
report = Path(job["report"])
app = faust.App(
    job["group"],
    env={},
    broker=f"kafka://{job['bootstrap']}",
    store="memory://",
    datadir=job["state_dir"],
    web_enabled=False,
    broker_commit_interval=1.0,
    topic_partitions=job["partitions"],
)
clicks = app.topic(job["clicks"], key_serializer="raw", value_serializer="json")
scores = app.topic(job["output"], key_serializer="raw", value_serializer="json")
sessions = app.Table("sessions", partitions=job["partitions"], key_type=str)
started = False


@app.agent(clicks)
async def score(events):
    global started
    async for event in events:
        if not started:
            started = True
            report.write_text(f"{time.time()}\n")
        visitor = event["visitor_id"]
        session = sessions.get(visitor) or {"count": 0, "events": []}
        row = [event["event_time"], event["event_type"], event.get("item_id"), event.get("price")]
        session = {"count": session["count"] + 1, "events": [*session["events"][-63:], row]}
        sessions[visitor] = session
        await scores.send(key=visitor.encode(), value={"event_id": event["event_id"], "count": session["count"], "p": 0.25})


if __name__ == "__main__":
    faust.Worker(app, loglevel="ERROR", redirect_stdouts=False).execute_from_commandline()
