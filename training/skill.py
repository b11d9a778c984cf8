"""How far scores of sessions that nobody has learned from are to be believed: what their slope is worth."""

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

#: The slope that stays even where nothing speaks for the scores. What it costs if they are luck grows with its square, what it
#: saves if they are not with itself; and it keeps their order.
LEAST_SLOPE = 0.2
_NEWTON_STEPS = 30
_HALVINGS = 60
#: Log-odds beyond which no shift is looked for.
_WIDEST = 20.0
_LEAST_CURVATURE = 1e-9


def belief(logit: Doubles, label: Doubles, session: npt.NDArray[np.int64]) -> float:
    """The share, from 0 to 1, of a slope that is more than luck, from logits [n], labels [n] and sessions [n].

    Positive-part shrinkage to "nothing is known" (James and Stein, 1961): 1 - 1/z², where z is the likeliest slope over its
    standard error. Events of one session share their fate, so the error is taken over sessions (Huber, 1967), and is wider
    where few sessions hold a positive.
    """
    _, number = np.unique(session, return_inverse=True)
    positives = len(np.unique(number[label == 1]))
    negatives = len(np.unique(number[label == 0]))
    rarer = min(positives, negatives)
    x = logit - logit.mean() if len(logit) else logit
    if rarer <= 2 or not x.any():
        return 0.0
    design = np.stack([x, np.ones_like(x)], axis=1)  # [n, 2]
    rate = label.mean()
    at = np.array([0.0, np.log(rate / (1 - rate))])
    for _ in range(_NEWTON_STEPS):
        p = _sigmoid(design @ at)
        curvature = design.T @ (design * (p * (1 - p))[:, None]) + _LEAST_CURVATURE * np.eye(2)
        step = np.linalg.solve(curvature, design.T @ (label - p))
        at = at + step / max(1.0, float(np.abs(step).max()))
    by_session = np.stack([np.bincount(number, column * (label - p)) for column in design.T], axis=1)
    inverse = np.linalg.inv(curvature)
    variance = float((inverse @ (by_session.T @ by_session) @ inverse)[0, 0]) * rarer / (rarer - 2)
    slope = float(at[0])
    if slope <= 0:
        return 0.0
    return float(np.clip(1 - variance / slope**2, 0.0, 1.0))


def shift_to(mean: float, logit: Doubles) -> float:
    """What is to be added to logits [n] so that their mean probability is `mean`."""
    low, high = -_WIDEST, _WIDEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _sigmoid(logit + middle).mean() < mean else (low, middle)
    return (low + high) / 2


def _sigmoid(logit: Doubles) -> Doubles:
    return np.asarray(1 / (1 + np.exp(-np.clip(logit, -700, 700))))
