"""The aggregator: contract values in, a snapshot out. No clock and no Kafka; memory does not grow with traffic.

Every method takes the record's arrival time in milliseconds since the epoch: its Kafka timestamp, so that records read from
a short look-back land where they belong.
"""

from collections import OrderedDict, deque
from datetime import UTC, datetime
from typing import Literal

import msgspec

from worker.console.quality import HEAD, OnlineQuality
from worker.console.ring import LatencyRing, Ring
from worker.console.sessions import LiveSessions
from worker.console.snapshot import (
    DeadLetters,
    Feed,
    FeedState,
    Latency,
    LoopStep,
    Paths,
    Snapshot,
    StepName,
    Swap,
    Traffic,
    VersionLine,
    Versions,
    shown,
)
from worker.contract.events import ClickEvent, InvalidRecord, OutcomeEvent, Reason, ScoreEvent, revision_of
from worker.quality import FALLBACK

#: What the tiles look back on, and the part of it that "now" is averaged over.
WINDOW_S, NOW_S = 120, 5
#: The versions' time axis: five minutes in bins that show a swap soon after it happened.
BIN_S, BINS = 2, 150
#: The objective of event to score: 99.9% within this.
OBJECTIVE_MS = 250

_VERSIONS = 6
_SWAPS = 20
# A step of the loop is lit for so long after it happened.
_LIT_MS = 20_000
# What `why` and the like may take on the page.
_SENTENCE = 200

Column = Literal["events", "scores", "model", "fallback", "within", "outcomes", "dead"]
_COLUMNS: dict[str, int] = {
    name: column for column, name in enumerate(("events", "scores", "model", "fallback", "within", "outcomes", "dead"))
}
_REASONS = {str(reason): column for column, reason in enumerate(Reason)}


class PointerRecord(msgspec.Struct, frozen=True):
    """What the page needs of a record on `model-control`. One written by older or newer software is shown as far as it goes."""

    champion: str
    previous: str | None = None
    by: str = ""
    why: str = ""
    at: int = 0
    trained_until: int = 0


class Aggregator:
    """Everything the page shows, from the records of five topics."""

    def __init__(self, cards: int = 8) -> None:
        self._feed = Feed("connecting", "Connecting to Kafka.")
        self._skipped = 0
        self._counts = Ring(WINDOW_S + NOW_S, len(_COLUMNS))
        self._reasons = Ring(WINDOW_S + NOW_S, len(_REASONS))
        self._latency = LatencyRing(WINDOW_S + NOW_S)
        self._sessions = LiveSessions(cards)
        self._quality = OnlineQuality(_VERSIONS)
        self._scores_by_version: OrderedDict[str, Ring] = OrderedDict()
        self._logloss_by_version: dict[str, dict[str, dict[int, float]]] = {}  # by version, horizon and bin
        self._pointers: deque[PointerRecord] = deque(maxlen=_SWAPS)
        self._last_ms: dict[str, int] = {}

    def connection(self, state: FeedState, detail: str) -> None:
        """Says how the console stands with Kafka."""
        self._feed = Feed(state, detail)

    def click(self, event: ClickEvent | InvalidRecord, at_ms: int) -> None:
        """A record of `clicks`. One that is no event is only counted: it comes back as a dead letter."""
        self._count("events", at_ms)
        if isinstance(event, ClickEvent):
            self._sessions.click(event, at_ms)

    def score(self, score: ScoreEvent, at_ms: int) -> None:
        """A record of `intent-scores`. One made anew after a late event is no event more, and only changes what a card shows."""
        if revision_of(score.score_id)[1]:
            self._sessions.score(score, at_ms)
            return
        self._count("scores", at_ms)
        self._count(score.path, at_ms)
        if score.age_ms <= OBJECTIVE_MS:
            self._count("within", at_ms)
        self._latency.add(at_ms // 1000, score.age_ms)
        self._version(_maker(score)).add(at_ms // 1000 // BIN_S)
        self._sessions.score(score, at_ms)

    def outcome(self, outcome: OutcomeEvent, at_ms: int) -> None:
        """A record of `intent-outcomes`."""
        self._count("outcomes", at_ms)
        self._quality.add(outcome)
        if outcome.head == HEAD:
            self._trace(_maker(outcome), outcome.horizon, at_ms)

    def dead(self, reason: str | None, at_ms: int) -> None:
        """A record of `clicks-dead`, with the reason that its header gives."""
        self._count("dead", at_ms)
        column = _REASONS.get(reason or "")
        if column is not None:
            self._reasons.add(at_ms // 1000, column)

    def pointer(self, record: PointerRecord) -> None:
        """A record of `model-control`, in the topic's order. The same record again changes nothing."""
        if not self._pointers or self._pointers[-1] != record:
            self._pointers.append(record)

    def skip(self, column: Column, count: int, at_ms: int) -> None:
        """Counts records that were left unread because reading all of them would have made the page late."""
        self._skipped += count
        self._counts.add(at_ms // 1000, _COLUMNS[column], count)

    def snapshot(self, now_ms: int) -> Snapshot:
        """The page's content at `now_ms`. Rates are of whole seconds that have passed."""
        now_s = now_ms // 1000
        counts = {name: self._counts.window(now_s, WINDOW_S)[:, column] for name, column in _COLUMNS.items()}
        total = {name: int(column.sum()) for name, column in counts.items()}
        p50, p99 = self._latency.percentiles(now_s, WINDOW_S // 4, (0.5, 0.99))
        measured = total["model"] + total["fallback"]
        return Snapshot(
            now_ms=now_ms,
            feed=Feed(self._feed.state, self._feed.detail, self._skipped),
            traffic=Traffic(
                events_per_s=float(counts["events"][-NOW_S:].mean()),
                scores_per_s=float(counts["scores"][-NOW_S:].mean()),
                series=counts["events"].tolist(),
            ),
            latency=Latency(
                p50_ms=p50,
                p99_ms=p99,
                within=total["within"] / measured if measured else None,
                objective_ms=OBJECTIVE_MS,
                series=self._latency.series(now_s, WINDOW_S, 0.99),
            ),
            paths=Paths(total["model"], total["fallback"], counts["fallback"].tolist()),
            dead=DeadLetters(
                count=total["dead"],
                share=total["dead"] / total["events"] if total["events"] else None,
                reasons=self._top_reasons(now_s),
                series=counts["dead"].tolist(),
            ),
            sessions=self._sessions.cards(now_ms),
            versions=self._versions(now_s),
            quality=self._quality.views(),
            loop=self._loop(now_ms, float(counts["scores"][-NOW_S:].mean()), float(counts["outcomes"][-NOW_S:].mean())),
        )

    def _count(self, column: Column, at_ms: int) -> None:
        self._counts.add(at_ms // 1000, _COLUMNS[column])
        self._last_ms[column] = max(at_ms, self._last_ms.get(column, 0))

    def _version(self, version: str) -> Ring:
        """The version's scores by bin. Versions come from outside: only the newest few are kept."""
        bins = self._scores_by_version.setdefault(version, Ring(BINS + 1))
        self._scores_by_version.move_to_end(version)
        if len(self._scores_by_version) > _VERSIONS:
            gone, _ = self._scores_by_version.popitem(last=False)
            self._logloss_by_version.pop(gone, None)
        return bins

    def _trace(self, version: str, horizon: str, at_ms: int) -> None:
        logloss = self._quality.logloss(version, horizon)
        if logloss is None:
            return
        if version not in self._logloss_by_version and len(self._logloss_by_version) >= _VERSIONS:
            self._logloss_by_version.pop(next(iter(self._logloss_by_version)))
        line = self._logloss_by_version.setdefault(version, {}).setdefault(horizon, {})
        line[at_ms // 1000 // BIN_S] = logloss
        if len(line) > BINS:
            line.pop(next(iter(line)))

    def _top_reasons(self, now_s: int) -> list[tuple[str, int]]:
        counts = self._reasons.window(now_s, WINDOW_S).sum(axis=0)
        found = [(reason, int(counts[column])) for reason, column in _REASONS.items() if counts[column]]
        return sorted(found, key=lambda entry: -entry[1])[:3]

    def _versions(self, now_s: int) -> Versions:
        end = now_s // BIN_S
        bins = range(end - BINS, end)
        lines = [
            VersionLine(
                shown(version),
                self._scores_by_version[version].window(end, BINS)[:, 0].tolist() if version in self._scores_by_version else [],
                {
                    horizon: [line.get(bin_) for bin_ in bins]
                    for horizon, line in self._logloss_by_version.get(version, {}).items()
                    if not line.keys().isdisjoint(bins)
                },
            )
            for version in {**self._scores_by_version, **self._logloss_by_version}
        ]
        seen = [line for line in lines if any(line.scores) or line.logloss]
        return Versions(end * BIN_S * 1000, BIN_S, BINS, seen, [_swap(record) for record in reversed(self._pointers)])

    def _loop(self, now_ms: int, scores_per_s: float, outcomes_per_s: float) -> list[LoopStep]:
        newest = self._pointers[-1] if self._pointers else None
        trained = next((record for record in reversed(self._pointers) if "finetune" in record.by), None)
        scoring, outcomes = self._last_ms.get("scores"), self._last_ms.get("outcomes")
        makers = [shown(version) for version in reversed(self._scores_by_version) if version != FALLBACK]
        maker = f"by version {makers[0]}" if makers else "by the fallback"

        def step(name: StepName, at_ms: int | None, headline: str = "", detail: str = "") -> LoopStep:
            if at_ms is None:
                return LoopStep(name, False, None, "", "")
            return LoopStep(name, now_ms - at_ms < _LIT_MS, at_ms, headline, detail)

        return [
            step("scoring", scoring, _rate(scores_per_s, "scores"), maker),
            step(
                "outcomes", outcomes, _rate(outcomes_per_s, "outcomes"), f"{self._quality.matured:,} labels on purchases so far"
            ),
            step("finetune", trained.at, f"version {shown(trained.champion)}", _until(trained))
            if trained
            else step("finetune", None),
            step("gate", trained.at, "passed", shown(trained.why, _SENTENCE)) if trained else step("gate", None),
            step("swap", newest.at, _change(newest), f"by {shown(newest.by, 24)}") if newest else step("swap", None),
        ]


def _maker(made: ScoreEvent | OutcomeEvent) -> str:
    """Who made the score: its version, unless the fallback had to."""
    return made.version if made.path == "model" else FALLBACK


def _swap(record: PointerRecord) -> Swap:
    return Swap(
        version=shown(record.champion),
        previous=shown(record.previous) if record.previous else None,
        by=shown(record.by, 24),
        why=shown(record.why, _SENTENCE),
        at_ms=record.at,
        trained_until_ms=record.trained_until,
    )


def _rate(per_s: float, what: str) -> str:
    return f"{per_s:,.0f} {what} per second" if per_s >= 1 else f"{per_s:.1f} {what} per second"


def _until(record: PointerRecord) -> str:
    if record.trained_until <= 0:
        return ""
    return f"labels until {datetime.fromtimestamp(record.trained_until / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def _change(record: PointerRecord) -> str:
    return f"{shown(record.previous)} → {shown(record.champion)}" if record.previous else f"version {shown(record.champion)}"
