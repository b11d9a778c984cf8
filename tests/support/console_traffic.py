"""Traffic for the console's page: a small shop, seeded, with everything the page can show."""

import random
from itertools import count

from worker.console.state import Aggregator, PointerRecord
from worker.contract.events import HORIZONS, ClickEvent, OutcomeEvent, Reason, ScoreEvent

_NEXT = {
    "view": (("view", 10), ("search", 3), ("cart", 1.4), ("favourite", 1), ("comment", 0.3), ("other", 0.3)),
    "search": (("view", 10), ("search", 2)),
    "favourite": (("view", 6), ("cart", 1)),
    "cart": (("view", 4), ("cart", 1), ("purchase", 1.2), ("remove_from_cart", 1)),
    "remove_from_cart": (("view", 4), ("search", 1)),
    "purchase": (("view", 1),),
    "comment": (("view", 1),),
    "other": (("view", 1),),
}
# How much each event moves the visitor towards buying.
_STEP = {"cart": 1.1, "purchase": -0.4, "remove_from_cart": -1.0, "favourite": 0.35, "search": 0.1, "view": 0.12}


class Shop:
    """Feeds an aggregator. `second(now_ms)` is one second of traffic that ends at `now_ms`."""

    def __init__(self, aggregator: Aggregator, seed: int = 7, rate: int = 60, visitors: int = 40) -> None:
        self.aggregator = aggregator
        self.version = "7"
        self._random = random.Random(seed)
        self._rate = rate
        self._numbers = count()
        self._offsets = count()
        self._sessions = [self._arrival() for _ in range(visitors)]

    def point(self, version: str, now_ms: int, why: str) -> None:
        """A new pointer record."""
        before, self.version = self.version, version
        self.aggregator.pointer(PointerRecord(version, before, "finetune", why, now_ms, now_ms - 95_000))

    def second(self, now_ms: int, *, fallback: float = 0.003, dead: float = 0.004) -> None:
        for part in range(max(1, int(self._random.gauss(self._rate, self._rate**0.5)))):
            at_ms = now_ms - 1000 + part * 1000 // self._rate
            if self._random.random() < dead:
                self.aggregator.dead(self._random.choice([Reason.NOT_JSON, Reason.MISSING_FIELD, Reason.BAD_ID]), at_ms)
            self._event(self._random.randrange(len(self._sessions)), min(at_ms, now_ms), fallback)

    def _event(self, place: int, at_ms: int, fallback: float) -> None:
        visit = self._sessions[place]
        types, weights = zip(*_NEXT[visit.last], strict=True)
        kind = self._random.choices(
            types, [w * (1 + 3 * visit.mood) if t in ("cart", "purchase") else w for t, w in zip(types, weights, strict=True)]
        )[0]
        visit.last, visit.position = kind, visit.position + 1
        visit.logit += _STEP.get(kind, 0) * (0.6 + visit.mood) + self._random.gauss(0, 0.12)
        p = 1 / (1 + 2.718**-visit.logit)
        offset = next(self._offsets)
        self.aggregator.click(
            ClickEvent(f"e{offset}", at_ms, visit.visitor, kind, item_id=f"item-{self._random.randrange(900)}"), at_ms
        )
        age_ms = int(self._random.lognormvariate(3.3, 0.45))
        by_horizon = dict(zip(HORIZONS, (p / 3, p / 2, p, p, p), strict=True))
        score = ScoreEvent(
            score_id=f"clicks:0:{offset}",
            event_id=f"e{offset}",
            visitor_id=visit.visitor,
            session_id=visit.session,
            position=visit.position,
            event_time=at_ms,
            scored_at=at_ms,
            age_ms=age_ms,
            deadline_met=True,
            model="intent",
            version=self.version,
            path="fallback" if self._random.random() < fallback else "model",
            input_hash="",
            scores={"purchase": by_horizon, "churn": 0.1},
        )
        self.aggregator.score(score, at_ms)
        for horizon, said in by_horizon.items():
            self._outcome(score, horizon, said, at_ms)
        if self._random.random() < (0.25 if kind == "purchase" else 0.035):
            self._sessions[place] = self._arrival()

    def _outcome(self, score: ScoreEvent, horizon: str, said: float, at_ms: int) -> None:
        # Version 7 promises a fifth too much: its successor is better by construction.
        truth = min(0.95, said * (0.8 if self.version == "7" else 1.0))
        self.aggregator.outcome(
            OutcomeEvent(
                outcome_id=f"{score.score_id}/{horizon}",
                score_id=score.score_id,
                event_id=score.event_id,
                visitor_id=score.visitor_id,
                head="purchase",
                horizon=horizon,  # type: ignore[arg-type]
                label=int(self._random.random() < truth),
                censored=False,
                time_to_event_s=None,
                event_time=at_ms,
                p=said,
                version=score.version,
                path=score.path,
            ),
            at_ms,
        )

    def _arrival(self) -> "_Visit":
        number = next(self._numbers)
        visitor = f"{self._random.getrandbits(48):012x}" if number % 3 else f"u-{100_000 + number * 37}"
        return _Visit(visitor, f"{visitor}-1", self._random.betavariate(1.2, 4))


class _Visit:
    def __init__(self, visitor: str, session: str, mood: float) -> None:
        self.visitor, self.session, self.mood = visitor, session, mood
        self.last, self.position, self.logit = "view", 0, -3.6 + 1.5 * mood
