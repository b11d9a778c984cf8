"""Boosted trees with the streaming counters: what beats naive sequence models on real shops."""

from typing import Any

import numpy as np
import numpy.typing as npt

from training.baselines.features import features
from training.baselines.heads import prior, shares
from training.forecast import Forecast
from training.labels import UNKNOWN
from training.metrics.draws import Doubles
from training.rates import PROFILE
from training.session_log import NEXT_TYPES, SessionLog
from worker.contract.features import CODES

#: Small steps of small trees, held back: shops with few buyers are the rule. One thread, so that sums have one order.
_SETTINGS: dict[str, Any] = {
    "learning_rate": 0.03,
    "num_leaves": 7,
    "min_data_in_leaf": 50,
    "lambda_l2": 10.0,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
#: Who visits, as categories: behind the table of features, where a bucket's number would mean nothing to others.
_VISITOR = [CODES.index(scope) for scope in PROFILE]
_ROUNDS = 200
_TYPE_ROUNDS = 100


class LightGBM:
    """LightGBM of the purchase and of the next type on the table of features and who visits. A fixed number of rounds, no early
    stopping.
    """

    def fit(self, log: SessionLog, seed: int) -> None:
        """See `Baseline`."""
        values = _values(log)
        self._prior, self._shares = prior(log.purchase), shares(log.next_type, NEXT_TYPES)
        self._purchase = _boosted(values, log.purchase, {"objective": "binary"}, _ROUNDS, seed)
        # Classes are renumbered without gaps: a class that is never seen costs trees, too.
        self._types = np.unique(log.next_type[log.next_type != UNKNOWN])
        label = np.where(log.next_type == UNKNOWN, UNKNOWN, np.searchsorted(self._types, log.next_type))
        several = {"objective": "multiclass", "num_class": len(self._types)}
        self._next_type = _boosted(values, label, several, _TYPE_ROUNDS, seed)

    def predict(self, log: SessionLog) -> Forecast:
        """See `Baseline`."""
        values = _values(log)
        purchase = np.full(len(log), self._prior) if self._purchase is None else _predicted(self._purchase, values)
        next_type = np.tile(self._shares, (len(log), 1))
        if self._next_type is not None and len(log):
            next_type[:, self._types] = _predicted(self._next_type, values) * self._shares[self._types].sum()
        return Forecast(purchase, next_type)


def _values(log: SessionLog) -> npt.NDArray[Any]:
    return np.concatenate([features(log), log.rows["codes"][:, _VISITOR]], axis=1, dtype=np.float32, casting="unsafe")


def _boosted(values: npt.NDArray[Any], label: npt.NDArray[Any], task: dict[str, Any], rounds: int, seed: int) -> Any:
    """A booster, or None when there are not two classes to tell apart."""
    import lightgbm

    rows = label != UNKNOWN
    if len(np.unique(label[rows])) < 2:
        return None
    categories = list(range(values.shape[1] - len(_VISITOR), values.shape[1]))
    quiet = {"verbosity": -1, "num_threads": 1}
    data = lightgbm.Dataset(values[rows], label[rows], params=quiet, categorical_feature=categories)
    return lightgbm.train({**_SETTINGS, **task, "seed": seed}, data, rounds)


def _predicted(booster: Any, values: npt.NDArray[Any]) -> Doubles:
    return np.asarray(booster.predict(values, num_threads=1), np.float64) if len(values) else np.zeros(0)
