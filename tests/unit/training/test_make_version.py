"""Which sessions train and which calibrate."""

import numpy as np
import pytest

from tests.unit.training.shop import on_one_partition, random_log
from training import make_version
from training.architecture import Architecture
from training.examples import Examples, examples_of
from training.history import fold_log
from training.model import IntentModel
from training.train import Recipe, train
from worker.contract.events import HAZARD_HEADS, HORIZONS
from worker.contract.features import FeatureSpec
from worker.contract.session import SessionPolicy

SPEC = FeatureSpec(window=8, item_buckets=16, category_buckets=8, brand_buckets=8)
SMALL = Architecture(width=8, layers=1, heads=2, feed_forward=8, item_width=4, category_width=4)


def sessions_trained_on(monkeypatch: pytest.MonkeyPatch, examples: Examples) -> tuple[list[set[int]], make_version.Learned]:
    """Those of each network, in the order in which they are trained."""
    seen: list[set[int]] = []

    def noting(on: Examples, **options: object) -> IntentModel:
        seen.append(set(on.session.tolist()))
        return train(on, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(make_version, "train", noting)
    return seen, make_version.learn(examples, architecture=SMALL, recipe=Recipe(epochs=0, min_steps=2))


@pytest.fixture(scope="module")
def examples() -> Examples:
    made = examples_of(fold_log(on_one_partition(random_log(0, 900, 80)), SPEC, SessionPolicy()))
    assert made.sessions > 2 * make_version._FEW_SESSIONS
    return made


def test_a_small_log_is_all_trained_on(monkeypatch: pytest.MonkeyPatch, examples: Examples) -> None:
    """And calibrated by networks that each leave out a quarter."""
    seen, _ = sessions_trained_on(monkeypatch, examples)
    everything = set(examples.session.tolist())
    assert seen[-1] == everything
    parts = [everything - some for some in seen[:-1]]
    assert len(parts) == 4
    assert set.union(*parts) == everything
    assert sum(map(len, parts)) == len(everything)


@pytest.mark.parametrize("few", [True, False])
def test_a_large_log_spares_its_last_sessions_unless_few_buy(
    monkeypatch: pytest.MonkeyPatch, examples: Examples, few: bool
) -> None:
    """If few do, all train, and each half of the sessions calibrates a network of the other; the last ones are in one half."""
    monkeypatch.setattr(make_version, "_CROSSED_SESSIONS", 0)
    later = examples.split(make_version.TRAINED_SHARE)[1]
    positives = make_version._least_positives(later)
    assert 0 < positives < later.sessions
    monkeypatch.setattr(make_version, "_FEW_POSITIVES", positives + few)
    seen, learned = sessions_trained_on(monkeypatch, examples)
    everything, last = set(examples.session.tolist()), set(later.session.tolist())
    assert learned.held_out is not None
    np.testing.assert_array_equal(learned.held_out.examples.session, later.session)
    if not few:
        assert seen == [everything - last]
        return
    one, other, whole = seen
    assert whole == everything
    assert one | other == everything
    assert not one & other
    assert not one & last, "judged by a network that has not seen them"
    assert abs(len(one) - len(other)) < 0.2 * len(everything)


def test_what_never_happens_is_not_called_rare(examples: Examples) -> None:
    """Where nobody buys, carts alone tell; where nothing happens, nothing does."""
    rows, least = examples.predicted, make_version._least_positives
    bought, filled = (
        np.unique(examples.session_of(rows[examples.link[rows, h, HORIZONS.index("session")] == 1]))
        for h in range(len(HAZARD_HEADS))
    )
    assert least(examples) == min(len(bought), len(filled))
    nobody_buys = examples.select(~np.isin(examples.session, bought))
    assert least(nobody_buys) == len(np.setdiff1d(filled, bought)) > 0
    assert least(nobody_buys.select(~np.isin(nobody_buys.session, filled))) == 0
