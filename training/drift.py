"""Where a level that may have moved stands now: a local-level model over stretches of time (Harvey, 1989, ch. 2)."""

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

#: Stretches of equally many sessions: so many, or as many as still hold so many of the rarer kind each, on average. The likeliest
#: level of a stretch with a handful of positives is mostly too low.
_STRETCHES, _LEAST_RARE = 12, 25
#: Spreads, in log-odds, by which the level may move from one stretch to the next. 0: it stays.
_STEPS = (0.0, 0.02, 0.04, 0.08, 0.16, 0.32)
#: How much likelier (in nats) a moving level must make the data than one that stays.
_SURELY = 4.0
#: Spread of the level at the start.
_SPREAD = 0.2
#: Probabilities are kept this far from 0 and 1.
_LEAST = 1e-6
#: Steps to each stretch's own shift, and its spread where the stretch says next to nothing.
_NEWTON_STEPS, _WIDE = 8, 2.0


def level_now(p: Doubles, label: Doubles, session: npt.NDArray[np.int64], started_ms: npt.NDArray[np.int64]) -> float:
    """What is to be added to the log-odds of p [n], so that the level is right at the end. Sessions of one fate count as one."""
    _, number = np.unique(np.stack([started_ms, session], axis=1), axis=0, return_inverse=True)
    number = number.reshape(-1)
    sessions = int(number.max()) + 1
    positive = np.zeros(sessions, bool)
    positive[number[label == 1]] = True
    rarer = min(int(positive.sum()), int((~positive).sum()))
    stretches = min(_STRETCHES, max(rarer // _LEAST_RARE, 1))
    stretch = np.arange(sessions) * stretches // sessions
    of = stretch[number]
    p = np.clip(p, _LEAST, 1 - _LEAST)
    logit = np.log(p) - np.log1p(-p)
    shift = np.zeros(stretches)
    for _ in range(_NEWTON_STEPS):
        now = 1 / (1 + np.exp(-logit - shift[of]))
        weight = np.bincount(of, now * (1 - now)) + 1 / _WIDE**2
        shift += (np.bincount(of, label - now) - shift / _WIDE**2) / weight
    # Sessions, not events, are independent. By how much that matters all stretches tell together: where few happened to buy, a
    # stretch of its own would seem the surest.
    surprise = (np.bincount(number, label - now) ** 2).sum()
    noise = max(surprise / weight.sum(), 1.0) / weight
    fits = [_filtered(shift, noise, step) for step in _STEPS]
    best = max(range(len(_STEPS)), key=lambda k: fits[k][0] - (_SURELY if k else 0.0))
    return fits[best][1]


def _filtered(shift: Doubles, noise: Doubles, step: float) -> tuple[float, float]:
    """Log-likelihood of the stretches' shifts, and the level after the last of them (a Kalman filter)."""
    level, spread, total = 0.0, _SPREAD**2, 0.0
    for k, (seen, of) in enumerate(zip(shift, noise, strict=True)):
        if k:
            spread += step**2
        around = spread + of
        total -= 0.5 * (np.log(around) + (seen - level) ** 2 / around)
        level += spread / around * (seen - level)
        spread *= of / around
    return float(total), float(level)
