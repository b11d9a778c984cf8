"""A Bayesian network of discretised features: tree-augmented naive Bayes (Friedman, Geiger, Goldszmidt 1997, section 4)."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csgraph

from training.baselines.corrected import LEARNED_SHARE
from training.baselines.features import FEATURES, features
from training.baselines.heads import LateCorrection, prior, shares
from training.forecast import Forecast
from training.history import Ints
from training.labels import UNKNOWN
from training.metrics.draws import Doubles
from training.session_log import NEXT_TYPES, SessionLog

#: Nodes beside the class: few enough for their tables to be filled.
_NODES = (
    "log_position", "log_elapsed_s", "log_gap_s", "mean_log_gap", "log_repeats", "items_so_far", "categories_so_far",
    "log_visitor_views", "log_visitor_purchases", "log_since_visit_s", "item_carts_rate", "item_purchases_rate",
    "category_carts_rate", "category_purchases_rate", "log_price", "relative_price", "so_far_cart", "so_far_search",
)  # fmt: skip
_BINS = 5
#: Pseudo-counts of each cell's row, spread as the node is overall.
_DOUBT = 5.0
#: A class rarer than this share is left to the prior: its tables would be empty.
_RARE = 1e-3


class BayesianNetwork:
    """One network for the purchase and one for the next type; the purchase's is corrected on later sessions.

    Its evidence is counted more than once where nodes depend on each other beyond the tree: hence the correction.
    """

    def fit(self, log: SessionLog, seed: int) -> None:
        """See `Baseline`."""
        values = _chosen(log)
        self._edges = (
            [np.unique(np.quantile(column, np.linspace(0, 1, _BINS + 1)[1:-1])) for column in values.T] if len(log) else []
        )
        earlier, later = log.split(LEARNED_SHARE)
        trial = _Network(self._bins(earlier), earlier.purchase.astype(np.int64), 2, _shares_of_purchase(earlier))
        self._correction = LateCorrection(trial(self._bins(later))[:, 1], later, prior(log.purchase))
        binned = self._bins(log)
        self._purchase = _Network(binned, log.purchase.astype(np.int64), 2, _shares_of_purchase(log))
        self._next_type = _Network(binned, log.next_type, NEXT_TYPES, shares(log.next_type, NEXT_TYPES))

    def predict(self, log: SessionLog) -> Forecast:
        """See `Baseline`."""
        binned = self._bins(log)
        return Forecast(self._correction(self._purchase(binned)[:, 1]), self._next_type(binned))

    def _bins(self, log: SessionLog) -> Ints:
        """[N, nodes]: the type of the event, and the other features as bins of about equally many training events."""
        columns = [
            np.searchsorted(edges, column, side="left") for edges, column in zip(self._edges, _chosen(log).T, strict=False)
        ]
        return np.asarray(np.stack([log.type, *columns], axis=1), np.int64)


class _Network:
    """P(class | bins) by P(class) * prod P(node | class, parent); the tree of greatest conditional mutual information."""

    def __init__(self, binned: Ints, label: Ints, classes: int, base: Doubles) -> None:
        """binned [N, nodes]; label [N] from 0 or UNKNOWN; base [classes]: shares of the classes."""
        known = label != UNKNOWN
        binned, label = binned[known], label[known]
        self._base = base
        counts = np.bincount(label, minlength=classes)
        self._classes = np.flatnonzero(counts > _RARE * max(len(label), 1))
        if len(self._classes) < 2:
            self._classes = np.zeros(0, np.int64)
            return
        within = np.isin(label, self._classes)
        binned, label = binned[within], np.searchsorted(self._classes, label[within])
        self._sizes = binned.max(axis=0) + 1
        self._parent = _tree(binned, label, len(self._classes), self._sizes)
        self._tables = [self._table(binned, label, node) for node in range(binned.shape[1])]

    def __call__(self, binned: Ints) -> Doubles:
        """[n, classes]"""
        out = np.tile(self._base, (len(binned), 1))
        if not len(self._classes) or not len(binned):
            return out
        binned = np.minimum(binned, self._sizes - 1)  # a bin that training left empty is the nearest one that it did not
        logs = np.tile(np.log(self._base[self._classes]), (len(binned), 1))
        for node, (table, parent) in enumerate(zip(self._tables, self._parent, strict=True)):
            given = binned[:, parent] if parent >= 0 else np.zeros(len(binned), np.int64)
            logs += table[:, given, binned[:, node]].T
        p = np.exp(logs - logs.max(axis=1, keepdims=True))
        out[:, self._classes] = p / p.sum(axis=1, keepdims=True) * self._base[self._classes].sum()
        return out

    def _table(self, binned: Ints, label: Ints, node: int) -> Doubles:
        """[classes, parent's bins, node's bins]: log P(node | class, parent), smoothed towards P(node | class)."""
        size, parent = int(self._sizes[node]), int(self._parent[node])
        given = binned[:, parent] if parent >= 0 else np.zeros(len(binned), np.int64)
        counts = np.zeros((len(self._classes), int(self._sizes[parent]) if parent >= 0 else 1, size))
        np.add.at(counts, (label, given, binned[:, node]), 1.0)
        overall = (counts.sum(axis=(0, 1)) + 1.0) / (counts.sum() + size)
        by_class = counts.sum(axis=1) + _DOUBT * overall  # [classes, size]
        by_class /= by_class.sum(axis=1, keepdims=True)
        smoothed = counts + _DOUBT * by_class[:, None]
        return np.asarray(np.log(smoothed / smoothed.sum(axis=2, keepdims=True)))


def _tree(binned: Ints, label: Ints, classes: int, sizes: Ints) -> Ints:
    """[nodes]: each node's parent in the maximum spanning tree from node 0; -1 for node 0."""
    nodes = binned.shape[1]
    information = np.zeros((nodes, nodes))
    for a in range(nodes):
        for b in range(a + 1, nodes):
            joint = np.zeros((classes, int(sizes[a]), int(sizes[b])))
            np.add.at(joint, (label, binned[:, a], binned[:, b]), 1.0)
            information[a, b] = _conditional_information(joint / len(label))
    # A minimum spanning tree of what is always positive: an edge of 0 would be none.
    tree = csgraph.minimum_spanning_tree(np.triu(information.max() + 1.0 - information, 1))
    _, parent = csgraph.breadth_first_order(tree, 0, directed=False)
    return np.where(parent < 0, -1, parent).astype(np.int64)


def _conditional_information(joint: Doubles) -> float:
    """I(A; B | C) in nats of probabilities [C, A, B]."""
    a, b, c = joint.sum(axis=2, keepdims=True), joint.sum(axis=1, keepdims=True), joint.sum(axis=(1, 2), keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = joint * np.log(joint * c / (a * b))
    return float(np.nansum(ratio))


def _chosen(log: SessionLog) -> npt.NDArray[Any]:
    return features(log)[:, [FEATURES.index(name) for name in _NODES]]


def _shares_of_purchase(log: SessionLog) -> Doubles:
    p = prior(log.purchase)
    return np.array([1 - p, p])
