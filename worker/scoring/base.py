"""The seam to whatever scores: one method, and the values it returns."""

from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from worker.contract.events import EVENT_TYPES, HORIZONS, ClickEvent, ScoreEvent
from worker.contract.features import ModelInputs
from worker.contract.session import Session

Path = Literal["model", "fallback"]
Floats = npt.NDArray[np.float32]

#: Digits kept of a probability on the wire: far below any decision, and enough for log-loss.
_DIGITS = 6


class Scores(NamedTuple):
    """What a scorer says of a batch of B sessions.

    purchase, cart  float32 [B, 5]  probability within each of `HORIZONS`, rising
    churn           float32 [B]     probability that the session ends here
    next_type       float32 [B, 8]  probability of each of `EVENT_TYPES`, if another event follows
    next_items      per session the likeliest next items with probability, or None where the head is missing
    """

    purchase: Floats
    cart: Floats
    churn: Floats
    next_type: Floats
    next_items: list[list[tuple[str, float]]] | None
    version: str
    path: Path


class Scorer(Protocol):
    """Scores a batch with one version. Raises a `ScoringError` when it cannot; never a partial answer."""

    async def score(self, inputs: ModelInputs, version: str) -> Scores: ...


def score_event(
    scores: Scores, row: int, event: ClickEvent, session: Session, *, score_id: str, scored_at: int, age_ms: int,
    deadline_met: bool, model: str,
) -> ScoreEvent:  # fmt: skip
    """Row `row` of the batch as the record that goes out."""
    return ScoreEvent(
        score_id=score_id,
        event_id=event.event_id,
        visitor_id=event.visitor_id,
        session_id=session.session_id,
        position=session.position,
        event_time=event.event_time,
        scored_at=scored_at,
        age_ms=age_ms,
        deadline_met=deadline_met,
        model=model,
        version=scores.version,
        path=scores.path,
        input_hash=session.input_hash,
        scores=probabilities(scores, row),
        next_items=None if scores.next_items is None else scores.next_items[row],
    )


def probabilities(scores: Scores, row: int) -> dict[str, dict[str, float] | float]:
    """The `scores` field of a ScoreEvent."""
    return {
        "purchase": _named(HORIZONS, scores.purchase[row]),
        "cart": _named(HORIZONS, scores.cart[row]),
        "churn": round(float(scores.churn[row]), _DIGITS),
        "next_type": _named(EVENT_TYPES, scores.next_type[row]),
    }


def _named(names: tuple[str, ...], values: Floats) -> dict[str, float]:
    return {name: round(value, _DIGITS) for name, value in zip(names, values.tolist(), strict=True)}
