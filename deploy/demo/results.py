"""What the demo measured, read back from the topics."""

import math
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np

from worker.contract.events import OutcomeEvent, ScoreEvent, revision_of
from worker.settings import Settings
from worker.topic import records_to_end, whole_topic

_CLIP = 1e-6


@dataclass(frozen=True)
class Quality:
    """Mean log-loss of purchase within the session on `n` matured labels, beside that of the true probabilities on the same."""

    n: int
    purchases: int
    log_loss: float
    bayes: float

    @property
    def excess(self) -> float:
        """What is lost for not knowing the truth: comparable between different events."""
        return self.log_loss - self.bayes


@dataclass
class Results:
    """Counts of records; latencies in ms; quality by phase: steady, drifted, and swapped (the new version)."""

    scores: Counter[str] = field(default_factory=Counter)  # by path
    versions: Counter[str] = field(default_factory=Counter)
    dead_letters: int = 0
    outcomes: int = 0
    p50_ms: float = math.nan
    p99_ms: float = math.nan
    quality: dict[str, Quality] = field(default_factory=dict)


async def read_results(
    settings: Settings, truth: Mapping[str, float], live_from_ms: int, drift_at_ms: int, first: str
) -> Results:
    """Read the topics to their ends. `live_from_ms`: by the clock; `drift_at_ms`: event time; `first`: the old champion."""
    results = Results()
    ages = []
    score = msgspec.json.Decoder(ScoreEvent)
    async for value in _values(settings, settings.topics.scores):
        event = score.decode(value)
        if revision_of(event.score_id)[1]:  # made anew after a late event, which the tables count once
            continue
        results.scores[event.path] += 1
        results.versions[event.version] += 1
        if event.scored_at >= live_from_ms:
            ages.append(event.age_ms)
    if ages:
        results.p50_ms, results.p99_ms = (float(p) for p in np.percentile(ages, [50, 99]))
    async for _ in _values(settings, settings.topics.dead):
        results.dead_letters += 1
    results.outcomes, results.quality = await _quality(settings, truth, drift_at_ms, first)
    return results


async def _quality(
    settings: Settings, truth: Mapping[str, float], drift_at_ms: int, first: str
) -> tuple[int, dict[str, Quality]]:
    count = 0
    rows: dict[str, dict[str, tuple[int, float, float]]] = defaultdict(dict)
    outcome = msgspec.json.Decoder(OutcomeEvent)
    async for value in _values(settings, settings.topics.outcomes):
        count += 1
        event = outcome.decode(value)
        if (event.head, event.horizon) != ("purchase", "session") or event.label is None or event.event_id not in truth:
            continue
        phase = "steady" if event.event_time < drift_at_ms else "drifted" if event.version == first else "swapped"
        # By id, so that a copy counts once.
        rows[phase][event.score_id] = (event.label, event.p, truth[event.event_id])
    return count, {phase: _measured(known.values()) for phase, known in rows.items()}


def _measured(rows: Iterable[tuple[int, float, float]]) -> Quality:
    label, p, bayes = np.array(list(rows), float).T
    return Quality(len(label), int(label.sum()), _log_loss(label, p), _log_loss(label, bayes))


def _log_loss(label: "np.ndarray[tuple[int], np.dtype[np.float64]]", p: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> float:
    clipped = np.clip(p, _CLIP, 1 - _CLIP)
    return float(-np.mean(label * np.log(clipped) + (1 - label) * np.log(1 - clipped)))


async def _values(settings: Settings, topic: str) -> AsyncIterator[bytes]:
    async with whole_topic(settings.kafka, topic) as consumer:
        async for records in records_to_end(consumer):
            for record in records:
                yield record.value
