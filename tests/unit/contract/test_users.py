"""Which clicks a user's sequence takes over."""

from hypothesis import given
from hypothesis import strategies as st

from tests.logs import POLICY, SPEC, START_MS, click
from worker.contract.codec import decode, encode
from worker.contract.events import ClickEvent
from worker.contract.fold import Fold
from worker.contract.users import anonymous_before, copy_for, user_of


def told(log: list[ClickEvent]) -> list[list[str]]:
    """For each event, what is anonymous right before it in its session then."""
    fold = Fold(SPEC, POLICY)
    return [
        [log[at].event_id for at in anonymous_before(fold.apply(event, offset).session.rows, offset)["offset"]]
        for offset, event in enumerate(log)
    ]


def log_of(users: str, step_ms: int = 1_000) -> list[ClickEvent]:
    """A visitor's events, one after the other; `users` says whose each is, "." that nobody was logged in."""
    return [
        click(str(number), START_MS + step_ms * number, user_id=user if user != "." else "") for number, user in enumerate(users)
    ]


def test_what_led_to_a_login_is_merged_once() -> None:
    """Those right before it: not what went to a user before, and what comes after a logout goes to whoever logs in next."""
    assert told(log_of("..aa.b"))[2:] == [["0", "1"], [], [], ["4"]]


def test_only_the_session_is_merged() -> None:
    """A login after a pause is the first event of its session; so is one after so long that the window moved on, in part."""
    assert told(log_of(".a", step_ms=POLICY.gap_ms)) == [[], []]
    assert told(log_of("." * 6 + "a"))[-1] == ["3", "4", "5"]


def test_a_late_login_takes_what_lies_before_it() -> None:
    """By event time; nothing if it left the window at once, or a later one has taken all that."""
    late = click("late", START_MS + 1_500, user_id="a")
    assert told([*log_of("..."), late])[-1] == ["0", "1"]
    assert told([*log_of("..a"), late])[-2:] == [["0", "1"], []]
    assert told([*log_of("." * 6), late])[-1] == []


@given(st.text(max_size=300), st.text(min_size=1, max_size=20))
def test_a_copy_is_a_click_wherever_the_original_is(user_id: str, visitor: str) -> None:
    """Whatever the user is called: either nobody follows it, or the copy is valid and the user's own."""
    event = ClickEvent("e", START_MS, visitor, "view", user_id=user_id)
    user = user_of(event)
    if user is None:
        return
    try:
        value, key = encode(copy_for(user, event)), user.encode()
    except UnicodeEncodeError:  # a lone surrogate: no click that was read from JSON holds one
        return
    copy = decode(value, key, START_MS, 0)
    assert isinstance(copy, ClickEvent)
    assert (copy.event_id, copy.event_time, copy.user_id, copy.visitor_id) == ("e", START_MS, user_id, user)
    assert user_of(copy) is None


def test_whom_nobody_follows() -> None:
    """No user, one that makes no id, and a click that is the user's already."""
    for user_id in (None, "", "x" * 252, "a\nb"):
        assert user_of(ClickEvent("e", START_MS, "v", "view", user_id=user_id)) is None
    assert user_of(ClickEvent("e", START_MS, "user:ann", "view", user_id="ann")) is None
    assert user_of(ClickEvent("e", START_MS, "v", "view", user_id="x" * 251)) == "user:" + "x" * 251
