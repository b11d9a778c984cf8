"""The live page: what goes through Inkling right now, and where the learning loop stands.

ring.py      counts per second, over a bounded stretch of time
sessions.py  which visitors are shown, and what is known of them
quality.py   log-loss by version on matured labels
snapshot.py  what is sent to the page
state.py     the aggregator: contract values in, snapshot out; no clock, no Kafka
feed.py      Kafka in
server.py    HTTP out: the page, and snapshots as server-sent events
static/      the page itself: plain HTML, CSS and JavaScript modules, nothing from elsewhere
"""
