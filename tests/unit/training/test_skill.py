"""How far scores are believed: where they tell something, where they tell nothing, and where a level stands by few buyers."""

import numpy as np
import pytest

from training.drift import level_now
from training.skill import belief, shift_to


def drawn(seed: int, sessions: int, slope: float, events: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, labels and sessions [n]; all events of a session share its label, as they do before a purchase."""
    rng = np.random.default_rng(seed)
    of_session = rng.normal(0, 0.6, sessions)
    bought = rng.random(sessions) < 1 / (1 + np.exp(2.8 - slope * of_session))
    session = np.repeat(np.arange(sessions), events)
    logit = of_session[session] - 2.8 + rng.normal(0, 0.1, len(session))
    return logit, bought[session].astype(float), session


def test_scores_that_tell_nothing_are_hardly_believed() -> None:
    """In few of many logs they seem to tell something, however many events a session has."""
    shares = [belief(*drawn(seed, 1000, 0.0, events)) for seed in range(20) for events in (1, 8)]
    assert np.median(shares) == 0
    assert np.mean(shares) < 0.2


def test_scores_that_tell_much_are_believed() -> None:
    """All but a little of the slope stays, and more of it the more sessions speak for it."""
    few, many = (np.mean([belief(*drawn(seed, sessions, 1.0)) for seed in range(10)]) for sessions in (1000, 8000))
    assert few > 0.8
    assert few < many
    assert many > 0.98


def test_the_wrong_way_round_is_not_believed() -> None:
    """Scores that fall where buyers are do not get a slope, be it ever so sure."""
    assert belief(*drawn(0, 4000, -1.0)) == 0


@pytest.mark.parametrize("buyers", [0, 1, 2])
def test_a_handful_of_buyers_shows_nothing(buyers: int) -> None:
    """Two buyers with the highest scores of all are luck; and so are two sessions without a purchase."""
    session = np.arange(300)
    logit = np.linspace(-4, -2, 300)
    label = (session >= 300 - buyers).astype(float)
    assert belief(logit, label, session) == 0
    assert belief(logit, 1 - label, session) == 0


def test_scores_that_are_all_alike_show_nothing() -> None:
    """And no event at all shows nothing either."""
    assert belief(np.full(100, -2.0), np.arange(100) % 2 * 1.0, np.arange(100)) == 0
    assert belief(np.zeros(0), np.zeros(0), np.zeros(0, np.int64)) == 0


def test_the_error_of_a_slope_is_that_of_its_spread_over_logs() -> None:
    """1 - 1/z² by the slope's spread over 200 logs of the same shop, with events that share their session's fate."""
    from sklearn.linear_model import LogisticRegression

    logs = [drawn(seed, 600, 0.8) for seed in range(200)]
    slopes = [LogisticRegression(C=1e6).fit(logit[:, None], label).coef_[0, 0] for logit, label, _ in logs]
    expected = 1 - np.var(slopes) / np.mean(slopes) ** 2
    assert np.median([belief(*log) for log in logs]) == pytest.approx(expected, abs=0.05)


def test_a_shift_brings_the_mean_where_it_is_wanted() -> None:
    """Whatever the slope."""
    logit = np.random.default_rng(0).normal(-2, 1, 1000)
    for slope in (0.0, 0.2, 1.0, 3.0):
        shift = shift_to(0.07, slope * logit)
        assert (1 / (1 + np.exp(-slope * logit - shift))).mean() == pytest.approx(0.07, abs=1e-9)


def test_few_buyers_do_not_pull_the_level_down() -> None:
    """Of many small logs with a right level the mean of what is added is about nothing."""
    shifts = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        p = 1 / (1 + np.exp(-rng.normal(-3.0, 0.3, 1200)))
        number = np.arange(1200, dtype=np.int64)
        shifts.append(level_now(p, (rng.random(1200) < p).astype(float), number, number))
    assert abs(np.mean(shifts)) < 0.03
