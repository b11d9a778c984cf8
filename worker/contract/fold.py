"""The fold of one partition's log: what the worker, training and audit all call for every event, in order."""

from collections.abc import MutableMapping, Sequence
from typing import NamedTuple

from worker.contract.counters import Counters
from worker.contract.events import ClickEvent
from worker.contract.features import FeatureSpec, event_codes, hash64
from worker.contract.revision import Revision, revisions
from worker.contract.session import Arrival, Outcome, Session, SessionPolicy


class Step(NamedTuple):
    """An event folded in: the visitor's session after it, what the event did, and which others are to be scored anew for it."""

    session: Session
    outcome: Outcome
    revisions: Sequence[Revision] = ()


class Fold:
    """Sessions and counters of one partition. The same events in the same order give the same bytes, anywhere.

    A visitor of whom nothing came while the newest event time of the partition rose by `policy.forget_ms` is forgotten: whoever
    comes again after that begins anew. Whether the session is still in `sessions` makes no difference; `expire` drops it.
    """

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
        self.newest_ms = 0  # event time
        self._seen_ms: dict[str, int] = {}  # visitor -> the newest event time when the session last changed

    def apply(self, event: ClickEvent, offset: int) -> Step:
        """Fold one event in. `offset` is where it stands in the partition's log."""
        self.newest_ms = max(self.newest_ms, event.event_time)
        known = self.sessions.get(event.visitor_id)
        before = Session(event.visitor_id) if known is None or self._is_forgotten(known) else known
        codes = event_codes(event, self.spec)
        shared = self.counters.read(codes, event.event_time)
        remote = event.event_time + self.policy.forget_ms <= self.newest_ms
        arrival = Arrival(event, hash64("event", event.event_id), offset, codes, shared, remote)
        session, outcome = before.append(arrival, self.spec, self.policy)
        if outcome.changed:
            self.sessions[event.visitor_id] = session
            self._seen_ms[event.visitor_id] = self.newest_ms
            self.counters.add(event, codes)
        return Step(session, outcome, revisions(before, arrival, session, self.spec) if outcome is Outcome.LATE else ())

    def expire(self) -> None:
        """Drop the sessions of forgotten visitors."""
        for visitor in [visitor for visitor, session in self.sessions.items() if self._is_forgotten(session)]:
            del self.sessions[visitor], self._seen_ms[visitor]

    def _is_forgotten(self, session: Session) -> bool:
        return self._seen_ms.get(session.visitor_id, session.last_ms) + self.policy.forget_ms <= self.newest_ms
