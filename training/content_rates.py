"""What rates by item are shrunk to where items have vectors: what other buckets with such vectors do."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import log_expit, logit
from sklearn.linear_model import LogisticRegression

from training.item_vectors import ItemVectors

Doubles = npt.NDArray[np.float64]

#: Variances that the weights of directions may have. That one is taken which best foretells sessions that were left out.
_SPREADS = (0.001, 0.01, 0.1, 1.0)


class Content(NamedTuple):
    """Log-odds that something follows, less those of the shop, as vectors foretell them; 0 for buckets without a vector."""

    whole: Doubles  # [buckets, heads]
    folds: Doubles  # [FOLDS, buckets, heads] by the sessions of other folds


def foretold(vectors: ItemVectors, followed: Doubles, sessions: Doubles) -> Content:
    """From how many sessions saw a bucket, and in how many of them something followed: [FOLDS, buckets, heads] each.

    0 for a head of which sessions that were left out are not foretold better with vectors than without.
    """
    content = Content(np.zeros(followed.shape[1:]), np.zeros(followed.shape))
    for head in range(followed.shape[2]):
        k, n = followed[:, vectors.buckets, head], sessions[:, vectors.buckets, head]
        content.whole[vectors.buckets, head], content.folds[:, vectors.buckets, head] = _of_head(vectors.values, k, n)
    return content


def _of_head(values: Doubles, k: Doubles, n: Doubles) -> tuple[Doubles, Doubles]:
    """values [B, D], of n [FOLDS, B] sessions k -> [B] and [FOLDS, B]"""
    others = k.sum(0) - k, n.sum(0) - n
    if not (others[0].sum(1) > 0).all() or not (others[0].sum(1) < others[1].sum(1)).all():
        return np.zeros(k.shape[1]), np.zeros(k.shape)
    level = logit(others[0].sum(1) / others[1].sum(1))[:, None]
    best, chosen = _log_likelihood(np.broadcast_to(level, k.shape), k, n), None
    for spread in _SPREADS:
        odds = np.stack([_fitted(values, *other, spread) for other in zip(*others, strict=True)])
        if (score := _log_likelihood(odds, k, n)) > best:
            best, chosen = score, (spread, odds - level)
    if chosen is None:
        return np.zeros(k.shape[1]), np.zeros(k.shape)
    spread, folds = chosen
    return _fitted(values, k.sum(0), n.sum(0), spread) - logit(k.sum() / n.sum()), folds


def _fitted(values: Doubles, k: Doubles, n: Doubles, spread: float) -> Doubles:
    """[B]: log-odds by logistic regression of k out of n on values [B, D]."""
    fit = LogisticRegression(C=spread, max_iter=1000).fit(
        np.concatenate([values, values]), np.repeat([1, 0], len(values)), np.concatenate([k, n - k])
    )
    odds: Doubles = fit.decision_function(values)
    return odds


def _log_likelihood(odds: Doubles, k: Doubles, n: Doubles) -> float:
    return float((k * log_expit(odds) + (n - k) * log_expit(-odds)).sum())
