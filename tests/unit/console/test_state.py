"""The aggregator: records in, a snapshot out, without a clock of its own."""

import sys

import pytest

from tests.support.console_traffic import Shop
from worker.console import quality as quality_module
from worker.console import sessions as sessions_module
from worker.console.state import BIN_S, BINS, WINDOW_S, Aggregator, PointerRecord
from worker.contract.events import ClickEvent, InvalidRecord, OutcomeEvent, Reason, ScoreEvent

NOW = 1_760_000_000_000


def click(at_ms: int) -> ClickEvent:
    return ClickEvent(f"e{at_ms}", 0, "ann", "view")


def score(age_ms: int = 10, version: str = "7", path: str = "model") -> ScoreEvent:
    said: dict[str, dict[str, float] | float] = {"purchase": {"session": 0.5}}
    return ScoreEvent("i", "e", "ann", "s", 1, 0, 0, age_ms, True, "intent", version, path, "", said)  # type: ignore[arg-type]


def outcome(version: str = "7") -> OutcomeEvent:
    return OutcomeEvent("o", "i", "e", "ann", "purchase", "session", 1, False, None, 0, 0.5, version, "model")


def pointer(version: str, previous: str | None = None, by: str = "finetune", at: int = NOW) -> PointerRecord:
    return PointerRecord(version, previous, by, f"better than {previous}", at, NOW - 60_000)


def test_an_empty_page_claims_nothing() -> None:
    """Before anything arrived there are no shares, no percentiles and no steps of the loop, and no division fails."""
    snapshot = Aggregator().snapshot(NOW)
    assert snapshot.feed.state == "connecting"
    assert (snapshot.traffic.events_per_s, snapshot.latency.p99_ms, snapshot.latency.within) == (0, None, None)
    assert (snapshot.dead.count, snapshot.dead.share) == (0, None)
    assert (snapshot.sessions, snapshot.quality, snapshot.versions.lines) == ([], [], [])
    assert [(step.name, step.at_ms) for step in snapshot.loop] == [
        (name, None) for name in ("scoring", "outcomes", "finetune", "gate", "swap")
    ]


def test_rates_are_of_seconds_that_have_passed() -> None:
    """Ten events a second are ten, also while the present second has only begun."""
    aggregator = Aggregator()
    for ago in range(0, 20_000, 100):
        aggregator.click(click(ago), NOW - ago)
    traffic = aggregator.snapshot(NOW).traffic
    assert traffic.events_per_s == 10
    assert traffic.series[-19:] == [10] * 19
    assert len(traffic.series) == WINDOW_S


def test_event_time_does_not_matter() -> None:
    """A replay of last year's clicks is shown by when it arrives."""
    aggregator = Aggregator()
    aggregator.click(ClickEvent("e", 1_500_000_000_000, "ann", "view"), NOW - 1000)
    assert sum(aggregator.snapshot(NOW).traffic.series) == 1


def test_latency_is_against_the_objective() -> None:
    """`within` is the share up to 250 ms, exactly at the limit included."""
    aggregator = Aggregator()
    for age_ms in (10, 250, 251, 4000):
        aggregator.score(score(age_ms), NOW - 2000)
    latency = aggregator.snapshot(NOW).latency
    assert latency.within == 0.5
    assert latency.p50_ms == pytest.approx(250, rel=0.03)
    assert latency.p99_ms == pytest.approx(4000, rel=0.03)


def test_paths_and_dead_letters_are_counted() -> None:
    """Fallback answers and dead letters show by number, share and reason; an unknown reason is counted without a name."""
    aggregator = Aggregator()
    for number in range(8):
        aggregator.click(click(number), NOW - 2000)
        aggregator.score(score(path="fallback" if number == 0 else "model"), NOW - 2000)
    for _ in range(2):
        aggregator.click(InvalidRecord(Reason.NOT_JSON, ""), NOW - 2000)
    for reason in ("not_json", "bad_id", "not_json", "<script>", None):
        aggregator.dead(reason, NOW - 2000)
    snapshot = aggregator.snapshot(NOW)
    assert (snapshot.paths.model, snapshot.paths.fallback) == (7, 1)
    assert (snapshot.dead.count, snapshot.dead.share) == (5, 0.5)
    assert snapshot.dead.reasons == [("not_json", 2), ("bad_id", 1)]


def test_skipped_records_count_as_traffic_and_are_owned_up_to() -> None:
    """What was not read is in the rate, and the page is told how much it was."""
    aggregator = Aggregator()
    aggregator.skip("events", 500, NOW - 1000)
    snapshot = aggregator.snapshot(NOW)
    assert sum(snapshot.traffic.series) == 500
    assert snapshot.feed.skipped == 500


def test_a_swap_shows_in_the_lines_and_in_the_loop() -> None:
    """Scores change from one version's line to the other's in the bin of the swap, and the loop tells who, why and until when."""
    aggregator = Aggregator()
    aggregator.pointer(pointer("7", at=NOW - 400_000))
    for ago in range(100, 0, -1):
        if ago == 40:
            aggregator.pointer(pointer("8", "7", at=NOW - 40_000))
        aggregator.score(score(version="7" if ago > 40 else "8"), NOW - ago * 1000)
    snapshot = aggregator.snapshot(NOW)
    lines = {line.version: line.scores for line in snapshot.versions.lines}
    assert [sum(lines["7"]), sum(lines["8"])] == [60, 40]
    assert all(not (old and new) for old, new in zip(lines["7"], lines["8"], strict=True))
    assert [swap.version for swap in snapshot.versions.swaps] == ["8", "7"]
    loop = {step.name: step for step in snapshot.loop}
    assert (loop["swap"].headline, loop["swap"].detail, loop["swap"].active) == ("7 → 8", "by finetune", False)
    assert loop["gate"].detail == "better than 7"
    assert loop["finetune"].detail == "labels until 2025-10-09 08:52 UTC"
    assert loop["scoring"].detail == "by version 8"


def test_fallback_answers_have_a_line_of_their_own() -> None:
    """While the model is away the scores show as the fallback's, not as those of the version that is down."""
    aggregator = Aggregator()
    for ago in range(20, 0, -1):
        aggregator.score(score(path="model" if ago > 10 else "fallback"), NOW - ago * 1000)
    snapshot = aggregator.snapshot(NOW)
    assert {line.version: sum(line.scores) for line in snapshot.versions.lines} == {"7": 10, "fallback": 10}
    assert snapshot.loop[0].detail == "by version 7"


def test_a_rollback_is_a_swap_but_no_training() -> None:
    """After a rollback the swap names the hand that did it, while fine-tuning still shows what was trained last."""
    aggregator = Aggregator()
    aggregator.pointer(pointer("8", "7", at=NOW - 90_000))
    aggregator.pointer(pointer("7", "8", by="ann", at=NOW - 5_000))
    loop = {step.name: step for step in aggregator.snapshot(NOW).loop}
    assert (loop["swap"].headline, loop["swap"].detail, loop["swap"].active) == ("8 → 7", "by ann", True)
    assert (loop["finetune"].headline, loop["finetune"].active) == ("version 8", False)


def test_the_same_pointer_again_is_no_swap() -> None:
    """A record that is read twice is shown once."""
    aggregator = Aggregator()
    for _ in range(3):
        aggregator.pointer(pointer("7"))
    assert len(aggregator.snapshot(NOW).versions.swaps) == 1


def test_logloss_is_drawn_when_labels_mature() -> None:
    """A version's log-loss appears in the bin of the labels, once there are enough of them."""
    aggregator = Aggregator()
    for _ in range(30):
        aggregator.outcome(outcome(), NOW - 10_000)
    (line,) = aggregator.snapshot(NOW).versions.lines
    assert list(line.logloss) == ["session"]
    drawn = [index for index, value in enumerate(line.logloss["session"]) if value is not None]
    assert drawn == [BINS - 10 // BIN_S]
    assert line.logloss["session"][drawn[0]] == pytest.approx(0.6931, abs=1e-4)


def test_versions_from_outside_cannot_fill_the_memory() -> None:
    """Only a handful of versions is kept, whatever the records claim."""
    aggregator = Aggregator()
    for number in range(1000):
        aggregator.score(score(version=str(number)), NOW - 3000)
        for _ in range(25):
            aggregator.outcome(outcome(version=f"o{number}"), NOW - 3000)
        aggregator.pointer(pointer(str(number)))
    snapshot = aggregator.snapshot(NOW)
    assert len(snapshot.versions.lines) <= 12
    assert len(snapshot.versions.swaps) == 20
    assert len(snapshot.quality) <= 6


def test_memory_does_not_grow_with_traffic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once every bound is reached, ten minutes of traffic take no more room than five."""
    monkeypatch.setattr(sessions_module, "_VISITORS", 50)
    monkeypatch.setattr(quality_module, "LABELS", 100)
    aggregator = Aggregator()
    shop = Shop(aggregator, rate=10)
    sizes = []
    for second in range(1, 601):
        shop.second(NOW + second * 1000)
        if second in (300, 600):
            sizes.append(_size(aggregator))
    assert sizes[1] < sizes[0] * 1.05


def _size(root: object) -> int:
    """Bytes of everything that the object holds."""
    seen: set[int] = set()
    waiting, total = [root], 0
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        total += sys.getsizeof(item)
        if isinstance(item, dict):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, str | bytes | int | float):
            continue
        elif hasattr(item, "__dict__"):
            waiting.append(vars(item))
        elif hasattr(item, "__slots__"):
            waiting += [getattr(item, name) for name in item.__slots__ if hasattr(item, name)]
        elif hasattr(item, "__iter__") and not hasattr(item, "dtype"):
            waiting += list(item)
    return total
