"""When a supervisor starts a dead worker again, and when it gives up."""

import signal

import pytest

from worker import errors
from worker.restarts import SETTLED_S, Exit, Restarts

_KILLED = -signal.SIGKILL
_CRASHED = 1


@pytest.mark.parametrize("status", [0, _CRASHED, _KILLED, -signal.SIGSEGV, Exit.ANEW])
def test_whatever_ended_it_a_worker_is_started_again(status: int) -> None:
    """Also when somebody else told it to end: the supervisor was asked for so many."""
    assert Restarts().after(0, status, lived_s=100.0) is not None


def test_the_pause_gives_the_others_time_to_take_over_and_doubles_at_early_deaths() -> None:
    """A worker that cannot live does not keep the machine busy, and is not given up either."""
    restarts = Restarts()
    assert [restarts.after(0, _CRASHED, lived_s=1.0) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    for _ in range(2000):
        pause_s = restarts.after(0, _CRASHED, lived_s=1.0)
    assert pause_s == 30


def test_a_long_life_makes_good() -> None:
    """The next death is the first one again."""
    restarts = Restarts()
    for _ in range(5):
        restarts.after(0, _CRASHED, lived_s=1.0)
    assert restarts.after(0, _KILLED, lived_s=SETTLED_S) == 1
    assert restarts.after(0, _KILLED, lived_s=1.0) == 2


def test_each_worker_has_deaths_of_its_own() -> None:
    """One that is killed does not wait for what another did."""
    restarts = Restarts()
    for _ in range(5):
        restarts.after(0, _CRASHED, lived_s=1.0)
    assert restarts.after(1, _KILLED, lived_s=1.0) == 1


def test_state_that_must_not_be_used_is_given_up() -> None:
    """However long a worker lived: it would be the same next time."""
    restarts = Restarts()
    restarts.after(1, _KILLED, lived_s=1000.0)
    assert restarts.after(0, Exit.REFUSED, lived_s=1000.0) is None


def test_a_wrong_setting_is_given_up_at_the_start_only() -> None:
    """Once a worker has settled the settings are right, and what is away will be back: that must not end the others."""
    restarts = Restarts()
    assert restarts.after(0, Exit.MISCONFIGURED, lived_s=2.0) is None
    assert restarts.after(1, _KILLED, lived_s=SETTLED_S - 1) is not None
    assert restarts.after(1, Exit.MISCONFIGURED, lived_s=2.0) is None
    assert restarts.after(2, _KILLED, lived_s=SETTLED_S) is not None
    assert restarts.after(0, Exit.MISCONFIGURED, lived_s=2.0) is not None


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.ConfigurationError("x"), Exit.MISCONFIGURED),
        (errors.OwnershipError("x"), Exit.ANEW),
        (errors.StateError("x"), Exit.REFUSED),
        (errors.ModelError("x"), Exit.REFUSED),
    ],
)
def test_the_status_tells_the_errors_apart(error: errors.InklingError, status: Exit) -> None:
    """Shut out is mended by a start, damaged state is not."""
    assert Exit.of(error) is status
