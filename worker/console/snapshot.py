"""What is sent to the page, twice a second, as JSON. Times are milliseconds since the epoch; shares are 0 to 1.

Strings that came from outside (visitors, items) are shortened and cleaned by `shown`; the page treats them as text only.
"""

import unicodedata
from typing import Literal

import msgspec

FeedState = Literal["connecting", "waiting", "live", "lost"]
StepName = Literal["scoring", "outcomes", "finetune", "gate", "swap"]

_HEAD, _TAIL = 5, 4


class Feed(msgspec.Struct, frozen=True):
    """How the console stands with Kafka, and a sentence about it. `skipped` records were counted but not read."""

    state: FeedState
    detail: str
    skipped: int = 0


class Traffic(msgspec.Struct, frozen=True):
    """Events and scores per second, now and for each of the last seconds (oldest first)."""

    events_per_s: float
    scores_per_s: float
    series: list[int]


class Latency(msgspec.Struct, frozen=True):
    """Event to score. `within` is the share up to `objective_ms`; `series` is p99 by second."""

    p50_ms: float | None
    p99_ms: float | None
    within: float | None
    objective_ms: int
    series: list[float | None]


class Paths(msgspec.Struct, frozen=True):
    """Scores by who made them, in the last minutes; `series` is the fallback's count by second."""

    model: int
    fallback: int
    series: list[int]


class DeadLetters(msgspec.Struct, frozen=True):
    """Dead letters of the last minutes, their share of all records, and their commonest reasons."""

    count: int
    share: float | None
    reasons: list[tuple[str, int]]
    series: list[int]


class StepView(msgspec.Struct, frozen=True):
    """One event of a shown session. `type` is None until its click was seen, `p` until its score was."""

    type: str | None
    item: str | None
    p: float | None


class SessionView(msgspec.Struct, frozen=True):
    """A card. `key` stays the same as long as the session does; `p` is the newest purchase probability."""

    key: str
    visitor: str
    position: int
    p: float | None
    version: str
    path: str
    bought: bool
    idle_s: int
    steps: list[StepView]


class Swap(msgspec.Struct, frozen=True):
    """A pointer record: which version took over, on whose word and why."""

    version: str
    previous: str | None
    by: str
    why: str
    at_ms: int
    trained_until_ms: int


class VersionLine(msgspec.Struct, frozen=True):
    """One version over time: scores by bin, and for each horizon with matured labels the log-loss by bin."""

    version: str
    scores: list[int]
    logloss: dict[str, list[float | None]]


class Versions(msgspec.Struct, frozen=True):
    """Who answered over the last minutes. There are `bins` bins of `bin_s` each, the last one ends at `end_ms`."""

    end_ms: int
    bin_s: int
    bins: int
    lines: list[VersionLine]
    swaps: list[Swap]


class Quality(msgspec.Struct, frozen=True):
    """Matured labels of one version, head purchase, one horizon. `base` is the log-loss of always saying the mean label."""

    version: str
    horizon: str
    labels: int
    logloss: float
    base: float
    predicted: float
    happened: float


class LoopStep(msgspec.Struct, frozen=True):
    """One step of the learning loop. `at_ms` is when it last happened, None when that was not seen."""

    name: StepName
    active: bool
    at_ms: int | None
    headline: str
    detail: str


class Snapshot(msgspec.Struct, frozen=True):
    """Everything the page shows."""

    now_ms: int
    feed: Feed
    traffic: Traffic
    latency: Latency
    paths: Paths
    dead: DeadLetters
    sessions: list[SessionView]
    versions: Versions
    quality: list[Quality]
    loop: list[LoopStep]


def shown(text: str, limit: int = _HEAD + _TAIL + 1) -> str:
    """Text from outside, fit for a page: no control or direction characters, and the middle left out when long."""
    clean = "".join(c for c in text[:1024] if unicodedata.category(c)[0] != "C").strip() or "(blank)"
    if len(clean) <= limit:
        return clean
    tail = min(_TAIL, limit // 2)
    return f"{clean[: limit - tail - 1]}…{clean[-tail:]}"
