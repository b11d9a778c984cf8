"""The fold of one partition's log: what the worker, training and audit all call for every event, in order."""

from collections.abc import MutableMapping
from typing import NamedTuple

from worker.contract.counters import Counters
from worker.contract.events import ClickEvent
from worker.contract.features import FeatureSpec, event_codes, hash64
from worker.contract.session import Arrival, Outcome, Session, SessionPolicy


class Step(NamedTuple):
    """An event folded in: the visitor's session after it, and what the event did."""

    session: Session
    outcome: Outcome


class Fold:
    """Sessions and counters of one partition. The same events in the same order give the same bytes, anywhere."""

    def __init__(
        self,
        spec: FeatureSpec,
        policy: SessionPolicy,
        sessions: MutableMapping[str, Session] | None = None,
        counters: Counters | None = None,
    ) -> None:
        self.spec = spec
        self.policy = policy
        self.sessions: MutableMapping[str, Session] = {} if sessions is None else sessions
        self.counters = Counters(spec) if counters is None else counters

    def apply(self, event: ClickEvent, offset: int) -> Step:
        """Fold one event in. `offset` is where it stands in the partition's log."""
        before = self.sessions.get(event.visitor_id) or Session(event.visitor_id)
        codes = event_codes(event, self.spec)
        shared = self.counters.read(codes, event.event_time)
        arrival = Arrival(event, hash64("event", event.event_id), offset, codes, shared)
        session, outcome = before.append(arrival, self.spec, self.policy)
        if outcome.changed:
            self.sessions[event.visitor_id] = session
            self.counters.add(event, codes)
        return Step(session, outcome)
