"""Lists against scikit-learn and a loop."""

import numpy as np
import pytest
from sklearn.metrics import top_k_accuracy_score

from training.metrics.draws import Draws
from training.metrics.ranking import means, ranking, ranks_of


def test_recall_as_scikit_learn_has_it() -> None:
    """recall@k is the top-k accuracy, and MRR the mean of 1 / rank, by scores without ties."""
    rng = np.random.default_rng(0)
    scores, target = rng.random((300, 40)), rng.integers(0, 40, 300)
    lists = np.argsort(-scores, axis=1)[:, :20]
    found = ranking(Draws(np.arange(300)), ranks_of(lists, target), 20)
    for k in (1, 5, 10, 20):
        assert found[f"recall@{k}"][0] == pytest.approx(top_k_accuracy_score(target, scores, k=k, labels=np.arange(40)))
        ranks = [list(row).index(t) + 1 if t in row else None for row, t in zip(lists[:, :k].tolist(), target, strict=True)]
        assert found[f"mrr@{k}"][0] == pytest.approx(np.mean([0 if r is None else 1 / r for r in ranks]))


def test_what_fills_a_list_up_is_never_right() -> None:
    """-1 matches nothing, not even a target that is not known; shorter lists give shallower figures only."""
    assert ranks_of(np.array([[4, -1], [-1, -1], [3, 4]]), np.array([4, -1, 4])).tolist() == [1, 0, 2]
    assert set(ranking(Draws(np.arange(2)), np.array([1, 0]), 10)) == {
        f"{name}@{k}" for name in ("recall", "mrr") for k in (1, 5, 10)
    }


def test_means_weigh_events_alike() -> None:
    """A long session counts by its events; draws take it whole."""
    session, value = np.array([0, 0, 0, 1]), np.array([1.0, 1.0, 1.0, 5.0])
    draws = Draws(session, draws=100)
    found = means(draws, {"v": value})["v"]
    assert found[0] == 2.0
    weights = draws.of_sessions()
    assert found[1:] == pytest.approx(((3 * weights[:, 0] + 5 * weights[:, 1]) / (3 * weights[:, 0] + weights[:, 1]))[1:])
