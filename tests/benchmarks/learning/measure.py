"""One version judged on one simulated set."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tests.benchmarks.learning.sets import SimulatedSet
from training.metrics.binary import figures, log_losses

#: Draws of labels for the calibration error that even the truth would show.
_FLOOR_DRAWS = 100

Doubles = npt.NDArray[np.float64]


class Measured(NamedTuple):
    """`share` of the Bayes skill: (constant - model) / (constant - Bayes), all in log-loss over the judging events.

    `expected_share` is the same in the log-loss that the truth has one expect: without the luck of these labels.
    """

    events: int
    prevalence: float
    constant: float
    bayes: float
    log_loss: float
    share: float
    expected_share: float
    roc_auc: float
    bayes_auc: float
    first_auc: float
    bayes_first_auc: float
    ece: float
    floor: float
    bayes_ece: float
    level: float


def measured(data: SimulatedSet, p: Doubles, seed: int = 0) -> Measured:
    """Figures of the scores p [n] of the set's judging events. `level` is mean score less share of positives.

    `floor` is the mean calibration error of scores that are true, `bayes_ece` that of the truth on these very sessions.
    """
    label, truth = data.label, data.truth
    ones = np.ones((1, len(label)))
    scores = np.full(len(label), data.prevalence), truth, p
    constant, bayes, model = (float(log_losses(label, each).mean()) for each in scores)
    constant_expected, bayes_expected, expected = (float(_expected_losses(truth, each).mean()) for each in scores)
    mine, best = figures(label, p, ones), figures(label, truth, ones)
    first = data.position == 1
    mine_first, best_first = (figures(label[first], each[first], ones[:, first]) for each in (p, truth))
    return Measured(
        events=len(label),
        prevalence=float(label.mean()),
        constant=constant,
        bayes=bayes,
        log_loss=model,
        share=(constant - model) / (constant - bayes),
        expected_share=(constant_expected - expected) / (constant_expected - bayes_expected),
        roc_auc=float(mine["roc_auc"][0]),
        bayes_auc=float(best["roc_auc"][0]),
        first_auc=float(mine_first["roc_auc"][0]),
        bayes_first_auc=float(best_first["roc_auc"][0]),
        ece=float(mine["ece"][0]),
        floor=_floor(data, p, seed),
        bayes_ece=float(best["ece"][0]),
        level=float((p - label).mean()),
    )


def _expected_losses(truth: Doubles, p: Doubles) -> Doubles:
    """Log-loss of each of the scores, as labels drawn by the truth come out on average."""
    return -(truth * np.log(p) + (1 - truth) * np.log1p(-p))


def _floor(data: SimulatedSet, p: Doubles, seed: int) -> float:
    """The calibration error that scores show when they are the truth; events of one session share their luck."""
    _, number = np.unique(data.session, return_inverse=True)
    rng = np.random.default_rng(seed)
    ones = np.ones((1, len(p)))
    luck = rng.random((_FLOOR_DRAWS, int(number.max()) + 1))
    return float(np.mean([figures((row[number] < p).astype(np.int64), p, ones)["ece"][0] for row in luck]))
