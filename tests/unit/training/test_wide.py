"""The regression that the network starts from: against other solvers, and what it must not touch."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from tests.unit.training.shop import on_one_partition, random_log
from training.architecture import Architecture
from training.examples import Batch, Examples, examples_of
from training.history import fold_log
from training.labels import UNKNOWN
from training.model import PLACES, IntentModel, places_of, wide_inputs
from training.next_items import BACK, NextItems
from training.version import _as_now
from training.wide import fit_wide
from worker.contract.features import NUMBERS, FeatureSpec
from worker.contract.session import SessionPolicy

SPEC = FeatureSpec(window=16, item_buckets=64, category_buckets=16, brand_buckets=16)
SMALL = Architecture(width=16, layers=1, heads=2, feed_forward=16, item_width=8, category_width=4)
#: Rows of the wide part: purchase and cart by horizon, then churn, then the types.
VALUE = "network.features.intents.value"
CHURN = 10


@pytest.fixture(scope="module")
def data() -> Examples:
    return examples_of(fold_log(on_one_partition(random_log(0, 2000, 30)), SPEC, SessionPolicy()))


@pytest.fixture(scope="module")
def batch(data: Examples) -> Batch:
    return data.batch(np.arange(len(data)))


@pytest.fixture(scope="module")
def fitted(data: Examples) -> IntentModel:
    """With levels by place, and the means and rates of the data."""
    torch.manual_seed(0)
    model = IntentModel(SPEC, SMALL)
    model.features.rates.fit(data)
    model.features.fit([(batch.inputs, batch.predict) for batch in data.batches(4096)])
    with torch.no_grad():
        model.churn_at.weight.normal_()
    fit_wide(model, data, 0)
    return model.eval()


@pytest.fixture(scope="module")
def inputs(fitted: IntentModel, batch: Batch) -> torch.Tensor:
    """[B, T, F]: what the wide part is fitted on."""
    codes, numbers = torch.from_numpy(batch.inputs.codes), torch.from_numpy(batch.inputs.numbers)
    return wide_inputs(codes, fitted.features(codes, numbers, torch.from_numpy(batch.fold))).detach()


def test_the_next_type_is_what_softmax_regression_says(fitted: IntentModel, inputs: torch.Tensor, batch: Batch) -> None:
    """scikit-learn's, with the same penalty."""
    known = batch.next_type != UNKNOWN
    x = inputs[torch.from_numpy(known)]
    expected = (
        LogisticRegression(C=1 / 10, max_iter=2000, tol=1e-8).fit(x.numpy(), batch.next_type[known]).predict_proba(x.numpy())
    )
    with torch.no_grad():
        said = torch.softmax(x @ fitted.wide.weight[CHURN + 1 :].T + fitted.next_type.bias, dim=-1).numpy()
    assert expected.std(axis=0).max() > 0.02
    np.testing.assert_allclose(said, expected, atol=5e-3)


def test_the_levels_by_place_are_taken_into_account(fitted: IntentModel, inputs: torch.Tensor, batch: Batch) -> None:
    """The end of a session is what a regression with them as offsets says, minimised in double precision."""
    known = batch.churn != UNKNOWN
    x, y = inputs[torch.from_numpy(known)].double().numpy(), batch.churn[known].astype(np.float64)
    place = places_of(torch.from_numpy(batch.inputs.numbers))[torch.from_numpy(known)]
    level = fitted.churn_at.weight.detach().double()[place, 0].numpy()

    def objective(w: np.ndarray) -> tuple[float, np.ndarray]:  # type: ignore[type-arg]
        z = x @ w[1:] + w[0] + level
        off = 1 / (1 + np.exp(-z)) - y
        loss = np.logaddexp(0, z).sum() - (y * z).sum() + 5 * (w[1:] ** 2).sum()
        return float(loss), np.concatenate([[off.sum()], off @ x + 10 * w[1:]])

    best = minimize(objective, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 5000, "ftol": 1e-12})
    with torch.no_grad():
        said = (inputs[torch.from_numpy(known)] @ fitted.wide.weight[CHURN] + fitted.churn.bias).numpy() + level
    np.testing.assert_allclose(1 / (1 + np.exp(-said)), 1 / (1 + np.exp(-(x @ best.x[1:] + best.x[0] + level))), atol=5e-3)


def test_purchases_are_left_to_the_network(fitted: IntentModel) -> None:
    """Few buyers would be learned by heart."""
    assert not fitted.wide.weight[:CHURN].any()


def test_a_visitor_who_came_before_has_a_place_of_its_own() -> None:
    """Only at the first event of a session; a new visitor has that of the first event."""
    numbers = torch.zeros(5, len(NUMBERS))
    numbers[:, NUMBERS.index("position")] = torch.tensor([1.0, 1.0, 2.0, 32.0, 500.0])
    numbers[:, NUMBERS.index("since_visit_s")] = torch.tensor([torch.nan, 4000.0, 4000.0, torch.nan, 4000.0])
    assert places_of(numbers).tolist() == [0, PLACES - 1, 1, PLACES - 2, PLACES - 2]


@pytest.mark.parametrize("age", ["no levels", "no level of returning visitors"])
def test_weights_of_an_older_version_say_the_same(age: str) -> None:
    """What it did not know is filled in so that it changes nothing."""
    torch.manual_seed(1)
    wanted = {f"network.{name}": tensor for name, tensor in IntentModel(SPEC, SMALL).state_dict().items()}
    wanted |= {f"next_items.{name}": tensor for name, tensor in NextItems(SPEC.category_buckets).state_dict().items()}
    levels = ("network.churn_at.weight", "network.next_type_at.weight")
    older = {name: torch.randn_like(tensor) for name, tensor in wanted.items() if name in ("network.wide.weight", *levels)}
    older[VALUE] = wanted[VALUE][0]
    older["next_items.weight"] = torch.rand_like(wanted["next_items.weight"])
    older["network.wide.weight"] = older["network.wide.weight"][: CHURN + 1]
    for name in levels:
        older[name] = older[name][: PLACES - 1]
        if age == "no levels":
            del older[name]
    now = _as_now(older, wanted)
    assert {name: tensor.shape for name, tensor in now.items()} == {name: wanted[name].shape for name in now}
    assert torch.equal(now["network.wide.weight"][: CHURN + 1], older["network.wide.weight"])
    assert not now["network.wide.weight"][CHURN + 1 :].any()
    for name in levels:
        before = older.get(name, torch.zeros_like(wanted[name][: PLACES - 1]))
        assert torch.equal(now[name], torch.cat([before, before[:1]]))


def test_an_older_version_that_asked_the_network_for_items_keeps_what_it_counted() -> None:
    """The network's share goes to the most frequent items, of which it has no list; categories had none either."""
    wanted = {f"next_items.{name}": tensor for name, tensor in NextItems(SPEC.category_buckets).state_dict().items()}
    wanted |= {f"network.{name}": tensor for name, tensor in IntentModel(SPEC, SMALL).state_dict().items()}
    before = torch.rand(BACK, 2 * BACK + 1)
    older = {"next_items.weight": before.clone(), "calibration.item_scale": torch.ones(())}
    older |= {"network.wide.weight": wanted["network.wide.weight"], VALUE: wanted[VALUE][0]}
    now = _as_now(older, wanted)
    weight = now["next_items.weight"]
    assert weight.shape == wanted["next_items.weight"].shape
    assert torch.equal(weight[:, :BACK], before[:, :BACK])
    assert torch.equal(weight[:, BACK + 2 : -1], before[:, BACK:-1])
    assert torch.equal(weight[:, BACK + 1], before[:, -1])
    assert not weight[:, [BACK, -1]].any()
    assert not now["next_items.category_row"].any()
    assert "calibration.item_scale" not in now
