"""How far the network may depart from the filter of intents: as far as sessions that neither has learned from speak for it.

Of purchases and carts within the session the filter says something by itself, and training starts there. A few hundred buyers
teach a network what the filter cannot see, and luck, too; a mean of the two errs less than either where both err by themselves
(Bates and Granger, 1969).
"""

import copy
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from training.calibrate import collect
from training.examples import Examples
from training.labels import UNKNOWN
from training.model import IntentModel
from training.serving import Calibration
from training.wide import SESSION_LINKS, start_at_filter
from worker.contract.events import HORIZONS

_SESSION = HORIZONS.index("session")
#: What trust may be expected before any session is seen, where the filter knows more, and how far from that it may be.
_TRUST, _SPREAD = 0.25, 0.25
_NEWTON_STEPS = 20
_WIDEST_STEP = 1.0

Doubles = npt.NDArray[np.float64]


@torch.no_grad()
def departing(model: IntentModel, trust: Sequence[float]) -> IntentModel:
    """A copy whose log-odds of purchases and carts within the session depart from the filter's by the share `trust`, by head."""
    filtered, mixed = copy.deepcopy(model), copy.deepcopy(model)
    start_at_filter(filtered, range(len(SESSION_LINKS)))
    for link, share in zip(SESSION_LINKS, trust, strict=True):
        for part in ("wide.weight", "link.weight", "link.bias"):
            mixed.get_parameter(part)[link].lerp_(filtered.get_parameter(part)[link], 1 - share)
    return mixed


def trust_in(parts: Sequence[tuple[IntentModel, Examples]]) -> list[float]:
    """By head, from 0 to 1: what `departing` makes the labels of these examples likeliest, none of which its network has seen.

    Without any example it is what may be expected; of a head without a positive all of the network, which stays at its prior.
    """
    parts = [(model, examples) for model, examples in parts if len(examples)]
    if not parts:
        return [_TRUST] * len(SESSION_LINKS)
    logits, labels = [], []
    with torch.no_grad():
        for model, examples in parts:
            whole = collect(model.eval(), Calibration(), examples)
            none = collect(departing(model, [0.0] * len(SESSION_LINKS)), Calibration(), examples)
            logits.append(torch.stack([none.link, whole.link], dim=-1)[:, :, _SESSION].double().numpy())
            labels.append(whole.link_label[:, :, _SESSION].numpy())
    logit, label = np.concatenate(logits), np.concatenate(labels)
    weight = sum(examples.sessions for _, examples in parts) / len(label)
    return [_trust(logit[:, h], label[:, h], weight) for h in range(len(SESSION_LINKS))]


def _trust(logit: Doubles, label: npt.NDArray[np.int8], weight: float) -> float:
    """The likeliest share, held back, from logits without and with all departure [N, 2] and labels [N]; the level is free.

    Events of a session share its fate: `weight` is what one counts.
    """
    known = label != UNKNOWN
    start, departure, happened = logit[known, 0], logit[known, 1] - logit[known, 0], label[known] == 1
    if not happened.any():
        return 1.0
    design = np.stack([departure, np.ones_like(departure)], axis=1)
    at, prior = np.array([_TRUST, 0.0]), np.diag([1 / _SPREAD**2, 1e-6])
    for _ in range(_NEWTON_STEPS):
        p = 1 / (1 + np.exp(-(start + design @ at)))
        slope = weight * design.T @ (happened - p) - prior @ (at - [_TRUST, 0.0])
        curvature = weight * design.T @ (design * (p * (1 - p))[:, None]) + prior
        step = np.linalg.solve(curvature, slope)
        at = at + step / max(_WIDEST_STEP, float(np.abs(step).max()))
    return float(np.clip(at[0], 0.0, 1.0))
