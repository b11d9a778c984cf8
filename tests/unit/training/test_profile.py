"""Who visits: learned where the log says so, without a say where it does not, and absent from versions of before."""

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.metrics import log_loss

from tests.unit.training.shop import on_one_partition, random_log
from training.architecture import Architecture
from training.baselines.trees import LightGBM
from training.candidates import Candidates
from training.evaluate import judge, predict
from training.event_names import EventNames
from training.examples import Examples, examples_of
from training.golden import sample_inputs
from training.history import fold_log
from training.labels import UNKNOWN
from training.rates import PROFILE, Rates
from training.row_features import PROFILE_FEATURES, RowFeatures
from training.serving import Calibration, ServingModel
from training.session_log import session_log
from training.simulate import Clickstream, load_shop, simulate
from training.train import Recipe, tensors, train
from training.version import LoadedVersion, _as_now
from worker.contract.events import ClickEvent
from worker.contract.features import CODES, FeatureSpec, ModelInputs
from worker.contract.session import SessionPolicy

SPEC = FeatureSpec(window=32, item_buckets=256, category_buckets=64, brand_buckets=64)
SMALL = Architecture(width=16, layers=1, heads=2, feed_forward=16, item_width=8, category_width=4)
VISITOR = CODES.index(PROFILE[0])
RECIPE = Recipe(epochs=2, min_steps=200)
SESSIONS = 3_000
#: What visitors of sessions without a purchase, and with one, are like: P(field | purchase or not).
HABITS: dict[str, dict[str | None, tuple[float, float]]] = {
    "device": {"phone": (0.7, 0.35), "desktop": (0.2, 0.6), None: (0.1, 0.05)},
    "country": {"NL": (0.4, 0.6), "DE": (0.3, 0.3), "FR": (0.3, 0.1)},
    "referrer": {"https://search.example/find?q=lamp": (0.6, 0.3), "newsletter": (0.1, 0.4), None: (0.3, 0.3)},
    "user_id": {"u": (0.2, 0.6), None: (0.8, 0.4)},
}


@pytest.fixture(scope="module")
def stream() -> Clickstream:
    return simulate(load_shop(), SESSIONS, 5, 1_767_571_200_000, hours=14 * 24.0)


def profiles(stream: Clickstream) -> tuple[list[dict[str, str | None]], npt.NDArray[np.float64]]:
    """By session: who visits, drawn by whether the session has a purchase, and the log-odds that this tells of one.

    Given the purchase it is independent of all that the visitor does, so by Bayes it adds just these to the odds.
    """
    rng, clicks = np.random.default_rng(1), stream.clicks
    buys = np.zeros(int(clicks.session.max()) + 1, int)
    np.maximum.at(buys, clicks.session, stream.labels())
    made: list[dict[str, str | None]] = []
    told = np.zeros(len(buys))
    for session, bought in enumerate(buys):
        made.append({})
        for field, habits in HABITS.items():
            value = list(habits)[rng.choice(len(habits), p=[both[bought] for both in habits.values()])]
            made[-1][field] = value
            told[session] += np.log(habits[value][1] / habits[value][0])
    return made, told


def with_profiles(stream: Clickstream) -> Iterator[ClickEvent]:
    made, _ = profiles(stream)
    for event, session in zip(stream.events(), stream.clicks.session.tolist(), strict=True):
        yield msgspec.structs.replace(event, **made[session])


def at_most(stream: Clickstream, number: npt.NDArray[np.int64], label: npt.NDArray[Any]) -> float:
    """By how much the log-loss of these events falls for whoever knows what their visitors tell, by the exact probabilities."""
    without = stream.truth[number]
    odds = without / (1 - without) * np.exp(profiles(stream)[1][stream.clicks.session[number]])
    return float(log_loss(label, without) - log_loss(label, odds / (1 + odds)))


def split(events: Iterator[ClickEvent]) -> tuple[Examples, Examples]:
    return examples_of(fold_log(on_one_partition(events), SPEC, SessionPolicy())).split(0.7)


@pytest.mark.slow
def test_who_visits_is_learned(stream: Clickstream) -> None:
    """Most of what it tells of a purchase, by the exact probabilities; the same log without it tells that much less."""
    losses = []
    for events in (with_profiles(stream), stream.events()):
        earlier, later = split(events)
        network = train(earlier, architecture=SMALL, recipe=RECIPE)
        predictions = predict(ServingModel(network, Calibration(), Candidates((), ())), later)
        judged = judge(predictions, later, "purchase", "session")
        losses.append(log_loss(judged.label, judged.p))
    told = at_most(stream, later.rows["offset"][predictions.row[judged.event]].astype(np.int64), judged.label)
    assert told > 0.05
    assert losses[1] - losses[0] > 0.8 * told


@pytest.mark.slow
def test_boosted_trees_see_who_visits(stream: Clickstream) -> None:
    """A peer that was kept from it would be no measure."""
    losses = []
    for events in (with_profiles(stream), stream.events()):
        names = EventNames()
        log = session_log(fold_log(names.through(events, 1), SPEC, SessionPolicy()), names, "shop")
        is_earlier = np.arange(log.sessions) < 0.7 * log.sessions
        trees, later = LightGBM(), log.select(~is_earlier)
        trees.fit(log.select(is_earlier), seed=0)
        asked = later.purchase != UNKNOWN
        losses.append(log_loss(later.purchase[asked], trees.predict(later).purchase[asked]))
    told = at_most(stream, later.event[asked], later.purchase[asked])
    assert losses[1] - losses[0] > 0.6 * told


def of_random_log() -> Examples:
    return examples_of(fold_log(on_one_partition(random_log(0, 800, 40)), SPEC, SessionPolicy()))


def other_visitors(inputs: ModelInputs, seed: int) -> ModelInputs:
    """The same events of others."""
    codes = inputs.codes.copy()
    codes[..., VISITOR:] = sample_inputs(SPEC, seed, *codes.shape[:2]).codes[..., VISITOR:]
    return inputs._replace(codes=codes)


def test_where_no_event_tells_who_visits_it_has_no_say() -> None:
    """Rates of what is always missing are those of the shop, so such features never vary and stay 0 whoever comes later."""
    made, features = of_random_log(), RowFeatures(SPEC)
    features.rates.fit(made)
    batches = list(made.batches(4096))
    features.fit([(batch.inputs, batch.predict) for batch in batches])
    for name, table in features.rates.named_buffers():
        if name.startswith(PROFILE):
            assert not table.any(), name
    assert torch.isinf(features.deviation[-PROFILE_FEATURES:]).all()
    batch = batches[0]
    fold = torch.from_numpy(batch.fold)
    assert not features(*tensors(batch.inputs), fold)[..., -PROFILE_FEATURES:].any()
    torch.testing.assert_close(features(*tensors(other_visitors(batch.inputs, 3))), features(*tensors(batch.inputs)))


def test_rates_of_who_visits_are_those_of_the_sessions(stream: Clickstream) -> None:
    """Members buy more often in this log; the rate that serves says how much, nearly as it was drawn."""
    made, _ = split(with_profiles(stream))
    rates = Rates(SPEC)
    rates.fit(made)
    member = float(rates.member_first[1, 0] - rates.member_first[0, 0])
    assert member == pytest.approx(np.log((0.6 / 0.2) / (0.4 / 0.8)), abs=0.4)


def test_a_version_of_before_says_the_same(shipped: LoadedVersion) -> None:
    """Its weights, cut to what it had, are loaded so that no score moves, whoever visits, and it can be learned on from there."""
    model = shipped.serving_model()
    wanted = model.state_dict()
    named = ("network.features.mean", "network.features.deviation", "network.numbers_in.weight", "network.wide.weight")
    mean, deviation, numbers_in, wide = (wanted[name] for name in named)
    known = len(mean) - PROFILE_FEATURES
    cut = (mean[:known], deviation[:known], numbers_in[:, :known], torch.cat([wide[:, :known], wide[:, len(mean) :]], dim=1))
    scopes = tuple(f"network.features.rates.{scope}_" for scope in PROFILE)
    older = {name: tensor for name, tensor in wanted.items() if not name.startswith(scopes)}
    older |= dict(zip(named, cut, strict=True))
    now = _as_now(older, wanted)
    assert {name: tensor.shape for name, tensor in now.items()} == {name: tensor.shape for name, tensor in wanted.items()}
    for name in ("network.numbers_in.weight", "network.wide.weight"):
        assert not now[name][:, known : len(mean)].any()
    model.load_state_dict(now)
    inputs = sample_inputs(model.network.spec, 1, 6, 16)
    length = torch.from_numpy(inputs.length)
    codes = inputs.codes.copy()
    codes[..., VISITOR:] = 0
    with torch.no_grad():
        said = model(*tensors(inputs), length)
        of_nobody = model(*tensors(inputs._replace(codes=codes)), length)
    for one, other in zip(said, of_nobody, strict=True):
        torch.testing.assert_close(one, other)
