"""The error tree: what it says about itself is true."""

import re

import pytest

from worker import errors
from worker.errors import GateRefused, InklingError, Policy

LEAVES_AND_NODES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, InklingError)]


def test_drawing_shows_the_tree() -> None:
    """Every class stands in the module's drawing under its base, and no other does."""
    assert errors.__doc__ is not None
    drawn: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in errors.__doc__.splitlines():
        entry = re.match(r"^(    [ │├└─]*)([A-Z]\w+)  ", line)
        if entry is None:
            continue
        depth, name = len(entry[1]), entry[2]
        above = [(left, parent) for left, parent in above if left < depth]
        drawn[name] = above[-1][1] if above else "Exception"
        above.append((depth, name))
    assert drawn == {kind.__name__: kind.__bases__[0].__name__ for kind in LEAVES_AND_NODES}


@pytest.mark.parametrize("kind", LEAVES_AND_NODES)
def test_every_error_has_a_policy_and_a_status(kind: type[InklingError]) -> None:
    """Whoever catches one knows what to do, and a command that fails never exits with 0."""
    assert isinstance(kind.policy, Policy)
    assert kind.exit_status > 0
    assert kind.__doc__


def test_policies_are_those_of_the_drawing() -> None:
    """Scoring falls back, delivery tries again, who is shut out begins anew, all else stops."""
    for kind in LEAVES_AND_NODES:
        if issubclass(kind, errors.ScoringError):
            assert kind.policy is Policy.FALLBACK
        elif issubclass(kind, errors.DeliveryError):
            assert kind.policy is Policy.RETRY
        elif issubclass(kind, errors.OwnershipError):
            assert kind.policy is Policy.ANEW
        else:
            assert kind.policy is Policy.STOP


def test_refused_candidate_has_a_status_of_its_own() -> None:
    """A scheduler can tell 'not better' from 'broken'."""
    assert {kind for kind in LEAVES_AND_NODES if kind.exit_status == 3} == {GateRefused}
    assert {kind.exit_status for kind in LEAVES_AND_NODES} == {1, 3}
