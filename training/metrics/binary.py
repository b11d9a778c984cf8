"""Figures of probabilities of one thing that happens or does not."""

import numpy as np

from training.metrics.draws import Doubles, Draws, Ints, Measured

#: Probabilities are kept this far from 0 and 1 in the log-loss, as everywhere in this field.
CLIP = 1e-6
BINS = 10
_FLOOR_DRAWS = 200


def log_losses(label: Ints, p: Doubles) -> Doubles:
    """Each event's log-loss in nats: [n]."""
    p = np.clip(p, CLIP, 1 - CLIP)
    return np.asarray(-np.where(label == 1, np.log(p), np.log1p(-p)))


def figures(label: Ints, p: Doubles, weights: Doubles) -> Measured:
    """Weighted ROC AUC, PR AUC (average precision), log-loss, Brier score and calibration error for each row of weights [d, n].

    NaN where a figure needs both classes and one has no weight.
    """
    order = np.argsort(-p, kind="stable")
    y, q, w = label[order], p[order], weights[:, order]
    end = _ends(q)
    hits, misses = np.cumsum(w * y, axis=1)[:, end], np.cumsum(w * (1 - y), axis=1)[:, end]
    new_hits, new_misses = np.diff(hits, axis=1, prepend=0.0), np.diff(misses, axis=1, prepend=0.0)
    total = w.sum(axis=1)
    bins = calibration_bins(q)
    with np.errstate(invalid="ignore", divide="ignore"):
        roc = ((hits - new_hits / 2) * new_misses).sum(axis=1) / (hits[:, -1] * misses[:, -1])
        precision = np.nan_to_num(hits / (hits + misses))
        return {
            "roc_auc": roc,
            "pr_auc": (new_hits * precision).sum(axis=1) / hits[:, -1],
            "log_loss": w @ log_losses(y, q) / total,
            "brier": w @ (y - q) ** 2 / total,
            "ece": np.abs(_by_bin(w * (y - q), bins)).sum(axis=1) / total,
        }


def prevalence_loss(label: Ints, weights: Doubles) -> Doubles:
    """[d]: the log-loss of the best constant, which is the share of positives of each row of weights [d, n]."""
    share = np.clip(weights @ label / weights.sum(axis=1), CLIP, 1 - CLIP)
    return np.asarray(-(share * np.log(share) + (1 - share) * np.log1p(-share)))


def ece_floor(draws: Draws, p: Doubles, seed: int = 0, times: int = _FLOOR_DRAWS) -> float:
    """The calibration error that these probabilities would show if they were exactly right, by simulated labels.

    A session's events share one uniform number, so that their labels hang together as real ones do.
    """
    order = np.argsort(-p, kind="stable")
    q, number = p[order], draws.number[order]
    uniform = np.random.default_rng(seed).random((times, draws.sessions))[:, number]
    gaps = _by_bin((uniform < q) - q, calibration_bins(q))
    return float((np.abs(gaps).sum(axis=1) / len(q)).mean())


def calibration_bins(q: Doubles) -> Ints:
    """[n] -> bin 0..9 of each event, for probabilities sorted downwards: ten of about equally many.

    Equal probabilities share a bin, that of their middle rank: what a score does not tell apart, no bin may.
    """
    end = _ends(q)
    start = np.concatenate([[0], end[:-1] + 1])
    middle = ((start + end + 1) * BINS // (2 * len(q))).clip(0, BINS - 1)
    return np.repeat(middle, end - start + 1)


def _ends(q: Doubles) -> Ints:
    """Index of the last of each group of equal values, which stand together."""
    return np.append(np.flatnonzero(np.diff(q)), len(q) - 1)


def _by_bin(values: Doubles, bins: Ints) -> Doubles:
    """[d, n] -> [d, 10]: sums by bin; `bins` never falls."""
    sums = np.zeros((len(values), BINS))
    present, first = np.unique(bins, return_index=True)
    sums[:, present] = np.add.reduceat(values, first, axis=1)
    return sums
