"""Known bugs, put back one at a time: the simulation has to catch every one.

Each is a context manager that patches the code, named for what it does wrong; its docstring says what that is.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

from tests.faults.mutants import consuming, publishing, state
from tests.faults.schedule import draw
from tests.faults.simulation import run

Mutant = Callable[[], AbstractContextManager[object]]

#: By name.
MUTANTS: dict[str, Mutant] = {
    mutant.__name__.replace("_", "-"): mutant for module in (publishing, state, consuming) for mutant in module.MUTANTS
}


class Caught(NamedTuple):
    """Which seed caught a mutant (None: none did), after how many schedules, and what it broke."""

    name: str
    seed: int | None
    schedules: int
    violation: str


def catch(name: str, first_seed: int = 0, most: int = 1500) -> Caught:
    """Run schedules with the bug in until one breaks."""
    for number in range(most):
        result = run(draw(first_seed + number), MUTANTS[name]())
        if result.violation is not None:
            return Caught(name, result.seed, number + 1, result.violation)
    return Caught(name, None, most, "")


def table(caught: list[Caught]) -> str:
    """One line for each bug: whether it was caught, by which seed, and what it broke."""
    lines = []
    for one in caught:
        by = "NOT CAUGHT" if one.seed is None else f"seed {one.seed}"
        lines.append(f"{one.name:32} {by:10} {one.schedules:5} schedules  {one.violation[:90]}")
    return "\n".join([*lines, f"{sum(one.seed is not None for one in caught)} of {len(caught)} caught"])
