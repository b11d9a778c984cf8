"""What several baselines share: a prior where there is nothing to learn, logistic heads, a late correction, lists of items."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from training.forecast import LISTED
from training.history import Ints
from training.labels import UNKNOWN
from training.metrics.draws import Doubles
from training.session_log import SessionLog

_MAX_STEPS = 300
#: Rows taken at random where there are more: a few hundred weights need no more.
_MOST_ROWS = 60_000
#: Classes of which a distribution is still made; with more (categories of a huge shop) it would not fit in memory.
MOST_CLASSES = 2000

Table = npt.NDArray[np.floating[Any]]


def prior(label: npt.NDArray[Any]) -> float:
    """Share of 1 among the labels that are 0 or 1, with a little doubt: never 0, never 1."""
    known = label[label != UNKNOWN]
    return float(((known == 1).sum() + 0.5) / (len(known) + 10.0)) if len(known) else 0.05


def shares(label: Ints, classes: int) -> Doubles:
    """[classes]: how often each class is among the known labels, with a little for those that never are."""
    counts = np.bincount(label[label != UNKNOWN], minlength=classes) + 0.1
    return np.asarray(counts / counts.sum())


def to_classes(label: Ints, classes: int) -> Ints:
    """Numbers from `classes` - 1 on become the last class, "any other"; UNKNOWN stays."""
    return np.where(label == UNKNOWN, UNKNOWN, np.minimum(label, classes - 1))


class BinaryHead:
    """Logistic regression of a label; the prior alone where a class is missing."""

    def __init__(self, values: Table, label: npt.NDArray[Any], strength: float, seed: int) -> None:
        """values [N, F], standardised; label [N] with 1, 0 or UNKNOWN. `strength` is that of the penalty, as in 1 / C."""
        self._prior = prior(label)
        self._model: LogisticRegression | None = None
        rows = _some(label, seed)
        if len(np.unique(label[rows])) == 2:
            self._model = LogisticRegression(C=1 / strength, max_iter=_MAX_STEPS).fit(values[rows], label[rows])

    def __call__(self, values: Table) -> Doubles:
        """[N]: probabilities."""
        if self._model is None or not len(values):
            return np.full(len(values), self._prior)
        return np.asarray(self._model.predict_proba(values)[:, 1], np.float64)


class ClassHead:
    """Softmax regression of a class; classes that were not seen get next to nothing."""

    def __init__(self, values: Table, label: Ints, classes: int, strength: float, seed: int) -> None:
        """label [N] is a class from 0 or UNKNOWN."""
        self._shares = shares(label, classes)
        self._model: LogisticRegression | None = None
        rows = _some(label, seed)
        if len(np.unique(label[rows])) > 1:
            self._model = LogisticRegression(C=1 / strength, max_iter=_MAX_STEPS).fit(values[rows], label[rows])

    def __call__(self, values: Table) -> Doubles:
        """[N, classes]: probabilities."""
        out = np.tile(self._shares, (len(values), 1))
        if self._model is not None and len(values):
            seen = self._model.classes_
            out[:, seen] = self._model.predict_proba(values) * self._shares[seen].sum()
        return out


class LateCorrection:
    """Scores made into probabilities: how much they tell is seen on later sessions, the level is that of the whole log.

    The slope is that of a logistic regression on the scores' log-odds. A score that ranks the wrong way there says nothing:
    then it is the prior.
    """

    _STRENGTH = 1.0
    _HALVINGS = 60

    def __init__(self, score: Doubles, later: SessionLog, prior_p: float) -> None:
        """score [N] in (0, 1), of the later sessions; `prior_p` is the share of purchases in the whole log."""
        self._slope, self._bias = 0.0, float(log_odds(np.array([prior_p]))[0])
        label = later.purchase
        known = label != UNKNOWN
        if len(np.unique(label[known])) < 2:
            return
        odds = log_odds(score[known])
        center = float(odds.mean())
        # The events of a session share their fate: together they count as one.
        weight = np.full(len(odds), later.sessions / len(later))
        fitted = LogisticRegression(C=1 / self._STRENGTH).fit((odds - center)[:, None], label[known], weight)
        if fitted.coef_[0, 0] > 0:
            self._slope = float(fitted.coef_[0, 0])
            self._bias = self._level(odds, prior_p)

    def __call__(self, score: Doubles) -> Doubles:
        """[N]: probabilities."""
        return sigmoid(self._bias + self._slope * log_odds(score))

    def _level(self, odds: Doubles, mean: float) -> float:
        """The bias with which the mean probability is `mean`: few later sessions say little of the level."""
        low, high = -60.0, 60.0
        for _ in range(self._HALVINGS):
            middle = (low + high) / 2
            if sigmoid(middle + self._slope * odds).mean() < mean:
                low = middle
            else:
                high = middle
        return (low + high) / 2


def log_odds(p: Doubles) -> Doubles:
    """The logit, of probabilities kept off 0 and 1."""
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(p) - np.log1p(-p))


def sigmoid(z: Doubles) -> Doubles:
    """The inverse of `log_odds`."""
    return np.asarray(np.exp(-np.logaddexp(0.0, -z)))


def most_popular(item: Ints, items: int) -> Ints:
    """[LISTED]: items by their number of events, the earlier one first among equals; -1 fills up."""
    counts = np.bincount(item[item != UNKNOWN], minlength=items)
    best = np.argsort(-counts, kind="stable")[:LISTED]
    return np.asarray(np.concatenate([best[counts[best] > 0], np.full(LISTED, -1)])[:LISTED], np.int64)


def top_items(scores: sparse.csr_matrix, popular: Ints) -> Ints:
    """[N, LISTED]: each row's items of the highest score above 0, then popular ones that are not among them."""
    lists = np.full((scores.shape[0], LISTED), -1, np.int64)
    popular = popular[popular >= 0]
    for row in range(scores.shape[0]):
        begin, end = scores.indptr[row], scores.indptr[row + 1]
        index, value = scores.indices[begin:end], scores.data[begin:end]
        if len(value) > LISTED:
            best = np.argpartition(-value, LISTED)[: LISTED + 1]
            index, value = index[best], value[best]
        # Among equals the item of the smaller number, so that no order of sums decides.
        ordered = index[np.lexsort((index, -value))][:LISTED]
        if len(ordered) < LISTED:
            ordered = np.concatenate([ordered, popular[~np.isin(popular, ordered)]])[:LISTED]
        lists[row, : len(ordered)] = ordered
    return lists


def in_chunks(count: int, size: int, make: Callable[[slice], Ints]) -> Ints:
    """[N, LISTED]: `make` for one slice of the events after the other."""
    parts = [make(slice(begin, min(begin + size, count))) for begin in range(0, count, size)]
    return np.concatenate(parts) if parts else np.zeros((0, LISTED), np.int64)


def _some(label: npt.NDArray[Any], seed: int) -> Ints:
    rows = np.flatnonzero(label != UNKNOWN)
    if len(rows) > _MOST_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, _MOST_ROWS, replace=False))
    return rows
