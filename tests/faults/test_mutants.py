"""The simulation is worth something: it finds every bug that we know of."""

from tests.faults.mutants import MUTANTS, catch, table

#: Seeds near the first one that catches a bug which few schedules meet; the others are caught within a few from 0.
_NEAR = {
    "packs-not-in-order": 130,
    "restored-before-owned": 120,
    "rows-never-whole": 150,
    "kept-over-a-missed-generation": 210,
    "generation-not-checked": 125,
    "thrown-away-and-not-put-back": 125,
    "state-kept-when-given-up": 160,
}


def test_every_known_bug_is_caught() -> None:
    """Each bug that is put back breaks an invariant, or stops the worker for good."""
    caught = [catch(name, _NEAR.get(name, 0)) for name in MUTANTS]
    assert [one.name for one in caught if one.seed is None] == [], table(caught)
    # A patch that fits the code no more is no bug that was found.
    slips = ("AttributeError", "TypeError", "ValueError")
    assert [one.name for one in caught if one.violation.startswith(tuple(f"failed: {slip}(" for slip in slips))] == [], table(
        caught
    )
    assert len(caught) >= 12
