"""What a slab says of a batch of events, and of the sessions that they changed."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from worker.contract.features import ModelInputs
from worker.contract.revision import Revision
from worker.contract.session import Outcome
from worker.contract.users import Rows

Longs = npt.NDArray[np.int64]

_OUTCOMES = tuple(Outcome)


class Step(NamedTuple):
    """What became of B events. Of the C that changed their session: `at` [C] says which, the rest is as it was right after.

    `chains` are the hashes of exactly what the model sees (`Session.input_hash` as a number).
    """

    outcome: npt.NDArray[np.uint8]  # [B] index into tuple(Outcome)
    at: npt.NDArray[np.int64]
    session: npt.NDArray[np.uint64]  # [C] session id as a number
    position: npt.NDArray[np.int64]  # [C]
    chain: npt.NDArray[np.uint64]  # [C]
    inputs: ModelInputs | None  # of C windows; None when C is 0 or nobody asked
    revisions: list[Revision]  # other events, to be scored anew for the late ones among the B, in the order of these
    logins: dict[int, Rows]  # which of the B merge a visitor's sequence with a user's: `users.anonymous_before`, by number

    def outcomes(self) -> dict[Outcome, int]:
        """How many events did what."""
        return {_OUTCOMES[code]: int(count) for code, count in enumerate(np.bincount(self.outcome, minlength=len(_OUTCOMES)))}


class Changed(NamedTuple):
    """N sessions that changed, packed one behind the other: with all of their rows, or with the new ones."""

    keys: list[bytes]  # visitor ids in UTF-8
    first: Longs  # [N] which row of the window comes first
    packed: bytes
    sizes: Longs  # [N] bytes
