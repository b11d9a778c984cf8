"""The latent-intent filter, the rates by id and the targets of the session: each against an independent account."""

import msgspec
import numpy as np
import pytest
import torch

from tests.unit.training.shop import MINUTE, click, on_one_partition, random_log
from training.architecture import Architecture
from training.examples import Examples, examples_of
from training.golden import sample_inputs
from training.history import fold_log
from training.intent_filter import STATES, IntentFilter, rounds_for
from training.labels import UNKNOWN
from training.losses import session_targets
from training.model import IntentModel
from training.next_items import NextItems
from training.packed import Packed
from training.rates import SEEN, Rates
from training.train import tensors
from training.version import _as_now
from worker.contract.events import HAZARD_HEADS
from worker.contract.features import CODES, TYPE_CODE, FeatureSpec, bucket
from worker.contract.session import SessionPolicy

SPEC = FeatureSpec(window=16, item_buckets=64, category_buckets=16, brand_buckets=16)
TYPE, ITEM, CATEGORY = (CODES.index(name) for name in ("type", "item", "category"))


@pytest.fixture(scope="module")
def data() -> Examples:
    return examples_of(fold_log(on_one_partition(random_log(0, 3000, 30)), SPEC, SessionPolicy()))


@pytest.fixture(scope="module")
def rates(data: Examples) -> Rates:
    """With categories that do better than others, which in this log is chance."""
    made = Rates(SPEC)
    made.fit(data)
    made.category_first.normal_(generator=torch.Generator().manual_seed(5))
    made.category_first_folds.copy_(made.category_first.expand_as(made.category_first_folds))
    return made


@pytest.fixture(scope="module")
def intents(data: Examples, rates: Rates) -> IntentFilter:
    """With visitors who are readier to buy for how their first category does."""
    made = IntentFilter(SPEC)
    made.fit(data, rates, seed=1)
    made.readier_by_rate.copy_(torch.tensor([0.8, -0.3]))
    made._take_values()
    return made


@pytest.mark.parametrize("steps", [1, 7, 8, 9, 16, 17, 64])
def test_blocks_give_what_one_step_after_the_other_gives(intents: IntentFilter, rates: Rates, steps: int) -> None:
    """Belief and likelihood of every prefix, by the plain recursion in double precision; also with more rounds than needed."""
    inputs = sample_inputs(SPEC, 2, sessions=5, steps=steps)
    where = Packed.up_to(torch.from_numpy(inputs.length[:, 0]).long() - 1, steps)
    codes, numbers = (where.taken(values) for values in tensors(inputs))
    codes = codes.long()
    belief, likelihood = intents.filtered(codes, numbers, where, rates, None, rounds_for(steps))
    more = intents.filtered(codes, numbers, where, rates, None, 4)
    torch.testing.assert_close((belief, likelihood), more, atol=1e-5, rtol=1e-5)
    habit = torch.exp(intents._habits(codes, numbers, where).double())
    starts = intents._starts(codes[where.first], numbers[where.first], rates, None).double()
    readier = (rates.of_category(codes[where.first, CATEGORY]) @ intents.readier_by_rate).clamp(-3, 3)
    assert readier.abs().max() > 0.1
    for session, length in enumerate(inputs.length[:, 0]):
        state = starts[session]
        ahead, _ = spelled_out(intents, float(readier[session]))
        for n in where.number[session, :length].tolist():
            alpha = state * habit[n]
            torch.testing.assert_close(belief[n].double(), alpha / alpha.sum(), atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(likelihood[n].double(), alpha.sum().log(), atol=1e-3, rtol=1e-4)
            state = alpha @ ahead


def spelled_out(intents: IntentFilter, readier: float) -> tuple[torch.Tensor, torch.Tensor]:
    """What follows each state [K, K], and the probability that nothing does [K]; log-odds of a purchase are so much greater."""
    goes_on = torch.sigmoid(intents.goes_on.double())
    fates = torch.cat([goes_on[:, None] * torch.softmax(intents.follows.double(), dim=-1), 1 - goes_on[:, None]], dim=-1)
    fates[:, STATES - 1] *= np.exp(readier)
    fates = fates / fates.sum(dim=-1, keepdim=True)
    return fates[:, :-1], fates[:, -1]


def test_only_the_last_state_buys(intents: IntentFilter) -> None:
    """And does nothing else."""
    events = torch.exp(intents._events()).reshape(STATES, 8, 4).sum(-1)
    bought = events[:, TYPE_CODE["purchase"] - 1]
    torch.testing.assert_close(bought, torch.eye(STATES)[-1])


def test_fitting_makes_the_sessions_likelier(data: Examples, rates: Rates, intents: IntentFilter) -> None:
    """Than a filter whose states are all alike."""
    plain = IntentFilter(SPEC)
    plain.usual_event.copy_(intents.usual_event)
    plain.usual_pause.copy_(intents.usual_pause)
    batch = data.batch(np.arange(len(data)))
    assert float(intents._loss(batch, rates)) < float(plain._loss(batch, rates)) - 0.05


@pytest.mark.parametrize("readier", [-3.0, -0.6, 0.0, 0.35, 3.0])
def test_values_are_what_walks_through_the_states_come_to(data: Examples, intents: IntentFilter, readier: float) -> None:
    """Probability of a purchase, of a cart and of nothing further, from a walk of many steps over all states at once."""
    ahead, ends = spelled_out(intents, readier)
    shows = torch.exp(intents._events().double()).reshape(STATES, 8, 4).sum(-1)
    wanted = []
    for head in HAZARD_HEADS:
        reached, walking = torch.zeros(STATES).double(), torch.eye(STATES).double()
        for _ in range(2000):
            walking = walking @ ahead
            reached += walking @ shows[:, TYPE_CODE[head] - 1]
            walking = walking * (1 - shows[:, TYPE_CODE[head] - 1])
        wanted.append(reached)
    batch = data.batch(np.arange(len(data)))
    codes, numbers = tensors(batch.inputs)
    where = Packed.whole(codes)

    class Even(Rates):
        """Of every category the rate that makes its sessions so much readier."""

        def of_category(self, category: torch.Tensor, fold: torch.Tensor | None = None) -> torch.Tensor:
            by_rate = intents.readier_by_rate
            return (readier * by_rate / (by_rate @ by_rate)).expand(*category.shape, -1)

    said = intents(where.taken(codes.long()), where.taken(numbers), where, Even(SPEC))
    belief = said[:, :STATES].double()
    expected = belief @ torch.stack([*wanted, ends], dim=-1)
    # Between the steps that are solved it is interpolated.
    torch.testing.assert_close(torch.sigmoid(said[:, STATES:].double()), expected, atol=2e-3, rtol=0)


def test_a_filter_of_an_older_version_says_the_same(data: Examples, rates: Rates) -> None:
    """Where every state could buy and nobody was readier, whose values were one for each state."""
    torch.manual_seed(3)
    made = IntentFilter(SPEC)
    for parameter in made.parameters():
        parameter.add_(torch.randn_like(parameter))
    older = {f"network.features.intents.{name}": tensor for name, tensor in made.state_dict().items()}
    wanted = {f"network.{name}": tensor for name, tensor in IntentModel(SPEC, Architecture()).state_dict().items()}
    wanted |= {f"next_items.{name}": tensor for name, tensor in NextItems(SPEC.category_buckets).state_dict().items()}
    others = {name: tensor for name, tensor in wanted.items() if name not in older}
    value = torch.rand(STATES, len(HAZARD_HEADS))
    older["network.features.intents.value"] = value
    for name in ("impossible", "readier_by_rate"):
        del older[f"network.features.intents.{name}"]
    now = _as_now({**others, **older}, wanted)
    made.load_state_dict({name: now[f"network.features.intents.{name}"] for name in made.state_dict()})
    codes, numbers = tensors(data.batch(np.arange(20)).inputs)
    where = Packed.whole(codes)
    said = made(where.taken(codes.long()), where.taken(numbers), where, rates)
    expected = said[:, :STATES] @ torch.cat([value, 1 - torch.sigmoid(made.goes_on)[:, None]], dim=-1)
    torch.testing.assert_close(torch.sigmoid(said[:, STATES:]), expected, atol=1e-6, rtol=1e-5)
    assert float(torch.exp(made._events()).reshape(STATES, 8, 4).sum(-1)[:-1, TYPE_CODE["purchase"] - 1].min()) > 0


def test_no_belief_sees_a_later_row(intents: IntentFilter, rates: Rates) -> None:
    """Changing a row changes what follows, and nothing before."""
    inputs = sample_inputs(SPEC, 3, sessions=1, steps=12)
    changed = inputs.codes.copy()
    changed[0, 7, TYPE] = TYPE_CODE["purchase"]
    changed[0, 7, ITEM] = 0
    codes, numbers = tensors(inputs)
    where = Packed.whole(codes)
    before = intents(codes[0].long(), numbers[0], where, rates)
    after = intents(torch.from_numpy(changed[0]).long(), numbers[0], where, rates)
    torch.testing.assert_close(before[:7], after[:7])
    assert not torch.allclose(before[7:], after[7:])


def test_a_session_is_trained_with_rates_that_do_not_know_it() -> None:
    """Only one session saw the item, and bought: with its own fold's rates it learns nothing of that; a later visitor does."""
    events = [click(k, k * 40 * MINUTE, f"v{k}", item="other") for k in range(200)]
    events += [click(500, 0, "buyer", item="rare"), click(501, MINUTE, "buyer", "purchase", "rare")]
    events += [click(502, 20_000 * MINUTE, "end", item="other")]
    data = examples_of(fold_log(on_one_partition(sorted(events, key=lambda e: e.event_time)), SPEC, SessionPolicy()))
    made = Rates(SPEC)
    made.fit(data)
    rare = int(np.flatnonzero(data.rows["offset"] == data.rows["offset"][data.labels.within[:, 0, 2]][0])[0])
    window = int(np.flatnonzero((data.start <= rare) & (rare < data.stop))[0])
    batch = data.batch(np.array([window]))
    codes = torch.from_numpy(batch.inputs.codes).long()
    where = Packed.whole(codes)
    with_own, without = made(SEEN, codes[0], where)[0, 0], made(SEEN, codes[0], where, torch.from_numpy(batch.fold))[0, 0]
    assert float(with_own) > 0
    assert float(without) == pytest.approx(0.0, abs=1e-6)


def test_what_was_never_seen_has_the_rate_of_the_shop() -> None:
    """Cold start: a new item, category or brand moves nothing."""
    log = examples_of(fold_log(on_one_partition(random_log(0, 600, 30)), FeatureSpec(window=16), SessionPolicy()))
    fresh = Rates(log.spec)
    fresh.fit(log)
    seen = set(log.rows["codes"][:, ITEM].tolist())
    unseen = next(bucket for bucket in range(1, 4096) if bucket not in seen)
    codes = torch.zeros((1, 1, len(CODES)), dtype=torch.int64)
    codes[..., ITEM] = unseen
    assert fresh(SEEN, codes[0], Packed.whole(codes))[0, :2].tolist() == [0.0, 0.0]


def test_a_category_does_as_those_of_its_size_until_its_own_sessions_tell() -> None:
    """Three large categories sell to one in ten, many small ones to one in three: so does a small one that has sold nothing."""
    rng = np.random.default_rng(0)
    events = []
    for k in range(3000):
        small = k % 4 == 0
        category = f"small-{rng.integers(60)}" if small else f"large-{k % 4}"
        steps = [click(2 * k, k * 40 * MINUTE, f"v{k}")]
        if rng.random() < (1 / 3 if small and category != "small-7" else 0.1 if not small else 0.0):
            steps.append(click(2 * k + 1, k * 40 * MINUTE + MINUTE, f"v{k}", "purchase"))
        events += [msgspec.structs.replace(step, category=category) for step in steps]
    events.append(click(9000, 30_000 * 40 * MINUTE, "end"))
    spec = FeatureSpec(window=16)
    data = examples_of(fold_log(on_one_partition(events), spec, SessionPolicy()))
    made = Rates(spec)
    made.fit(data)
    said = {
        name: float(made.of_category(torch.tensor([bucket("category", name, spec.category_buckets)]))[0, 0])
        for name in ("small-7", "small-9", "large-1")
    }
    assert said["small-7"] > 0.1 > -0.2 > said["large-1"]
    assert said["small-7"] < said["small-9"]


def test_rates_of_what_never_happened_tell_nothing() -> None:
    """Without any purchase or cart they must not say how popular an item is, nor which part of the log a session lies in."""
    events = [click(k, k * 40 * MINUTE, f"v{k}", item=f"i{min(k % 20, 7)}") for k in range(400)]
    data = examples_of(fold_log(on_one_partition(events), SPEC, SessionPolicy()))
    made = Rates(SPEC)
    made.fit(data)
    for name, table in made.named_buffers():
        if name.startswith(("item", "category", "brand")):
            torch.testing.assert_close(table, torch.zeros_like(table), atol=1e-6, rtol=0)


def test_targets_are_the_lambda_returns(data: Examples) -> None:
    """Spelled out row by row; with a trace of 1 they are the labels."""
    batch = data.batch(np.arange(len(data)))
    link = torch.randn((*batch.predict.shape, 2, 5), generator=torch.Generator().manual_seed(0))
    value = torch.sigmoid(link[..., 2]).numpy()
    for trace in (0.9, 0.3):
        said = session_targets(link, batch, trace).numpy()
        for b in range(0, len(said), 7):
            for h, head in enumerate(HAZARD_HEADS):
                ahead = np.nan
                for t in reversed(range(int(batch.inputs.length[b, 0]))):
                    label = batch.link[b, t, h, 2]
                    if label == UNKNOWN:
                        ahead = np.nan
                    elif t + 1 == batch.inputs.length[b, 0]:
                        ahead = float(label)
                    elif batch.inputs.codes[b, t + 1, TYPE] == TYPE_CODE[head]:
                        ahead = 1.0
                    else:
                        ahead = (1 - trace) * value[b, t + 1, h] + trace * ahead
                    np.testing.assert_allclose(said[b, t, h], ahead, atol=1e-6)
    labels = batch.link[..., 2].astype(float)
    known = labels != UNKNOWN
    np.testing.assert_allclose(session_targets(link, batch, 1.0).numpy()[known], labels[known])


def test_the_shops_own_session_outlasts_a_pause() -> None:
    """A purchase an hour on is in the session where the shop says so, and not where it does not."""
    for named, expected in (("s1", True), (None, False)):
        steps = [click(0, 0), click(1, 60 * MINUTE, kind="purchase"), click(2, 20_000 * MINUTE, "end")]
        events = [msgspec.structs.replace(event, session_id=named if event.visitor_id == "v" else None) for event in steps]
        made = examples_of(fold_log(on_one_partition(events), SPEC, SessionPolicy()))
        row = int(np.flatnonzero(made.rows["offset"] == 0)[0])
        assert bool(made.labels.within[row, 0, 2]) is expected
        assert bool(made.labels.matured[row, 2])


def test_two_sessions_of_the_shop_are_not_one() -> None:
    """A purchase ten minutes on, in another session of the shop, is no purchase of this one beyond the half hour's own label."""
    steps = [click(0, 0), click(1, 40 * MINUTE), click(2, 50 * MINUTE, kind="purchase"), click(3, 20_000 * MINUTE, "end")]
    names = ("a", "b", "b", None)
    events = [msgspec.structs.replace(event, session_id=name) for event, name in zip(steps, names, strict=True)]
    made = examples_of(fold_log(on_one_partition(events), SPEC, SessionPolicy()))
    row = {int(offset): k for k, offset in enumerate(made.rows["offset"])}
    assert not made.labels.within[row[0], 0, 2]
    assert made.labels.within[row[1], 0, 2]
