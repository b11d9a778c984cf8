"""The clicks and failpoints of the real-process faults follow from their seed."""

from collections import Counter

from tests.faults.real.failpoints import FAILPOINTS, Armed
from tests.faults.real.traffic import Record, Shares, Traffic
from worker.contract.codec import decode
from worker.contract.events import ClickEvent
from worker.contract.features import FeatureSpec
from worker.contract.fold import Fold
from worker.contract.session import Outcome, SessionPolicy

NOW_MS = 1_790_000_000_000


def _taken(seed: int) -> list[Record]:
    return Traffic(seed, 3_000, 4, NOW_MS).take(3_000)


def test_the_same_seed_gives_the_same_records() -> None:
    """And another one gives others."""
    assert _taken(1) == _taken(1)
    assert _taken(1) != _taken(2)


def test_everything_is_mixed_in() -> None:
    """Late, too late, twice, broken; most are plain clicks."""
    folds = [Fold(FeatureSpec(), SessionPolicy()) for _ in range(4)]
    seen: Counter[Outcome | None] = Counter()
    for offset, record in enumerate(_taken(3)):
        event = decode(record.value, record.key, NOW_MS, 86_400_000)
        seen[folds[record.partition].apply(event, offset).outcome if isinstance(event, ClickEvent) else None] += 1
    assert set(seen) == {*Outcome, None}
    assert seen[None] + seen[Outcome.TOO_LATE] + seen[Outcome.DUPLICATE] < 600


def test_a_probe_goes_on_where_its_visitor_stopped() -> None:
    """One for every visitor of good clicks, in the session that the visitor was in."""
    traffic = Traffic(4, 1_000, 2, NOW_MS, Shares(late=0, too_late=0, twice=0, bad=0, odd=0))
    folds = [Fold(FeatureSpec(), SessionPolicy()) for _ in range(2)]
    for offset, record in enumerate([*traffic.take(1_000), *(probes := traffic.probes())]):
        event = decode(record.value, record.key, NOW_MS, 86_400_000)
        assert isinstance(event, ClickEvent)
        outcome = folds[record.partition].apply(event, offset).outcome
        assert outcome is Outcome.APPENDED or not event.event_id.startswith("probe-")
    assert len(probes) == sum(len(fold.sessions) for fold in folds)


def test_a_failpoint_survives_the_environment() -> None:
    """As text and back."""
    for failpoint in FAILPOINTS:
        armed = Armed(failpoint, 3, 0.5, "SIGSTOP")
        assert Armed.parse(str(armed)) == armed
