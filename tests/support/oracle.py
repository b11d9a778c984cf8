"""A batch query over a whole log of clicks (DuckDB), which shares no code with the fold but the buckets of items."""

import random
from collections.abc import Sequence

import duckdb

from worker.contract.events import ClickEvent
from worker.contract.features import FeatureSpec, bucket
from worker.contract.session import SessionPolicy

Answer = dict[str, int | float | str | None]

#: Nobody is forgotten.
POLICY = SessionPolicy(forget_ms=10 * 365 * 86_400_000)
#: Longer than any session here, so that nothing leaves a window.
SPEC = FeatureSpec(window=4096)
START_MS = 1_760_000_000_000
#: A record is this much late at most, so some are too late.
_LATENESS_MS = 2 * POLICY.grace_ms

#: The events that count, and their session's number within the visitor.
_KEPT = """
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
)
"""

#: Of those, how many of the session had arrived; and where the event is in the end, in order of event time.
_SESSIONS = f"""
{_KEPT}, visits as (
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

#: Which events go to a user's sequence, and because of which: that one itself, and what lies before it in its session of those
#: without a user that had arrived, unless one with a user had that lies between, or behind it.
_COPIES = f"""
{_KEPT}
select login."offset" as cause, moved."offset" as "offset", login.user_id
from kept login join kept moved using (visitor_id, session)
where login.user_id is not null and (moved."offset" = login."offset" or (
    moved.user_id is null and moved."offset" < login."offset"
    and (moved.event_time, moved."offset") < (login.event_time, login."offset")
    and not exists (
        from kept other where (other.visitor_id, other.session) = (login.visitor_id, login.session)
        and other.user_id is not null and other."offset" < login."offset"
        and (other.event_time, other."offset") > (moved.event_time, moved."offset")
    )
))
order by cause, moved.event_time, moved."offset"
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


def sessions(log: Sequence[ClickEvent]) -> list[Answer]:
    """What there is to say of each event that counts."""
    return _asked(_SESSIONS, log)


def copies(log: Sequence[ClickEvent]) -> list[Answer]:
    """What is to be copied for users."""
    return _asked(_COPIES, log)


def _asked(query: str, log: Sequence[ClickEvent]) -> list[Answer]:
    # Items are told apart by their buckets only.
    items = [bucket("item", event.item_id, SPEC.item_buckets) if event.item_id else 0 for event in log]
    columns = zip(*((event.event_time, event.event_id, event.visitor_id, event.user_id) for event in log), strict=True)
    with duckdb.connect() as database:
        database.execute(
            'create table log ("offset" bigint, item bigint, event_time bigint, event_id text, visitor_id text, user_id text)'
        )
        database.execute(
            "insert into log select unnest($1), unnest($2), unnest($3), unnest($4), unnest($5), unnest($6)",
            [list(range(len(log))), items, *map(list, columns)],
        )
        found = database.execute(query, {"gap": POLICY.gap_ms, "grace": POLICY.grace_ms})
        fields = [column[0] for column in found.description or ()]
        return [dict(zip(fields, row, strict=True)) for row in found.fetchall()]
