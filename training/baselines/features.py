"""One table of features for all baselines that take numbers: the worker's row of each event, and sums over its session so far."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from training.history import Ints
from training.session_log import SessionLog
from worker.contract.events import EVENT_TYPES
from worker.contract.features import CODES, NUMBERS

Floats = npt.NDArray[np.float32]

_SCOPES = ("visitor", "item", "category", "brand")
_RATED = ("carts", "purchases")
_MAY_MISS = ("price", "since_visit_s")
_SAME = ("type", "item", "category", "brand")
#: Views that the log's overall rate is worth when a scope's own is smoothed towards it.
_PRIOR_VIEWS = 10.0
_PRIOR_RATE = 0.05

FEATURES: tuple[str, ...] = (
    *(f"log_{name}" for name in NUMBERS),
    *(f"no_{name}" for name in _MAY_MISS),
    *(f"{scope}_{of}_rate" for scope in _SCOPES for of in _RATED),
    *(f"type_{name}" for name in EVENT_TYPES),
    *(f"same_{name}" for name in _SAME),
    *(f"so_far_{name}" for name in EVENT_TYPES),
    "items_so_far", "categories_so_far", "mean_log_gap", "mean_log_price", "relative_price",
    "hour_sin", "hour_cos",
)  # fmt: skip


def features(log: SessionLog) -> Floats:
    """[N, len(FEATURES)], finite. An event's row rests on its session up to the event."""
    rows, session = log.rows, log.session
    numbers = rows["numbers"].astype(np.float64)
    missing = np.isnan(numbers)
    known = np.clip(np.where(missing, 0.0, numbers), 0.0, None)
    logs = np.log1p(known)
    at = NUMBERS.index
    rates = [
        np.log((known[:, at(f"{scope}_{of}")] + _PRIOR_VIEWS * _PRIOR_RATE) / (known[:, at(f"{scope}_views")] + _PRIOR_VIEWS))
        for scope in _SCOPES
        for of in _RATED
    ]
    types = log.type[:, None] == np.arange(len(EVENT_TYPES))
    so_far = _cumulated(types.astype(np.float64), log.start)
    place = log.position.astype(np.float64)
    price = logs[:, at("price")]
    priced = _cumulated((~missing[:, at("price")]).astype(np.float64)[:, None], log.start)[:, 0]
    mean_price = _cumulated(price[:, None], log.start)[:, 0] / np.maximum(priced, 1.0)
    columns: list[npt.NDArray[Any]] = [
        logs,
        missing[:, [at(name) for name in _MAY_MISS]],
        np.stack(rates, axis=1),
        types,
        _same(rows["codes"], session),
        np.log1p(so_far),
        _distinct(log.item, log.start, session),
        _distinct(log.category, log.start, session),
        _cumulated(logs[:, [at("gap_s")]], log.start) / place[:, None],
        mean_price[:, None],
        np.where(missing[:, at("price")], 0.0, price - mean_price)[:, None],
        _clock(rows["codes"]),
    ]
    return np.concatenate(columns, axis=1, dtype=np.float32, casting="unsafe")


class Standard:
    """Features with mean 0 and deviation 1 in the log that it was made from, cut off at 5 deviations."""

    _MOST = 5.0

    def __init__(self, values: npt.NDArray[Any]) -> None:
        some = len(values) > 0
        self.mean = values.mean(axis=0, dtype=np.float64) if some else np.zeros(values.shape[1])
        # A feature that never varies says nothing: it stays 0 instead of growing without bound.
        deviation = values.std(axis=0, dtype=np.float64) if some else np.ones(values.shape[1])
        self.deviation = np.where(deviation > 1e-3, deviation, np.inf)

    def __call__(self, values: npt.NDArray[Any]) -> Floats:
        scaled = (values - self.mean) / self.deviation
        return np.asarray(np.clip(scaled, -self._MOST, self._MOST), np.float32)


def _cumulated(values: npt.NDArray[np.float64], start: Ints) -> npt.NDArray[np.float64]:
    """[N, k]: sums over the session so far, the event included."""
    total = np.cumsum(values, axis=0)
    before = np.concatenate([np.zeros((1, values.shape[1])), total])[start[:-1]]
    return np.asarray(total - np.repeat(before, np.diff(start), axis=0))


def _same(codes: npt.NDArray[np.int32], session: Ints) -> npt.NDArray[np.bool_]:
    """[N, 4]: whether a code repeats that of the event before."""
    compared = codes[:, [CODES.index(name) for name in _SAME]]
    same = np.zeros(compared.shape, bool)
    same[1:] = (compared[1:] == compared[:-1]) & (compared[1:] > 0) & (session[1:] == session[:-1])[:, None]
    return same


def _distinct(number: Ints, start: Ints, session: Ints) -> npt.NDArray[np.float64]:
    """[N, 1]: log of how many different ones the session has had so far."""
    pair = session * (int(number.max(initial=0)) + 2) + number + 1
    new = np.zeros(len(number))
    new[np.unique(pair, return_index=True)[1]] = 1.0
    new[number < 0] = 0.0
    return np.log1p(_cumulated(new[:, None], start))


def _clock(codes: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """[N, 2]: the hour as a point on a circle, so that midnight is near eleven.

    Not the weekday: a log of a few weeks sees each too seldom to tell its effect from chance.
    """
    hour = codes[:, CODES.index("hour")] * (2 * math.pi / 24)
    return np.stack([np.sin(hour), np.cos(hour)], axis=1)
