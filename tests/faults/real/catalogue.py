"""Every scenario by name."""

from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple

from tests.faults.real import broker, disk, flood, group, kills, model, topics
from tests.faults.real.failpoints import FAILPOINTS
from tests.faults.real.stage import Stage
from tests.faults.real.traffic import Shares


class Scenario(NamedTuple):
    """`play` does the harm and lets workers finish; it returns what was injected."""

    name: str
    play: Callable[[Stage], Awaitable[str]]
    session_timeout_s: float = 2.0
    with_model: bool = False
    shares: Shares = Shares()
    delivery: Literal["at_least_once", "exactly_once"] = "at_least_once"
    hot_sessions: int | None = None
    follow_users: bool = False
    clicks_config: dict[str, str] = {}  # noqa: RUF012  # a field, and never changed


#: The one that is long, and whose number of records is given by itself.
FLOOD = "flood"
_HOSTILE = Shares(late=0.04, too_late=0.01, twice=0.03, bad=0.3, odd=0.1, large=0.002)

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        *(Scenario(f"kill-at-{failpoint}", kills.kill_at(failpoint)) for failpoint in FAILPOINTS),
        Scenario("kill-at-random", kills.kill_at_random),
        Scenario("exactly-once-killed", kills.kill_anywhere, delivery="exactly_once"),
        Scenario("killed-with-sessions-on-disk", kills.with_sessions_on_disk, hot_sessions=3),
        Scenario("users-followed", kills.kill_anywhere_with_copies, follow_users=True),
        Scenario("users-followed-exactly-once", kills.kill_anywhere, delivery="exactly_once", follow_users=True),
        Scenario("end-twice", kills.end_twice, session_timeout_s=10.0),
        Scenario("zombie", group.zombie),
        Scenario("pause", group.pause, session_timeout_s=10.0),
        Scenario("scale", group.scale, session_timeout_s=10.0),
        Scenario("broker-killed", broker.killed),
        Scenario("broker-restarted", broker.restarted),
        Scenario("broker-stopped", broker.stopped),
        Scenario("dead-letters-refused", topics.dead_letters_refused),
        Scenario("dead-letters-gone", topics.dead_letters_gone),
        Scenario("offsets-set-back", topics.offsets_set_back),
        Scenario("changelog-emptied", topics.changelog_emptied),
        Scenario("changelog-truncated", topics.changelog_truncated),
        Scenario("partitions-added", topics.partitions_added),
        Scenario("log-damaged", disk.log_damaged),
        Scenario(FLOOD, flood.flood, 10.0, shares=_HOSTILE, clicks_config={"max.message.bytes": str(flood.CLICKS_BYTES)}),
        Scenario("triton-killed", model.killed, with_model=True),
        Scenario("triton-stopped", model.stopped, with_model=True),
        Scenario("disk-full", model.disk_full, with_model=True),
    )
}
