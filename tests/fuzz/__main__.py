"""Fuzz the decoder with atheris, which is not installed with the rest: `pip install atheris`, then

    python -m tests.fuzz FOLDER -max_total_time=3600

FOLDER keeps what was found interesting; the rest is libFuzzer's. Stops at the first record about which decoder and oracle
disagree.
"""

import random
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["worker.contract.codec", "tests.fuzz.oracle", "json"]):
    from tests.fuzz.oracle import disagreement
    from worker.contract.codec import decode

from tests.corpus import MAX_FUTURE_MS, bad_records, odd_records
from tests.fuzz.mutation import mutated

_NOW_MS = 1_700_000_000_000
_KEY = b"v"


def check(value: bytes) -> None:
    """Raises AssertionError when they disagree, and whatever the decoder raises."""
    told = disagreement(value, _KEY, _NOW_MS, MAX_FUTURE_MS, decode(value, _KEY, _NOW_MS, MAX_FUTURE_MS))
    assert told is None, f"{value!r} {told}"


def mutate(value: bytes, max_size: int, seed: int) -> bytes:
    """Half of the time ours, which knows the syntax; else libFuzzer's own."""
    dice = random.Random(seed)
    changed = mutated(value, dice) if dice.random() < 0.5 else atheris.Mutate(value, len(value))
    return changed[:max_size]


def seeds(folder: Path) -> None:
    """Begin with the corpus, each record for the visitor v."""
    folder.mkdir(parents=True, exist_ok=True)
    cases = [*bad_records(_NOW_MS, large=False), *odd_records(_NOW_MS, large=False)]
    for number, case in enumerate(cases):
        if case.value is not None and len(case.value) < 4_000:
            (folder / f"corpus-{number}").write_bytes(case.value.replace(b'"corpus-visitor"', b'"v"'))


if __name__ == "__main__":
    seeds(Path(sys.argv[1]))
    atheris.Setup(sys.argv, check, custom_mutator=mutate)
    atheris.Fuzz()
