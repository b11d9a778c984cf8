"""What the scores of one partition say that were made anew after a late event. They are few: kept by click and number."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from worker.audit.report import Report
from worker.contract.revision import Revision

#: Copies may differ by this: a model gives slightly other values in another batch.
TOLERANCE = 1e-5

Key = tuple[int, int]  # offset of the click, number of the revision


class Claim(NamedTuple):
    """What a revised score says of itself. `who` and `maker` are as in `Said`."""

    who: int
    session: int
    input_hash: int
    position: int
    maker: int
    p: npt.NDArray[np.float32]


class Revised:
    """The first copy of each revised score. `name` is topic and partition of the clicks."""

    def __init__(self, name: str, report: Report) -> None:
        self._name = name
        self._report = report
        self._claims: dict[Key, Claim] = {}
        self._unexpected: set[Key] = set()

    def add(self, key: Key, claim: Claim, place: str) -> None:
        """Take a score; `place` is where it stands in its topic."""
        self._report.counts["revised scores"] += 1
        first = self._claims.setdefault(key, claim)
        if first is claim:
            self._unexpected.add(key)
            return
        self._report.counts["score copies"] += 1
        told = f"score {self.name(key)} at {place}"
        if claim[:4] != first[:4]:
            self._report.checks["I2"].fail(f"{told} differs from its first copy")
        elif claim.maker != first.maker:
            self._report.counts["score copies of another version or path"] += 1
        elif float(np.abs(claim.p - first.p).max()) > TOLERANCE:
            self._report.checks["I2"].fail(f"{told} has other probabilities than its first copy")

    def get(self, key: Key) -> Claim | None:
        """What the score says, if there is one."""
        return self._claims.get(key)

    def expected(self, revision: Revision) -> Claim | None:
        """The score that the replay says there must be, if it is there."""
        key = (revision.offset, revision.number)
        self._unexpected.discard(key)
        return self._claims.get(key)

    def unexpected(self) -> list[Key]:
        """What no late event called for, in the order of the log."""
        return sorted(self._unexpected)

    def name(self, key: Key) -> str:
        """The score's id."""
        return f"{self._name}:{key[0]}:r{key[1]}"


def difference(claim: Claim, revision: Revision, who: int) -> str | None:
    """What of a revised score differs from the replay; `who` is what the event's first score says of its event."""
    session = int(revision.session_id, 16)
    if claim.who != who:
        return "it is about another event than the first score"
    if claim.session != session:
        return f"session {claim.session:016x} should be {session:016x}"
    if claim.position != revision.position:
        return f"position {claim.position} should be {revision.position}"
    if claim.input_hash != revision.input_hash:
        return f"input hash {claim.input_hash:016x} should be {revision.input_hash:016x}"
    return None
