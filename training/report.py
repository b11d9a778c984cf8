"""Figures by prefix length with intervals: what `inkling evaluate` prints. Sessions are drawn, not events."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from training.evaluate import CLIP, Doubles, Judged

#: Prefix lengths that are looked at alone, beside all events together.
POSITIONS = (1, 2, 3, 5, 10)
_DRAWS = 500
#: Weights held at once.
_CHUNK = 8_000_000
_BINS = 10
_INTERVAL = [2.5, 97.5]

Weights = npt.NDArray[np.float64]


class Figures(NamedTuple):
    """Each [draws]: one value for each row of weights."""

    roc_auc: Doubles
    pr_auc: Doubles
    log_loss: Doubles
    ece: Doubles


def report(judged: Judged, baseline: Doubles, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Figures of `judged` by prefix length ("all", "1", "2", ...): each [value, low, high], 95% by a bootstrap over sessions.

    `baseline` [n] is another model's probability of the same events; "minus_baseline" has the paired differences.
    """
    out: dict[str, dict[str, Any]] = {}
    for name in ("all", *map(str, POSITIONS)):
        at = np.ones(len(judged.label), bool) if name == "all" else judged.position == int(name)
        out[name] = _part(judged.session[at], judged.label[at], judged.p[at], baseline[at], seed)
    return out


def figures(label: npt.NDArray[np.int64], p: Doubles, weights: Weights) -> Figures:
    """Weighted figures of n events, for each row of weights [draws, n]. NaN where one class has no weight."""
    order = np.argsort(-p, kind="stable")
    y, q, w = label[order], p[order], weights[:, order]
    end = np.append(np.flatnonzero(np.diff(q)), len(q) - 1)  # last of each group of equal p
    hits, misses = np.cumsum(w * y, axis=1)[:, end], np.cumsum(w * (1 - y), axis=1)[:, end]
    new_hits, new_misses = np.diff(hits, axis=1, prepend=0.0), np.diff(misses, axis=1, prepend=0.0)
    clipped = np.clip(q, CLIP, 1 - CLIP)
    losses = -np.where(y == 1, np.log(clipped), np.log1p(-clipped))
    total = w.sum(axis=1)
    bins = np.array_split(np.arange(len(q)), min(_BINS, len(q)))
    with np.errstate(invalid="ignore", divide="ignore"):
        roc = ((hits - new_hits / 2) * new_misses).sum(axis=1) / (hits[:, -1] * misses[:, -1])
        precision = np.nan_to_num(hits / (hits + misses))
        pr = (new_hits * precision).sum(axis=1) / hits[:, -1]
        gaps = sum(np.abs(w[:, rows] @ (y - q)[rows]) for rows in bins)
        return Figures(roc, pr, w @ losses / total, np.asarray(gaps) / total)


def _part(
    session: npt.NDArray[np.int64], label: npt.NDArray[np.int64], p: Doubles, baseline: Doubles, seed: int
) -> dict[str, Any]:
    part: dict[str, Any] = {
        "events": len(label),
        "sessions": len(np.unique(session)),
        "positives": int(label.sum()),
        "prevalence": float(label.mean()) if len(label) else None,
    }
    if not 0 < label.sum() < len(label):
        return part
    ones = np.ones((1, len(label)))
    point, base_point = figures(label, p, ones), figures(label, baseline, ones)
    drawn, base_drawn = (_drawn(session, label, each, seed) for each in (p, baseline))
    part |= {name: _interval(getattr(point, name), getattr(drawn, name)) for name in Figures._fields}
    part["minus_baseline"] = {
        name: _interval(getattr(point, name) - getattr(base_point, name), getattr(drawn, name) - getattr(base_drawn, name))
        for name in Figures._fields
    }
    return part


def _drawn(session: npt.NDArray[np.int64], label: npt.NDArray[np.int64], p: Doubles, seed: int) -> Figures:
    """Figures of `_DRAWS` draws of the sessions with replacement; the same seed draws the same sessions."""
    _, number = np.unique(session, return_inverse=True)
    sessions = int(number.max()) + 1
    rng = np.random.default_rng(seed)
    at_once = max(_CHUNK // max(sessions, len(session)), 1)
    parts = []
    for begin in range(0, _DRAWS, at_once):
        draws = min(at_once, _DRAWS - begin)
        counts = rng.multinomial(sessions, np.full(sessions, 1 / sessions), draws)
        parts.append(figures(label, p, counts[:, number].astype(np.float64)))
    return Figures(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _interval(value: Doubles, drawn: Doubles) -> list[float]:
    low, high = np.nanpercentile(drawn, _INTERVAL)
    return [float(value[0]), float(low), float(high)]
