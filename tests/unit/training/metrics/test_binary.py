"""Figures of probabilities, against scikit-learn, an independent judge and plain loops."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from training.metrics.binary import ece_floor, figures, prevalence_loss
from training.metrics.draws import Draws, interval
from training.report import JudgedEvents, report
from training.simulate import load_shop, simulate

N = 600


def drawn(seed: int, ties: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """label, p [N], weights [4, N]: counts of sessions as a bootstrap gives them, the first row all ones."""
    rng = np.random.default_rng(seed)
    p = rng.beta(1, 6, N)
    if ties:
        p = np.round(p, 1)
    label = (rng.random(N) < p).astype(np.int64)
    return label, p, np.concatenate([np.ones((1, N)), rng.poisson(1, (3, N)).astype(np.float64)])


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_as_scikit_learn_has_it(seed: int, ties: bool) -> None:
    """Each weighted figure is that of scikit-learn with sample weights, with and without equal scores."""
    label, p, weights = drawn(seed, ties)
    found = figures(label, p, weights)
    clipped = np.clip(p, 1e-6, 1 - 1e-6)
    for row, weight in enumerate(weights):
        assert found["roc_auc"][row] == pytest.approx(roc_auc_score(label, p, sample_weight=weight))
        assert found["pr_auc"][row] == pytest.approx(average_precision_score(label, p, sample_weight=weight))
        assert found["log_loss"][row] == pytest.approx(log_loss(label, clipped, sample_weight=weight))
        assert found["brier"][row] == pytest.approx(brier_score_loss(label, p, sample_weight=weight))
        share = np.full(N, (weight * label).sum() / weight.sum())
        assert prevalence_loss(label, weights)[row] == pytest.approx(log_loss(label, share, sample_weight=weight))


def test_one_class_has_no_curve() -> None:
    """Without a positive (or a negative) event the areas are not numbers, and the losses are."""
    p = np.array([0.1, 0.4, 0.4])
    for label in (np.zeros(3, np.int64), np.ones(3, np.int64)):
        found = figures(label, p, np.ones((1, 3)))
        assert np.isnan(found["roc_auc"][0])
        assert np.isfinite(found["log_loss"][0])
    assert interval(np.array([np.nan, 0.1])) is None


#: What another program said of the log and the scores of `judged_log`, rounded to four digits: value, low, high.
INDEPENDENT = {
    "all": {"roc_auc": [0.6492, 0.5951, 0.7075], "pr_auc": [0.2377, 0.1513, 0.3355], "log_loss": [0.3612, 0.2849, 0.4600],
            "ece": [0.0284, 0.0168, 0.0702], "ece_floor": 0.0254, "events": 2602, "less": [0.0219, 0.0051, 0.0351]},
    "1": {"roc_auc": [0.5860, 0.4854, 0.6746], "pr_auc": [0.1557, 0.0887, 0.2813], "log_loss": [0.3039, 0.2572, 0.3600],
          "ece": [0.0505, 0.0428, 0.0853], "ece_floor": 0.0402, "events": 400, "less": [0.0233, 0.0040, 0.0405]},
    "3": {"roc_auc": [0.6489, 0.5267, 0.7542], "pr_auc": [0.1752, 0.1084, 0.3005], "log_loss": [0.3201, 0.2575, 0.4056],
          "ece": [0.0474, 0.0424, 0.0895], "ece_floor": 0.0489, "events": 274, "less": [0.0221, -0.0019, 0.0433]},
}  # fmt: skip


def judged_log() -> tuple[JudgedEvents, np.ndarray, np.ndarray]:
    """Simulated events ahead of their session's first purchase, rounded scores that are off, and the truth."""
    stream = simulate(load_shop(), 400, 11, 1_767_571_200_000, sessions_per_hour=50)
    truth, clicks = stream.truth, list(stream.events())
    noise = np.random.default_rng(0).normal(0, 0.5, len(truth))
    score = np.round(1 / (1 + np.exp(-(np.log(truth / (1 - truth)) * 0.7 - 0.3 + noise))), 3)
    bought: dict[str | None, int] = {}
    for click in clicks:
        if click.event_type == "purchase":
            bought.setdefault(click.session_id, click.event_time)
    numbers: dict[str | None, int] = {}
    seen: dict[str | None, int] = {}
    rows = []
    for k, click in enumerate(clicks):
        at = numbers.setdefault(click.session_id, len(numbers))
        if click.event_time < bought.get(click.session_id, 2**62):
            seen[click.session_id] = seen.get(click.session_id, 0) + 1
            rows.append((k, at, seen[click.session_id], int(click.session_id in bought), click.event_time))
    kept, session, position, label, time = (np.array(column) for column in zip(*rows, strict=True))
    return JudgedEvents(session, time, position, label), score[kept], truth[kept]


def test_as_an_independent_judge_has_it() -> None:
    """Values agree to rounding; intervals and the floor, which rest on other draws, to a fifth of the interval's width."""
    events, score, truth = judged_log()
    found = report(events, score, truth)
    for part, expected in INDEPENDENT.items():
        assert found[part]["events"] == expected["events"]
        for name in ("roc_auc", "pr_auc", "log_loss", "ece"):
            close(found[part][name], expected[name])
        close(found[part]["minus_baseline"]["log_loss"], expected["less"])
        assert found[part]["ece_floor"] == pytest.approx(expected["ece_floor"], abs=0.003)


def close(found: list[float], expected: list[float]) -> None:
    assert found[0] == pytest.approx(expected[0], abs=6e-5)
    assert found[1:] == pytest.approx(expected[1:], abs=0.2 * (expected[2] - expected[1]))


def test_equal_scores_share_a_bin() -> None:
    """A constant that is the share of positives is calibrated, in whatever order its events stand."""
    label = np.array([0, 0, 0, 1] * 25)
    for order in (np.argsort(label), np.argsort(-label)):
        assert figures(label[order], np.full(100, 0.25), np.ones((1, 100)))["ece"][0] == pytest.approx(0)


def test_the_floor_is_what_right_probabilities_show() -> None:
    """Labels drawn with the very probabilities, one uniform a session, show the floor on average."""
    rng = np.random.default_rng(5)
    session = np.repeat(np.arange(300), 3)
    p = rng.beta(1, 5, 900)
    shown = []
    for _ in range(150):
        label = (rng.random(300)[session] < p).astype(np.int64)
        shown.append(figures(label, p, np.ones((1, 900)))["ece"][0])
    assert ece_floor(Draws(session), p) == pytest.approx(np.mean(shown), rel=0.05)


def test_share_of_skill() -> None:
    """The truth has all of the skill, the events' own prevalence none, and what lies between is in proportion of log-loss."""
    events, score, truth = judged_log()
    events = JudgedEvents(events.session, events.started_ms, events.position, events.label, truth=truth)
    constant = np.full(len(score), events.label.mean())
    of_truth, of_constant, of_score = (
        report(events, p, constant)["all"]["bayes"]["skill_share"] for p in (truth, constant, score)
    )
    assert of_truth == pytest.approx([1, 1, 1])
    assert of_constant[0] == pytest.approx(0, abs=1e-9)
    losses = [log_loss(events.label, p) for p in (constant, score, truth)]
    assert of_score[0] == pytest.approx((losses[0] - losses[1]) / (losses[0] - losses[2]))
