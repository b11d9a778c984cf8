"""Cutting a log by time for one cycle of fine-tuning, so that what judges is later than all that was learned from."""

from dataclasses import dataclass, replace

import numpy as np

from training.examples import Examples, examples_of
from training.history import History, Ints
from worker.contract.events import HORIZONS

#: Of the new sessions whose outcome is known, the newest share judges; of the others, the newest share calibrates.
EVALUATION_SHARE = 0.3
CALIBRATION_SHARE = 0.2

_SESSION = HORIZONS.index("session")


@dataclass(frozen=True)
class Slices:
    """Sessions by when they began: replay before `known_until_ms`, then fresh, calibration, and from `cut_ms` on evaluation.

    `learned` is all that lies before `cut_ms`. All but `evaluation` carry the labels as they could be known at `cut_ms`,
    so nothing that judges was learned from.
    """

    learned: Examples
    replay: Examples
    fresh: Examples
    calibration: Examples
    evaluation: Examples
    cut_ms: int


def slice_log(history: History, known_until_ms: int | None) -> Slices | None:
    """The slices of a log of which the champion knows what lies before `known_until_ms` (None: nothing of it).

    None when no new session has a known outcome yet.
    """
    everything = examples_of(history)
    new = everything.between(known_until_ms, None)
    started_ms = np.sort(_matured_starts(new))
    if not len(started_ms):
        return None
    cut_ms = int(started_ms[int((1 - EVALUATION_SHARE) * len(started_ms))])
    learned = examples_of(_as_of(history, cut_ms)).between(None, cut_ms)
    fresh, calibration = learned.between(known_until_ms, None).split(1 - CALIBRATION_SHARE)
    nothing = learned.select(np.zeros(0, np.int64))
    return Slices(
        learned=learned,
        replay=nothing if known_until_ms is None else learned.between(None, known_until_ms),
        fresh=fresh,
        calibration=calibration,
        evaluation=everything.between(max(cut_ms, known_until_ms or 0), None),
        cut_ms=cut_ms,
    )


def _matured_starts(examples: Examples) -> Ints:
    """When each session began whose purchases are known at its first event."""
    first = examples.first == examples.start
    known = first & examples.labels.matured[examples.first, _SESSION]
    return np.asarray(examples.started_ms[known])


def _as_of(history: History, cut_ms: int) -> History:
    """The log with labels that have matured by `cut_ms`. What a matured label says never changes later."""
    return replace(history, newest_ms=np.minimum(history.newest_ms, cut_ms))
