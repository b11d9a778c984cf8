"""Steps on a GPU: mixed precision and the compiled network, tried on the processor as far as one goes without a GPU."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.unit.training.shop import on_one_partition, random_log
from training.architecture import Architecture
from training.checkpoint import Checkpoint
from training.device import Device, best_device
from training.examples import Examples, examples_of
from training.history import fold_log
from training.losses import LossWeights, loss_of, session_targets
from training.model import IntentModel
from training.run import Run
from training.train import Recipe, tensors, train
from worker.contract.features import FeatureSpec
from worker.contract.session import SessionPolicy

pytestmark = pytest.mark.slow

SPEC = FeatureSpec(window=16, item_buckets=64, category_buckets=16, brand_buckets=16)
SMALL = Architecture(width=16, layers=1, heads=2, feed_forward=16, item_width=8, category_width=4)
#: 6 steps of pretraining and 24 more.
RECIPE = Recipe(epochs=0, min_steps=24, batch_events=128, pretrain=0.25)
CPU = torch.device("cpu")
MIXED = Device(CPU, mixed=True)


@pytest.fixture(scope="module")
def made() -> Examples:
    return examples_of(fold_log(on_one_partition(random_log(0, 600, 40)), SPEC, SessionPolicy()))


def trained(
    made: Examples, device: Device | None, checkpoint: Checkpoint | None = None, most: int = 99, recipe: Recipe = RECIPE
) -> tuple[IntentModel, list[float]]:
    """A network and the losses of its steps; killed after `most` of them."""
    losses: list[float] = []

    def progress(step: int, steps: int, loss: float) -> None:
        losses.append(loss)
        if step == most:
            raise InterruptedError

    model = train(made, architecture=SMALL, recipe=recipe, progress=progress, checkpoint=checkpoint, device=device)
    return model, losses


def same(one: IntentModel, other: IntentModel) -> bool:
    return all(torch.equal(weight, other.state_dict()[name]) for name, weight in one.state_dict().items())


def of_run(folder: Path, made: Examples) -> Checkpoint:
    return Run(folder / "v").checkpoint("network", made, 0, SMALL, RECIPE)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_best_is_the_processor_in_full_precision(made: Examples) -> None:
    """With the same bits as when it is asked for."""
    assert best_device() == Device() == Device(CPU, mixed=False, compiler=None)
    assert same(trained(made, None)[0], trained(made, Device())[0])


def test_mixed_precision_follows_full_precision(made: Examples) -> None:
    """It is another arithmetic, and comes to nearly the same; weights are float32 throughout."""
    exact, losses = trained(made, Device())
    mixed, nearly = trained(made, MIXED)
    assert not same(exact, mixed)
    np.testing.assert_allclose(nearly, losses, rtol=5e-3)
    _, idle = trained(made, Device(), recipe=replace(RECIPE, learning_rate=1e-12))
    assert np.mean(losses[-5:]) < 0.98 * np.mean(idle[-5:]), "there is something to follow"
    assert {weight.dtype for weight in mixed.parameters()} == {torch.float32}


def test_in_mixed_precision_the_features_stay_exact(made: Examples) -> None:
    """Beliefs and rates go in as they are served; the trunk is what runs in bfloat16."""
    model, _ = trained(made, Device())
    seen: dict[str, torch.Tensor] = {}
    model.numbers_in.register_forward_pre_hook(lambda _, given: seen.update(features=given[0]))
    model.link.register_forward_hook(lambda *at: seen.update(link=at[2]))
    inputs = tensors(made.batch(np.arange(20)).inputs)
    with torch.no_grad():
        model(*inputs)
        exact = dict(seen)
        with MIXED.precision():
            model(*inputs)
    assert torch.equal(seen["features"], exact["features"])
    assert (exact["link"].dtype, seen["link"].dtype) == (torch.float32, torch.bfloat16)


def test_the_compiled_network_makes_the_same_steps(made: Examples) -> None:
    """By a backend that needs no compiler: the same graph, with the same chance."""
    plain, losses = trained(made, MIXED)
    compiled, nearly = trained(made, Device(CPU, mixed=True, compiler="aot_eager"))
    np.testing.assert_allclose(nearly, losses, rtol=1e-3)
    for name, weight in plain.state_dict().items():
        apart = (compiled.state_dict()[name] - weight).abs().nan_to_num()
        assert float(apart.float().mean()) < 1e-4, name
        # Where rounding turns the sign of a gradient that is nearly 0, Adam goes a whole step the other way.
        assert float(apart.max()) < 3 * RECIPE.learning_rate, name


def test_batches_of_any_size_share_one_compilation(made: Examples) -> None:
    """Sizes differ from step to step, and some logs take five networks; each would cost a compilation."""
    torch._dynamo.reset()
    graphs = 0

    def counting(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        nonlocal graphs
        graphs += 1
        return graph

    for _ in range(2):
        trained(made, Device(CPU, compiler=counting))
    assert graphs == 2, "one learns, one averages"


def test_nothing_of_a_step_stays_behind_on_the_processor(made: Examples) -> None:
    """Tensors without numbers stand for those on a GPU: an operation on two devices is refused as there."""
    batch = made.batch(np.arange(20))
    with FakeTensorMode(allow_non_fake_inputs=False) as fake:
        with torch.device("cuda"):
            model = IntentModel(SPEC, SMALL).train()
        inputs = [fake.from_tensor(t).to("cuda") for t in (*tensors(batch.inputs), torch.from_numpy(batch.fold))]
        heads = model(*inputs)
        expected = session_targets(heads.link.detach(), batch, 0.9)
        loss = loss_of(model, heads, batch, LossWeights(next_category=0.3, pause=0.3), expected)
        assert loss.device.type == "cuda"
        with pytest.raises(RuntimeError, match="device"):
            loss + torch.zeros(3)


def test_a_checkpoint_of_another_precision_goes_on(made: Examples, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A GPU's is float32 as well, and goes on without one."""
    with pytest.raises(InterruptedError):
        trained(made, MIXED, of_run(tmp_path, made), most=30)
    _, losses = trained(made, Device(), of_run(tmp_path, made))
    assert "going on after step 30" in caplog.text
    assert losses == []


if torch.cuda.is_available():  # and no test that is skipped elsewhere: a machine without one is not at fault

    def test_a_gpu_follows_the_processor_and_a_processor_goes_on(made: Examples, tmp_path: Path) -> None:
        """What comes out lies in the processor's memory, in float32, and so does the checkpoint."""
        _, losses = trained(made, Device())
        model, nearly = trained(made, best_device(), of_run(tmp_path, made))
        np.testing.assert_allclose(nearly, losses, rtol=0.1)
        assert {(weight.device.type, weight.dtype) for weight in model.parameters()} == {("cpu", torch.float32)}
        assert all(buffer.device.type == "cpu" for buffer in model.buffers())
        again, none = trained(made, Device(), of_run(tmp_path, made))
        assert none == []
        for name, weight in model.state_dict().items():
            torch.testing.assert_close(again.state_dict()[name], weight, msg=name)
