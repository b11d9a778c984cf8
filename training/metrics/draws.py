"""A paired bootstrap over sessions: events of one session depend on each other, so sessions are drawn, not events.

A figure that was measured is an array [1 + draws]: the value first, then its value in each draw. Arrays made with the same
`Draws` are paired: their difference is an array of the same kind.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Doubles = npt.NDArray[np.float64]

#: What is measured: arrays [1 + draws] by name.
Measured = dict[str, Doubles]

DRAWS = 500
_INTERVAL = [2.5, 97.5]
#: Weights held at once.
_CHUNK = 4_000_000


class Draws:
    """Weights of events (or of whole sessions) in the log as it is and in `draws` logs of as many sessions drawn from it.

    session  int [n]: each event's session, any numbers.
    """

    def __init__(self, session: Ints, seed: int = 0, draws: int = DRAWS) -> None:
        _, number = np.unique(session, return_inverse=True)
        self.number: Ints = number.astype(np.int64)  # [n] sessions renumbered 0..S-1
        self.sessions = int(number.max()) + 1 if len(number) else 0
        counts = np.ones((1 + draws, self.sessions), np.int32)
        if self.sessions:
            shares = np.full(self.sessions, 1 / self.sessions)
            counts[1:] = np.random.default_rng(seed).multinomial(self.sessions, shares, draws)
        self._counts = counts

    def of_sessions(self) -> Doubles:
        """[1 + draws, S]: how often each session was drawn."""
        return self._counts.astype(np.float64)

    def measure(self, figures: Callable[[Doubles], Measured], events: Bools | None = None) -> Measured:
        """`figures(weights)` over all draws. Takes weights [d, n'] of the chosen events, gives arrays [d]."""
        number = self.number if events is None else self.number[events]
        at_once = max(_CHUNK // max(len(number), 1), 1)
        parts = [
            figures(self._counts[begin : begin + at_once, number].astype(np.float64))
            for begin in range(0, len(self._counts), at_once)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def interval(measured: Doubles) -> list[float] | None:
    """[value, low, high]: the middle 95% of the draws. None where the value is not a number.

    Draws in which a figure cannot be made (none of one class, say) are left out.
    """
    value, drawn = measured[0], measured[1:]
    drawn = drawn[np.isfinite(drawn)]
    if not np.isfinite(value):
        return None
    low, high = np.percentile(drawn, _INTERVAL) if len(drawn) else (value, value)
    return [float(value), float(low), float(high)]


def intervals(measured: Measured) -> dict[str, list[float] | None]:
    """`interval` of each."""
    return {name: interval(values) for name, values in measured.items()}


def less(measured: Measured, baseline: Measured) -> dict[str, list[float] | None]:
    """Intervals of the paired differences of what both measured."""
    return {name: interval(values - baseline[name]) for name, values in measured.items() if name in baseline}
