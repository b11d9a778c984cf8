"""Thresholds against scikit-learn, and earliness against a plain loop."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_recall_fscore_support

from training.metrics.decision import FALSE_POSITIVE_RATE, at_threshold, best_f1_threshold, choose_threshold, earliness
from training.metrics.draws import Draws


def sessions(seed: int, count: int = 120, rounded: bool = False) -> tuple[np.ndarray, ...]:
    """session, position, label, p of sessions of 1 to 7 events; scores of buyers are higher, the more so the later."""
    rng = np.random.default_rng(seed)
    length = rng.integers(1, 8, count)
    session = np.repeat(np.arange(count), length)
    position = np.concatenate([np.arange(1, n + 1) for n in length])
    label = (rng.random(count) < 0.3).astype(np.int64)[session]
    p = 1 / (1 + np.exp(-(rng.normal(-2, 1, len(session)) + label * 0.3 * position)))
    return session, position, label, np.round(p, 1) if rounded else p


@pytest.mark.parametrize("seed", range(5))
def test_the_best_threshold_is_the_best(seed: int) -> None:
    """No score that occurs is a better threshold by scikit-learn's F1."""
    _, _, label, p = sessions(seed, rounded=seed % 2 == 0)
    best = best_f1_threshold(label, p)
    assert f1_score(label, p >= best) == pytest.approx(max(f1_score(label, p >= t) for t in np.unique(p)))


def test_figures_at_a_threshold() -> None:
    """Precision, recall and F1 are scikit-learn's, weighted as well; precision of no call is not a number."""
    _, _, label, p = sessions(1)
    weights = np.stack([np.ones(len(p)), np.random.default_rng(0).poisson(1, len(p)).astype(float)])
    found = at_threshold(label, p, 0.3, weights)
    for row, weight in enumerate(weights):
        expected = precision_recall_fscore_support(label, p >= 0.3, average="binary", sample_weight=weight)
        assert [found[name][row] for name in ("precision", "recall", "f1")] == pytest.approx(expected[:3])
    assert np.isnan(at_threshold(label, p, 1.1, weights)["precision"]).all()


def test_a_threshold_is_chosen_on_the_earliest_sessions() -> None:
    """By when sessions began, not by their numbers; the others judge. Without a positive event there, none is chosen."""
    session, _, label, p = sessions(2)
    started = 1_000_000 - session * 1000  # the last numbers began first
    chosen = choose_threshold(session, started, label, p)
    assert chosen is not None
    assert session[~chosen.judged].min() == 84
    assert session[chosen.judged].max() == 83
    assert chosen.threshold == best_f1_threshold(label[session >= 84], p[session >= 84])
    assert choose_threshold(session, started, np.where(session >= 84, 0, label), p) is None


@pytest.mark.parametrize("seed", range(6))
def test_earliness_by_a_loop(seed: int) -> None:
    """Share recognised, by when, and events ahead: as a loop over sessions with the lowest allowed threshold has them."""
    session, position, label, p = sessions(seed, rounded=seed % 2 == 0)
    found = {name: values[0] for name, values in earliness(Draws(session), position, label, p).items()}
    scores = [p[session == s] for s in range(120)]
    buys = [bool(label[session == s][0]) for s in range(120)]
    others = [max(each) for each, buyer in zip(scores, buys, strict=True) if not buyer]
    allowed = [t for t in {0.0, *p} if np.mean([highest > t for highest in others]) <= FALSE_POSITIVE_RATE]
    threshold = min(allowed)
    first = [next((k for k, q in enumerate(each, 1) if q > threshold), None) for each in scores]
    buyers = [(k, len(each)) for k, each, buyer in zip(first, scores, buys, strict=True) if buyer]
    assert found["recognised"] == pytest.approx(np.mean([k is not None for k, _ in buyers]))
    for limit in (1, 2, 3, 5):
        assert found[f"recognised_by_{limit}"] == pytest.approx(np.mean([k is not None and k <= limit for k, _ in buyers]))
    assert found["events_ahead"] == pytest.approx(np.mean([0 if k is None else n - k + 1 for k, n in buyers]))


def test_a_constant_recognises_nobody() -> None:
    """Scores that tell nothing apart find no buyer at a rate of false alarms below 1; without buyers nothing is said."""
    session, position, label, p = sessions(3)
    assert earliness(Draws(session), position, label, np.full(len(p), 0.4))["recognised"][0] == 0
    assert np.isnan(earliness(Draws(session), position, np.zeros_like(label), p)["recognised"][0])
