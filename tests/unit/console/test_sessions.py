"""Which visitors get a card, and what their cards say. Time is a number that the test moves."""

import itertools

import pytest

from worker.console import sessions as sessions_module
from worker.console.sessions import LiveSessions
from worker.console.snapshot import SessionView
from worker.contract.events import ClickEvent, EventType, ScoreEvent

_ids = itertools.count()


def clicked(sessions: LiveSessions, visitor: str, at_ms: int, kind: EventType = "view", event_id: str | None = None) -> str:
    event_id = event_id or f"e{next(_ids)}"
    sessions.click(ClickEvent(event_id, 0, visitor, kind, item_id="shoe"), at_ms)
    return event_id


def scored(
    sessions: LiveSessions, visitor: str, at_ms: int, event_id: str, position: int, p: float = 0.1, session: str = "s1"
) -> None:
    said: dict[str, dict[str, float] | float] = {"purchase": {"session": p}}
    sessions.score(ScoreEvent("i", event_id, visitor, session, position, 0, 0, 5, True, "intent", "7", "model", "", said), at_ms)


def visit(sessions: LiveSessions, visitor: str, at_ms: int, events: int = 3, kind: EventType = "view", first: int = 1) -> None:
    """So many scored events of a visitor, the last one of the given kind."""
    for position in range(first, first + events):
        event_id = clicked(sessions, visitor, at_ms, kind if position == first + events - 1 else "view")
        scored(sessions, visitor, at_ms, event_id, position, p=position / 10)


def visitors(cards: list[SessionView]) -> list[str]:
    return [card.visitor for card in cards]


def test_a_card_tells_the_session_in_order() -> None:
    """Types, items and probabilities stand in the order of the events; the newest probability is the card's."""
    sessions = LiveSessions(2)
    visit(sessions, "ann", 1000, events=3, kind="cart")
    (card,) = sessions.cards(1000)
    assert [(step.type, step.item, step.p) for step in card.steps] == [
        ("view", "shoe", 0.1),
        ("view", "shoe", 0.2),
        ("cart", "shoe", 0.3),
    ]
    assert (card.p, card.position, card.version, card.path, card.bought) == (0.3, 3, "7", "model", False)


def test_score_and_click_may_come_in_either_order() -> None:
    """The topics are read side by side: a score that is read first waits for its click."""
    sessions = LiveSessions(1)
    scored(sessions, "ann", 1000, "e-late", 1, p=0.4)
    assert sessions.cards(1000)[0].steps[0].type is None
    clicked(sessions, "ann", 1001, "search", event_id="e-late")
    (step,) = sessions.cards(1001)[0].steps
    assert (step.type, step.p) == ("search", 0.4)


def test_a_correction_moves_its_own_point() -> None:
    """A second score of the same event replaces the first instead of adding a step."""
    sessions = LiveSessions(1)
    visit(sessions, "ann", 1000, events=1)
    event_id = clicked(sessions, "ann", 1000)
    scored(sessions, "ann", 1000, event_id, 2, p=0.2)
    scored(sessions, "ann", 1001, event_id, 2, p=0.9)
    assert [step.p for step in sessions.cards(1001)[0].steps] == [0.1, 0.9]


def test_a_new_session_starts_a_new_line() -> None:
    """When the session id changes, the card begins with the event that began the session, under a new key."""
    sessions = LiveSessions(1)
    visit(sessions, "ann", 1000, events=3, kind="purchase")
    before = sessions.cards(1000)[0]
    event_id = clicked(sessions, "ann", 2000, "search")
    scored(sessions, "ann", 2000, event_id, 1, p=0.05, session="s2")
    after = sessions.cards(2000)[0]
    assert [step.type for step in after.steps] == ["search"]
    assert not after.bought
    assert after.key != before.key


def test_cards_keep_their_places() -> None:
    """A card does not move while its visitor is active, however many others come."""
    sessions = LiveSessions(2)
    visit(sessions, "ann", 1000)
    visit(sessions, "bob", 1001)
    assert visitors(sessions.cards(1001)) == ["bob", "ann"]
    for number in range(50):
        visit(sessions, f"other-{number}", 9000)
        visit(sessions, "ann", 9000, events=1, first=4)
        visit(sessions, "bob", 9000, events=1, first=4)
    assert visitors(sessions.cards(9000)) == ["bob", "ann"]


def test_a_quiet_card_is_given_away_but_not_for_nothing() -> None:
    """A visitor who fell silent keeps the card until somebody active can have it, and loses it at last without."""
    sessions = LiveSessions(1)
    visit(sessions, "ann", 0)
    assert visitors(sessions.cards(0)) == ["ann"]
    assert visitors(sessions.cards(60_000)) == ["ann"]
    visit(sessions, "bob", 60_000)
    assert visitors(sessions.cards(60_000)) == ["bob"]
    assert sessions.cards(60_000 + sessions_module._GONE_MS + 1) == []


def test_several_events_come_before_a_single_one() -> None:
    """A free card goes to a visitor with several events rather than to a newer one with a single event."""
    sessions = LiveSessions(1)
    visit(sessions, "ann", 1000, events=4)
    visit(sessions, "new", 2000, events=1)
    assert visitors(sessions.cards(2000)) == ["ann"]


def test_somebody_who_buys_gets_a_card() -> None:
    """A purchase is shown at once where a card may change, and only one at a time is brought in."""
    sessions = LiveSessions(2)
    for visitor in ("ann", "bob"):
        visit(sessions, visitor, 0)
    sessions.cards(0)
    later = sessions_module._READ_MS
    for visitor in ("ann", "bob"):
        visit(sessions, visitor, later, events=1, first=4)
    for visitor in ("eve", "joe"):
        visit(sessions, visitor, later, kind="purchase")
    cards = sessions.cards(later)
    assert [card.bought for card in cards].count(True) == 1
    assert visitors(cards)[[card.bought for card in cards].index(True)] in ("eve", "joe")


def test_unscored_visitors_have_no_card() -> None:
    """Clicks alone say nothing to show: a card needs a score."""
    sessions = LiveSessions(1)
    clicked(sessions, "ann", 1000)
    assert sessions.cards(1000) == []


@pytest.mark.parametrize("cards", [1, 3])
def test_memory_is_bounded(cards: int) -> None:
    """However many visitors and events come, only the newest are remembered, and forgotten cards are freed."""
    sessions = LiveSessions(cards)
    visit(sessions, "first", 0)
    sessions.cards(0)
    for number in range(sessions_module._VISITORS + 10):
        clicked(sessions, f"v{number}", 1)
    assert len(sessions._visitors) == sessions_module._VISITORS
    assert "first" not in sessions._visitors
    visit(sessions, "long", 2, events=500)
    (card,) = sessions.cards(2)
    assert (card.visitor, card.position, len(card.steps)) == ("long", 500, sessions_module._STEPS)
