"""The fold of events in order of arrival against a batch query over the whole log (DuckDB), which shares no code with it."""

import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import msgspec
import numpy as np
import pytest

from tests.logs import fold_events
from training.read import EventFiles
from training.simulate import load_shop, simulate
from worker.contract.events import ClickEvent
from worker.contract.features import NUMBERS, ROW, FeatureSpec, bucket
from worker.contract.session import Session, SessionPolicy
from worker.contract.slab import Slab

#: Nobody is forgotten.
_POLICY = SessionPolicy(forget_ms=10 * 365 * 86_400_000)
#: Longer than any session here, so that nothing leaves a window.
_SPEC = FeatureSpec(window=4096)
_BATCH = 257
_START_MS = 1_760_000_000_000
#: A record is this much late at most, so some are too late.
_LATENESS_MS = 2 * _POLICY.grace_ms
_DATA = Path(os.environ.get("INKLING_TEST_DATA", "../shared/data"))
_FIRST = 20_000

#: What is known of an event: `kept` and then its session's number within the visitor and how many of it had arrived;
#: and where it is in the end, in order of event time.
_ORACLE = """
with arrived as (
    select *, max(event_time) over (
        partition by visitor_id order by "offset" rows between unbounded preceding and 1 preceding
    ) as newest
    from log
), numbered as (
    select *, sum(case when newest is null or event_time - newest >= $gap then 1 else 0 end) over (
        partition by visitor_id order by "offset"
    ) as session
    from arrived where newest is null or event_time >= newest - $grace
), kept as (
    select * from numbered qualify row_number() over (partition by visitor_id, session, event_id order by "offset") = 1
), visits as (
    select visitor_id, session, lag(max(event_time)) over (partition by visitor_id order by session) as before
    from kept group by visitor_id, session
)
select
    "offset", kept.visitor_id, session,
    count(*) over (partition by kept.visitor_id, session order by "offset") as arrived,
    row_number() over sequence as position,
    coalesce(event_time - lag(event_time) over sequence, 0) / 1000 as gap_s,
    (event_time - first_value(event_time) over sequence) / 1000 as elapsed_s,
    case when item = 0 then 0 else
        count(*) over (partition by kept.visitor_id, session, item order by event_time, "offset") - 1
    end as repeats,
    (event_time - before) / 1000 as since_visit_s
from kept join visits using (visitor_id, session)
window sequence as (partition by kept.visitor_id, session order by event_time, "offset")
order by "offset"
"""


def late_and_doubled(events: Sequence[ClickEvent], seed: int) -> list[ClickEvent]:
    """The events in the order of an arrival that delays a third of them, with copies of some."""
    draw = random.Random(seed)
    arrivals = []
    for event in events:
        for _ in range(1 + (draw.random() < 0.05)):
            delay_ms = draw.uniform(0, _LATENESS_MS) if draw.random() < 0.33 else 0
            arrivals.append((event.event_time + delay_ms, len(arrivals), event))
    return [event for *_, event in sorted(arrivals, key=lambda arrival: arrival[:2])]


def logs() -> Iterator[pytest.param]:
    for name in ("electronics", "rees46"):
        yield pytest.param(name, id=f"simulated {name}")
    for name in ("diginetica", "rees46_electronics", "retailrocket", "yoochoose"):
        path = _DATA / f"{name}.jsonl.gz"
        yield pytest.param(path, id=name, marks=pytest.mark.skipif(not path.exists(), reason=f"no {path}"))


def events_of(source: str | Path) -> list[ClickEvent]:
    if isinstance(source, Path):
        return [event for event, _ in zip(EventFiles([source]).events(), range(_FIRST), strict=False)]
    return list(simulate(load_shop(source), 1500, 5, _START_MS, hours=48).events())


@pytest.mark.slow
@pytest.mark.parametrize("source", list(logs()))
def test_the_whole_log_at_once_says_the_same(source: str | Path) -> None:
    """Which events count, how they are cut into sessions, and where the late ones end up among the others."""
    log = late_and_doubled(events_of(source), seed=1)
    expected = oracle(log)
    slab = Slab(_SPEC, _POLICY)
    at, session, position = [], [], []
    for start in range(0, len(log), _BATCH):
        events = log[start : start + _BATCH]
        step = fold_events(slab, events, range(start, start + len(events)))
        at += (step.at + start).tolist()
        session += step.session.tolist()
        position += step.position.tolist()
    # The log is worth it: some are late and put in their place, some too late, some copies.
    assert len(log) - len(at) > 20
    assert sum(row["position"] != row["arrived"] for row in expected) > 20
    assert at == [row["offset"] for row in expected]
    assert position == [row["arrived"] for row in expected]
    # The same sessions, whatever they are called.
    ours = dict(zip(at, session, strict=True))
    theirs = {row["offset"]: (row["visitor_id"], row["session"]) for row in expected}
    pairs = {(ours[offset], theirs[offset]) for offset in at}
    assert len(pairs) == len(set(ours.values())) == len(set(theirs.values()))
    newest = {row["visitor_id"]: row["session"] for row in expected}
    rows = {row["offset"]: row for row in expected if row["session"] == newest[row["visitor_id"]]}
    compare_windows(list(slab.sessions()), rows)


def oracle(log: Sequence[ClickEvent]) -> list[dict[str, int | float | str | None]]:
    """What the query says of each event that counts."""
    # Items are told apart by their buckets only.
    items = [bucket("item", event.item_id, _SPEC.item_buckets) if event.item_id else 0 for event in log]
    times, ids, visitors = zip(*((event.event_time, event.event_id, event.visitor_id) for event in log), strict=True)
    with duckdb.connect() as database:
        database.execute('create table log ("offset" bigint, event_time bigint, event_id text, visitor_id text, item bigint)')
        database.execute(
            "insert into log select unnest($1), unnest($2), unnest($3), unnest($4), unnest($5)",
            [list(range(len(log))), list(times), list(ids), list(visitors), items],
        )
        found = database.execute(_ORACLE, {"gap": _POLICY.gap_ms, "grace": _POLICY.grace_ms})
        fields = [column[0] for column in found.description or ()]
        return [dict(zip(fields, row, strict=True)) for row in found.fetchall()]


def compare_windows(sessions: Sequence[Session], rows: dict[int, dict[str, int | float | str | None]]) -> None:
    """The window of each visitor's newest session against the rows of the query."""
    seen = 0
    for session in sessions:
        window = np.frombuffer(session.rows, ROW)
        expected = [rows[offset] for offset in window["offset"].tolist()]
        assert [row["position"] for row in expected] == list(range(1, len(window) + 1))
        for name in ("position", "gap_s", "elapsed_s", "repeats", "since_visit_s"):
            values = np.array([row[name] for row in expected], np.float32)  # None is NaN
            told = window["numbers"][:, NUMBERS.index(name)]
            np.testing.assert_array_equal(told[1:] if name == "gap_s" else told, values[1:] if name == "gap_s" else values, name)
        seen += len(window)
    assert seen == len(rows)


def test_the_oracle_is_not_asked_in_vain() -> None:
    """One event in another place is found out."""
    log = [
        ClickEvent("a", _START_MS, "v", "view", item_id="i"),
        ClickEvent("b", _START_MS + 60_000, "v", "view", item_id="i"),
    ]
    swapped = [msgspec.structs.replace(log[0], event_time=_START_MS + 90_000), log[1]]
    assert [row["position"] for row in oracle(log)] == [1, 2]
    assert [row["position"] for row in oracle(swapped)] == [2, 1]
