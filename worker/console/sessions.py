"""Which visitors the page shows, and what is known of them.

Time here is arrival time: in a replay, event time may run far ahead of the clock.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from worker.console.snapshot import SessionView, StepView, shown
from worker.contract.events import ClickEvent, ScoreEvent, revision_of
from worker.contract.features import hash64

#: The horizon that a card follows.
HEAD, HORIZON = "purchase", "session"

# Visitors remembered, whether shown or not: a few megabytes.
_VISITORS = 4000
# Events remembered of each: what fits a card's line.
_STEPS = 24
# How far back, among the newest visitors, replacements are looked for.
_LOOK_AT = 400
# A card with several events is worth more than a newer one with a single event.
_SEVERAL = 3
# A card may be replaced when its visitor was quiet for so long, and is dropped even without a replacement after the longer time.
_QUIET_MS, _GONE_MS = 15_000, 120_000
# A card stays at least this long, so that it can be read; a purchase is celebrated for as long.
_READ_MS = 6_000


@dataclass(slots=True)
class _Step:
    event_id: str
    type: str | None = None
    item: str | None = None
    p: float | None = None
    revision: int = 0  # of the score that it is from


@dataclass(slots=True)
class _Live:
    visitor_id: str
    seen_ms: int
    session_id: str = ""
    position: int = 0
    version: str = ""
    path: str = ""
    bought_ms: int | None = None
    shown_ms: int = 0
    steps: deque[_Step] = field(default_factory=lambda: deque(maxlen=_STEPS))

    def step(self, event_id: str) -> _Step:
        """The step of this event, a new one when it was not seen yet. Click and score may come in either order."""
        for step in reversed(self.steps):
            if step.event_id == event_id:
                return step
        step = _Step(event_id)
        self.steps.append(step)
        return step

    def quiet(self, now_ms: int) -> bool:
        return now_ms - self.seen_ms > _QUIET_MS

    def just_bought(self, now_ms: int) -> bool:
        return self.bought_ms is not None and now_ms - self.bought_ms < _READ_MS


class LiveSessions:
    """The newest visitors, and the few of them that have a card. A card keeps its place while its visitor is active."""

    def __init__(self, cards: int = 8) -> None:
        self._visitors: OrderedDict[str, _Live] = OrderedDict()  # least recently seen first
        self._cards: list[str | None] = [None] * cards

    def click(self, event: ClickEvent, at_ms: int) -> None:
        """An event arrived."""
        live = self._seen(event.visitor_id, at_ms)
        step = live.step(event.event_id)
        step.type, step.item = event.event_type, event.item_id
        if event.event_type == "purchase":
            live.bought_ms = at_ms

    def score(self, score: ScoreEvent, at_ms: int) -> None:
        """An event was scored. A new session id starts the card's line anew, with this event.

        A score made anew after a late event only mends the step, if it is still there.
        """
        if (revision := revision_of(score.score_id)[1]) > 0:
            self._mend(score, revision)
            return
        live = self._seen(score.visitor_id, at_ms)
        step = live.step(score.event_id)
        if live.session_id not in ("", score.session_id):
            _restart(live, step)
        live.session_id, live.position = score.session_id, score.position
        live.version, live.path = score.version, score.path
        if not step.revision:  # else it is a copy
            step.p = probability(score)

    def cards(self, now_ms: int) -> list[SessionView]:
        """The cards in their places, after giving those away that may change."""
        self._free(now_ms)
        waiting = self._candidates(now_ms)
        places = self._changeable(now_ms)
        buyer = self._buyer(waiting, now_ms)
        if buyer is not None and places:
            waiting.remove(buyer)
            self._give(places.pop(0), buyer, now_ms)
        for place in places:
            if waiting and self._is_better(waiting[0], place, now_ms):
                self._give(place, waiting.pop(0), now_ms)
        return [_view(card, now_ms) for card in self._shown()]

    def _mend(self, score: ScoreEvent, revision: int) -> None:
        live = self._visitors.get(score.visitor_id)
        for step in live.steps if live is not None else ():
            if step.event_id == score.event_id and step.revision <= revision:
                step.p, step.revision = probability(score), revision

    def _seen(self, visitor_id: str, at_ms: int) -> _Live:
        live = self._visitors.get(visitor_id)
        if live is None:
            live = self._visitors[visitor_id] = _Live(visitor_id, at_ms)
            if len(self._visitors) > _VISITORS:
                self._visitors.popitem(last=False)
        live.seen_ms = max(live.seen_ms, at_ms)
        self._visitors.move_to_end(visitor_id)
        return live

    def _free(self, now_ms: int) -> None:
        for place, visitor_id in enumerate(self._cards):
            live = self._visitors.get(visitor_id) if visitor_id is not None else None
            if live is None or now_ms - live.seen_ms > _GONE_MS:
                self._cards[place] = None

    def _candidates(self, now_ms: int) -> list[_Live]:
        """Visitors worth a card, best first."""
        taken = {card.visitor_id for card in self._shown()}
        newest = (live for _, live in zip(range(_LOOK_AT), reversed(self._visitors.values()), strict=False))
        active = [live for live in newest if live.visitor_id not in taken and live.position and not live.quiet(now_ms)]
        return sorted(active, key=lambda live: (min(live.position, _SEVERAL), live.seen_ms), reverse=True)

    def _changeable(self, now_ms: int) -> list[int]:
        """Places that are free or were long enough the same, the quietest first."""
        seen_ms = {}
        for place, visitor_id in enumerate(self._cards):
            card = self._visitors[visitor_id] if visitor_id is not None else None
            if card is None:
                seen_ms[place] = 0
            elif now_ms - card.shown_ms >= _READ_MS and not card.just_bought(now_ms):
                seen_ms[place] = card.seen_ms
        return sorted(seen_ms, key=lambda place: seen_ms[place])

    def _buyer(self, waiting: list[_Live], now_ms: int) -> _Live | None:
        """Somebody who just bought, when no card shows a purchase: one at a time, or busy traffic would show nothing else."""
        if any(card.bought_ms is not None for card in self._shown()):
            return None
        return next((live for live in waiting if live.just_bought(now_ms)), None)

    def _is_better(self, candidate: _Live, place: int, now_ms: int) -> bool:
        visitor_id = self._cards[place]
        if visitor_id is None:
            return True
        card = self._visitors[visitor_id]
        return card.quiet(now_ms) or candidate.position >= _SEVERAL > card.position

    def _give(self, place: int, live: _Live, now_ms: int) -> None:
        live.shown_ms = now_ms
        self._cards[place] = live.visitor_id

    def _shown(self) -> list[_Live]:
        return [self._visitors[visitor_id] for visitor_id in self._cards if visitor_id is not None]


def probability(score: ScoreEvent) -> float | None:
    """The purchase probability that a card shows."""
    head = score.scores.get(HEAD)
    return head.get(HORIZON) if isinstance(head, dict) else None


def _restart(live: _Live, first: _Step) -> None:
    while live.steps and live.steps[0] is not first:
        live.steps.popleft()
    if first.type != "purchase":
        live.bought_ms = None


def _view(live: _Live, now_ms: int) -> SessionView:
    newest = next((step.p for step in reversed(live.steps) if step.p is not None), None)
    return SessionView(
        key=f"{hash64('card', f'{live.visitor_id}|{live.session_id}'):016x}",
        visitor=shown(live.visitor_id),
        position=live.position,
        p=newest,
        version=shown(live.version),
        path=live.path,
        bought=live.bought_ms is not None,
        idle_s=max(0, now_ms - live.seen_ms) // 1000,
        steps=[StepView(step.type, shown(step.item, 16) if step.item else None, step.p) for step in live.steps],
    )
