"""The network: what it may depend on, and where training starts."""

import msgspec
import numpy as np
import pytest
import torch

from tests.unit.training.shop import on_one_partition, random_log
from training.architecture import Architecture
from training.examples import Examples, examples_of
from training.golden import sample_inputs
from training.history import fold_log
from training.labels import UNKNOWN
from training.losses import masked_bce
from training.model import PLACES, Heads, IntentModel
from training.row_features import FEATURES, RowFeatures
from training.train import Recipe, _enough, tensors, train
from worker.contract.events import HORIZONS
from worker.contract.features import NUMBERS, FeatureSpec, ModelInputs
from worker.contract.session import SessionPolicy

SPEC = FeatureSpec(window=16, item_buckets=64, category_buckets=16, brand_buckets=16)
SMALL = Architecture(width=16, layers=1, heads=2, feed_forward=16, item_width=8, category_width=4)


@pytest.fixture(scope="module")
def model() -> IntentModel:
    """A network with weights that are nowhere zero."""
    torch.manual_seed(3)
    model = IntentModel(SPEC, SMALL)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def examples(seed: int = 0, events: int = 600) -> Examples:
    log = []
    for event in random_log(seed, events, 40):
        number = int(event.visitor_id[1:])
        who = {"device": f"d{number % 3}", "country": f"c{number % 5}", "referrer": f"r{number % 7}"}
        log.append(msgspec.structs.replace(event, user_id="u" if number % 2 else None, **who))
    return examples_of(fold_log(on_one_partition(log), SPEC, SessionPolicy()))


def run(model: IntentModel, inputs: ModelInputs) -> Heads:
    with torch.no_grad():
        return Heads(*model(*tensors(inputs)))


def cut(inputs: ModelInputs, sessions: slice, steps: int) -> ModelInputs:
    return ModelInputs(inputs.codes[sessions, :steps], inputs.numbers[sessions, :steps], inputs.length[sessions])


def test_a_session_is_scored_alike_alone_and_in_any_batch(model: IntentModel) -> None:
    """Neighbours and padding change nothing."""
    inputs = sample_inputs(SPEC, 1, sessions=6, steps=16)
    together = run(model, inputs)
    for k in range(6):
        length = int(inputs.length[k, 0])
        alone = run(model, cut(inputs, slice(k, k + 1), length))
        for a, b in zip(alone, together, strict=True):
            torch.testing.assert_close(a[0], b[k, :length], atol=1e-5, rtol=0)


@pytest.mark.parametrize("layers", [1, 3])
def test_the_newest_row_alone_says_what_it_says_among_all(layers: int) -> None:
    """What is served is what was trained, of any row, for less."""
    torch.manual_seed(layers)
    model = IntentModel(SPEC, msgspec.structs.replace(SMALL, layers=layers))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    inputs = sample_inputs(SPEC, 7, sessions=9, steps=16)
    all_rows = run(model.eval(), inputs)
    last = torch.from_numpy(inputs.length[:, 0] - 1).long()
    with torch.no_grad():
        newest = model.newest(*tensors(inputs), last)
    for a, b in zip(newest, all_rows, strict=True):
        torch.testing.assert_close(a, b[torch.arange(9), last], atol=1e-5, rtol=1e-5)


def test_no_row_sees_a_later_one(model: IntentModel) -> None:
    """Changing a row changes what follows, and nothing before."""
    inputs = sample_inputs(SPEC, 2, sessions=1, steps=12)
    changed = inputs.numbers.copy()
    changed[0, 7] = 3.0
    before, after = run(model, inputs), run(model, inputs._replace(numbers=changed))
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a[0, :7], b[0, :7], atol=1e-6, rtol=0)
    assert not torch.allclose(before.link[0, 7:], after.link[0, 7:])


@pytest.mark.parametrize("value", [0.0, 1e12, 3.4e38, np.nan, -5.0])
def test_any_number_gives_finite_scores(model: IntentModel, value: float) -> None:
    """Missing, huge and impossible numbers alike."""
    inputs = sample_inputs(SPEC, 4, sessions=2, steps=8)
    heads = run(model, inputs._replace(numbers=np.full_like(inputs.numbers, value)))
    assert all(torch.isfinite(head).all() for head in heads)


def test_missing_differs_from_zero() -> None:
    """A price that is not known is not a price of nothing."""
    inputs = sample_inputs(SPEC, 5, sessions=1, steps=1)
    price = NUMBERS.index("price")
    zero, missing = inputs.numbers.copy(), inputs.numbers.copy()
    zero[..., price], missing[..., price] = 0.0, np.nan
    features = RowFeatures(SPEC)
    codes = torch.from_numpy(inputs.codes)
    assert not torch.equal(features.raw(codes, torch.from_numpy(zero)), features.raw(codes, torch.from_numpy(missing)))


def test_features_are_standard_on_what_they_were_fitted_on() -> None:
    """Mean 0 and deviation 1, or 0 where a feature never varies, even when it does later."""
    features, made = RowFeatures(SPEC), examples()
    features.rates.fit(made)
    batches = list(made.batches(4096))
    features.fit([(batch.inputs, batch.predict) for batch in batches])
    raw = torch.cat([features.raw(*tensors(b.inputs))[torch.from_numpy(b.predict)] for b in batches])
    rows = (raw - features.mean) / features.deviation
    assert rows.shape[1] == FEATURES
    varies = raw.std(0) > 2e-3
    assert FEATURES / 2 < varies.sum() < FEATURES
    later = sample_inputs(SPEC, 3, sessions=5, steps=8)  # with prices
    never = raw.std(0) == 0
    assert (features.raw(*tensors(later)).std((0, 1))[never] > 0).any()
    assert not features(*tensors(later))[..., never].any()
    torch.testing.assert_close(rows.mean(0), torch.zeros(FEATURES), atol=1e-3, rtol=0)
    torch.testing.assert_close(rows.std(0)[varies], torch.ones(int(varies.sum())), atol=1e-2, rtol=0)


@pytest.mark.slow
def test_of_a_large_log_some_events_tell_the_means(monkeypatch: pytest.MonkeyPatch) -> None:
    """By chance, of long and short sessions alike; of any other log all events do, in the same order always."""
    made, recipe = examples(events=6000), Recipe(epochs=0, min_steps=0)
    whole = train(made, architecture=SMALL, recipe=recipe).features
    monkeypatch.setattr("training.train._FIT_EVENTS", 64)
    monkeypatch.setattr("training.train._MOST_FIT_EVENTS", 2000)
    some = train(made, architecture=SMALL, recipe=recipe).features
    seen = _enough(made, 0)
    assert 1900 < sum(int(rows.sum()) for _, rows in seen) < 2600
    assert {inputs.codes.shape[1] for inputs, _ in seen} == {8, 16}
    varies = torch.isfinite(whole.deviation) & torch.isfinite(some.deviation)
    assert int(varies.sum()) > 50
    off = ((some.mean - whole.mean) / whole.deviation)[varies]
    assert 0 < float(off.abs().max()) < 0.2
    monkeypatch.setattr("training.train._MOST_FIT_EVENTS", 6000)
    assert sum(int(rows.sum()) for _, rows in _enough(made, 0)) == len(made.predicted)


def test_a_label_that_is_not_known_costs_nothing() -> None:
    """Neither loss nor gradient."""
    logits = torch.zeros(3, requires_grad=True)
    loss = masked_bce(logits, torch.tensor([1, UNKNOWN, 0], dtype=torch.int8))
    loss.sum().backward()
    assert loss.tolist() == pytest.approx([np.log(2), 0.0, np.log(2)])
    assert logits.grad is not None
    assert logits.grad[1] == 0


@pytest.mark.slow
def test_before_its_first_step_a_network_says_the_prior() -> None:
    """Training starts at the best constant, but where it starts at the filter: at purchases and carts within the session."""
    made = examples(events=6000)
    model = train(made, architecture=SMALL, recipe=Recipe(epochs=0, min_steps=0))
    heads = run(model, made.batch(np.arange(4)).inputs)
    hazard = made.link[made.predicted]
    known = (hazard != UNKNOWN).sum(0)
    said = torch.sigmoid(heads.link[0, 0]).numpy()
    enough = known > 2000
    enough[:, HORIZONS.index("session")] = False
    assert enough.any()
    np.testing.assert_allclose(said[enough], ((hazard == 1).sum(0) / known.clip(1))[enough], atol=0.02)


@pytest.mark.slow
def test_before_its_first_step_it_knows_how_sessions_go_on_at_each_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """How often a session ends after its k-th event, and which type comes next, by a count; the more it was seen, the more so."""
    monkeypatch.setattr("training.train.fit_wide", lambda *_: None)
    made = examples(events=6000)
    model = train(made, architecture=SMALL, recipe=Recipe(epochs=0, min_steps=0))
    batch = next(made.batches(10**6))
    heads = run(model, batch.inputs)
    place = np.minimum(batch.inputs.numbers[..., NUMBERS.index("position")], PLACES - 1)
    place[(place == 1) & ~np.isnan(batch.inputs.numbers[..., NUMBERS.index("since_visit_s")])] = PLACES
    ended, followed = batch.churn[batch.churn != UNKNOWN], batch.next_type[batch.next_type != UNKNOWN]
    seen = 0
    for k in range(1, PLACES + 1):
        at = (place == k) & (batch.churn != UNKNOWN)
        said = torch.sigmoid(heads.churn)[torch.from_numpy(at)].numpy()
        expected = (batch.churn[at].sum() + 20 * ended.mean()) / (at.sum() + 20)
        np.testing.assert_allclose(said, expected, atol=0.01)
        at = (place == k) & (batch.next_type != UNKNOWN)
        said = torch.softmax(heads.next_type, dim=-1)[torch.from_numpy(at)].numpy()
        counts = np.bincount(batch.next_type[at], minlength=8) + 20 * np.bincount(followed, minlength=8) / len(followed)
        np.testing.assert_allclose(said, np.tile(counts / (at.sum() + 20), (at.sum(), 1)), atol=0.01)
        seen += int(at.sum()) > 0
    assert seen > 10


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights() -> None:
    """And another seed gives others."""
    made, recipe = examples(), Recipe(epochs=1, min_steps=3)
    first, again, other = (train(made, seed=seed, architecture=SMALL, recipe=recipe) for seed in (1, 1, 2))
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    assert not torch.equal(first.numbers_in.weight, other.numbers_in.weight)


@pytest.mark.slow
def test_a_head_without_positives_stays_at_its_prior() -> None:
    """What the data never shows is not made up: its logit is the same whatever the input."""
    made = examples()
    made.link[:, 1] = np.where(made.link[:, 1] == UNKNOWN, UNKNOWN, 0)  # nobody ever puts anything in a cart
    model = train(made, architecture=SMALL, recipe=Recipe(epochs=1, min_steps=30))
    heads = run(model, sample_inputs(SPEC, 6, sessions=5, steps=8))
    assert torch.sigmoid(heads.link[..., 1, :]).max() < 0.01
