"""What comes in (`ClickEvent`) and what goes out (`ScoreEvent`, `OutcomeEvent`), version 1."""

from enum import StrEnum
from typing import Annotated, Literal

import msgspec

EventType = Literal["view", "search", "favourite", "cart", "remove_from_cart", "purchase", "comment", "other"]

#: Order is part of the feature spec: code = index + 1, and 0 is padding.
EVENT_TYPES: tuple[str, ...] = ("view", "search", "favourite", "cart", "remove_from_cart", "purchase", "comment", "other")

#: Horizons of the hazard heads, nested: each one contains the one before it.
HORIZONS: tuple[str, ...] = ("5m", "30m", "session", "24h", "7d")

#: Heads with a label per horizon.
HAZARD_HEADS: tuple[str, ...] = ("purchase", "cart")

#: Most characters of an id and of any other text, and the greatest amount.
MAX_ID, MAX_TEXT, MAX_AMOUNT = 256, 2048, 1e12

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID)]
Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
#: Anything that fits 64 bits; which times are plausible is the codec's business.
Milliseconds = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Amount = Annotated[float, msgspec.Meta(ge=0, le=MAX_AMOUNT)]


class ClickEvent(msgspec.Struct, frozen=True, gc=False):
    """One click of a visitor. Unknown fields pass; null is the same as absent.

    `event_time` is in milliseconds since the epoch, by the shop's clock.
    """

    event_id: Id
    event_time: Milliseconds
    visitor_id: Id
    event_type: EventType
    session_id: Text | None = None
    item_id: Text | None = None
    category: Text | None = None
    brand: Text | None = None
    price: Amount | None = None
    currency: Text | None = None
    quantity: Amount | None = None
    query: Text | None = None
    title: Text | None = None
    user_id: Text | None = None
    device: Text | None = None
    country: Text | None = None
    referrer: Text | None = None
    schema: Text | None = None


class Reason(StrEnum):
    """Why a record cannot be an event: the closed set of dead-letter reasons.

    BAD_ID is about event_id and visitor_id (length, blank, control characters), TOO_LONG about every other text.
    """

    TOMBSTONE = "tombstone"
    EMPTY = "empty"
    TOO_LARGE = "too_large"
    BAD_ENCODING = "bad_encoding"
    NOT_JSON = "not_json"
    TOO_DEEP = "too_deep"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    UNKNOWN_EVENT_TYPE = "unknown_event_type"
    BAD_ID = "bad_id"
    TOO_LONG = "too_long"
    BAD_NUMBER = "bad_number"
    TIME_OUT_OF_RANGE = "time_out_of_range"
    FUTURE_TIME = "future_time"
    NULL_KEY = "null_key"
    KEY_MISMATCH = "key_mismatch"


class InvalidRecord(msgspec.Struct, frozen=True):
    """A record that is no event: goes to the dead letters whole. `detail` never repeats what the record holds."""

    reason: Reason
    detail: str


class ScoreEvent(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One score of one event. `score_id` is `topic:partition:offset` of the event, so a copy has the same id.

    When a late event was put before the event, it is scored anew, and `:r1` and up is added to the id: of the scores of an
    event the one with the highest revision holds. Its `age_ms` is measured from the late event's record.

    `age_ms` is measured from the record's Kafka timestamp. `position` counts the session's events known when the
    score was made, this one included. `scores` holds `purchase` and `cart` (probability by horizon), `churn`
    (probability that the session ends here) and `next_type` (probability by type).
    """

    score_id: str
    event_id: str
    visitor_id: str
    session_id: str
    position: int
    event_time: int
    scored_at: int
    age_ms: int
    deadline_met: bool
    model: str
    version: str
    path: Literal["model", "fallback"]
    input_hash: str
    scores: dict[str, dict[str, float] | float]
    next_items: list[tuple[str, float]] | None = None


def revision_of(score_id: str) -> tuple[str, int]:
    """A score's id as that of the event's first score, and its revision, 0 for the first. Raises ValueError for no number."""
    first, _, number = score_id.rpartition(":r")
    if not first:
        return score_id, 0
    if not (number.isascii() and number.isdigit() and number[0] != "0"):
        raise ValueError(f"{score_id!r} has no revision number")
    return first, int(number)


class OutcomeEvent(msgspec.Struct, frozen=True):
    """What really happened after a score, for one head and horizon. `outcome_id` is `score_id/head/horizon`.

    `label` is None when `censored`. `time_to_event_s` is None when nothing happened in the horizon.
    `p`, `version` and `path` repeat what the score said, so that quality needs no second join.
    """

    outcome_id: str
    score_id: str
    event_id: str
    visitor_id: str
    head: Literal["purchase", "cart", "churn"]
    horizon: Literal["5m", "30m", "session", "24h", "7d"]
    label: int | None
    censored: bool
    time_to_event_s: float | None
    event_time: int
    p: float
    version: str
    path: Literal["model", "fallback"]
