"""A training that was killed goes on from its checkpoint, and comes to what an undisturbed one comes to, to the bit."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit.training.shop import on_one_partition, random_log, write_jsonl
from training import checkpoint as checkpoint_module
from training.architecture import Architecture
from training.examples import Examples, examples_of
from training.history import fold_log
from training.model import IntentModel
from training.run import Run
from training.sampler import Sampler
from training.train import Recipe, optimise, train
from training.version import FILES
from worker.contract.features import FeatureSpec
from worker.contract.session import SessionPolicy

pytestmark = pytest.mark.slow

SPEC = FeatureSpec(window=16, item_buckets=64, category_buckets=16, brand_buckets=16)
SMALL = Architecture(width=16, layers=1, heads=2, feed_forward=16, item_width=8, category_width=4)
#: 7 steps of pretraining and 23 more.
RECIPE = Recipe(epochs=0, min_steps=23, batch_events=64, pretrain=0.3)
STEPS = 30
REPOSITORY = Path(__file__).parents[3]

#: Makes a version of small networks, with a checkpoint every 5 steps. It kills itself where it is told to:
#: at the n-th call of the named function of the named module.
CHILD = """
import importlib, os, signal, sys
from pathlib import Path
import training.checkpoint
from training.architecture import Architecture
from training.make_version import make_version
from training.read import EventFiles, logged
from training.train import Recipe
from worker.contract.features import FeatureSpec
from worker.contract.session import SessionPolicy

log, out, where, nth = sys.argv[1:]
training.checkpoint.EVERY_STEPS = 5
if where:
    module, name = where.split(":")
    module, calls = importlib.import_module(module), 0
    real = getattr(module, name)
    def deadly(*given, **named):
        global calls
        calls += 1
        if calls == int(nth):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given, **named)
    setattr(module, name, deadly)
make_version(
    lambda: logged(EventFiles([Path(log)]).events(), 2), Path(out), source="log", policy=SessionPolicy(), partitions=2,
    spec=FeatureSpec(window=16, item_buckets=64, category_buckets=16, brand_buckets=16),
    architecture=Architecture(width=16, layers=1, heads=2, feed_forward=16, item_width=8, category_width=4),
    recipe=Recipe(epochs=1, min_steps=13, batch_events=64),
)
"""


class Killed(Exception):
    pass


def examples(seed: int = 0) -> Examples:
    return examples_of(fold_log(on_one_partition(random_log(seed, 600, 40)), SPEC, SessionPolicy()))


def of_run(folder: Path, made: Examples, seed: int = 1, recipe: Recipe = RECIPE) -> checkpoint_module.Checkpoint:
    return Run(folder / "v").checkpoint("network", made, seed, SMALL, recipe)


def killed_at(step: int, folder: Path, made: Examples) -> None:
    def progress(done: int, steps: int, loss: float) -> None:
        if done == step:
            raise Killed

    with pytest.raises(Killed):
        train(made, seed=1, architecture=SMALL, recipe=RECIPE, checkpoint=of_run(folder, made), progress=progress)


def weights(model: IntentModel) -> dict[str, torch.Tensor]:
    return model.state_dict()


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_module, "EVERY_STEPS", 5)


@pytest.mark.parametrize("step", [3, 7, 12, STEPS])
def test_what_was_stopped_ends_with_the_weights_of_what_was_not(step: int, tmp_path: Path) -> None:
    """Amid pretraining, at its end, behind it, and after the last step; the losses are the same, too."""
    made = examples()
    losses: list[float] = []
    undisturbed = train(made, seed=1, architecture=SMALL, recipe=RECIPE, progress=lambda *at: losses.append(at[2]))
    killed_at(step, tmp_path, made)
    torch.manual_seed(99)
    again: list[tuple[int, float]] = []
    resumed = train(
        made, seed=1, architecture=SMALL, recipe=RECIPE, checkpoint=of_run(tmp_path, made),
        progress=lambda done, _, loss: again.append((done, loss)),
    )  # fmt: skip
    for name, weight in weights(undisturbed).items():
        assert torch.equal(weight, weights(resumed)[name]), name
    begins = step // 5 * 5
    assert again == list(enumerate(losses, 1))[begins:]


@pytest.mark.parametrize("changed", ["data", "recipe", "seed", "code version"])
def test_a_checkpoint_of_something_else_is_not_used(
    changed: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says of what, and the result is that of a training without it."""
    made = examples()
    killed_at(12, tmp_path, made)
    made = examples(7) if changed == "data" else made
    seed = 2 if changed == "seed" else 1
    recipe = replace(RECIPE, clip=0.5) if changed == "recipe" else RECIPE
    if changed == "code version":
        monkeypatch.setattr("training.run._code", lambda: "other")
    with_it = train(made, seed=seed, architecture=SMALL, recipe=recipe, checkpoint=of_run(tmp_path, made, seed, recipe))
    assert f"not used, as it is of another {changed}; training begins anew" in caplog.text
    without = train(made, seed=seed, architecture=SMALL, recipe=recipe)
    assert all(torch.equal(weight, weights(with_it)[name]) for name, weight in weights(without).items())


def test_a_damaged_checkpoint_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nor does it stop the training."""
    made = examples()
    killed_at(12, tmp_path, made)
    path = of_run(tmp_path, made).path
    path.write_bytes(path.read_bytes()[:-100])
    train(made, seed=1, architecture=SMALL, recipe=RECIPE, checkpoint=of_run(tmp_path, made))
    assert "not used, as it cannot be read" in caplog.text


def test_a_folder_that_cannot_be_written_only_costs_the_checkpoints(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Training goes on, and says that it could not be taken up again."""
    (tmp_path / "v.run").write_text("a file in its place")
    made = examples()
    train(made, seed=1, architecture=SMALL, recipe=RECIPE, checkpoint=of_run(tmp_path, made))
    assert "cannot be written" in caplog.text


def test_a_sampler_goes_on_where_another_stood() -> None:
    """Of several sources, each amid a pass of its own."""
    made, other = examples(), examples(3)
    first, second = Sampler([made, other], [64, 24], seed=5), Sampler([made, other], [64, 24], seed=8)
    for _ in range(17):
        next(first)
    second.go_to(first.position)
    for _ in range(40):
        for (mine, _), (theirs, _) in zip(next(first), next(second), strict=True):
            np.testing.assert_array_equal(mine.row, theirs.row)


def test_fine_tuning_takes_no_checkpoint_and_needs_none() -> None:
    """Two sources in one step, as before."""
    made = examples()
    model = train(made, seed=1, architecture=SMALL, recipe=Recipe(epochs=0, min_steps=0))
    optimise(model, [made, examples(3)], [32, 32], steps=3, recipe=RECIPE, seed=0)
    assert not model.training


def child(log: Path, out: Path, where: str = "", nth: int = 0) -> int:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, str(log), str(out), where, str(nth)]
    return subprocess.run(command, cwd=REPOSITORY, env=environment, timeout=200, check=False).returncode


def same_version(one: Path, other: Path) -> None:
    for name in FILES:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_a_process_killed_wherever_it_may_be_comes_to_the_same_version(tmp_path: Path) -> None:
    """SIGKILL amid the steps, amid the writing of a checkpoint, and amid the writing of the version."""
    log = write_jsonl(tmp_path / "log.jsonl", random_log(0, 120, 12))
    assert child(log, tmp_path / "undisturbed") == 0
    out = tmp_path / "v"
    assert child(log, out, "training.train:_step", 8) == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "v.run").iterdir()] == ["network.safetensors"]
    assert child(log, out, "os:fsync", 1) == -signal.SIGKILL
    assert list((tmp_path / "v.run").glob("*.new"))
    assert not out.exists()
    assert child(log, out, "training.version:golden_of", 1) == -signal.SIGKILL
    assert (out / "weights.safetensors").exists()
    assert child(log, out) == 0
    same_version(tmp_path / "undisturbed", out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl", "undisturbed", "v"], "the run is gone"


def test_the_command_goes_on_after_a_sigkill(tmp_path: Path) -> None:
    """As a user has it: `inkling train`, killed from outside, and the same line again."""
    log = write_jsonl(tmp_path / "log.jsonl", random_log(0, 120, 12))
    command = [sys.executable, "-m", "worker", "train", str(log), "--out"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    begun = subprocess.Popen([*command, str(tmp_path / "v")], cwd=REPOSITORY, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "v.run" / "network.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    begun.kill()
    assert begun.wait() == -signal.SIGKILL
    done = subprocess.run(
        [*command, str(tmp_path / "v")], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True
    )
    assert "going on after step" in done.stderr
    subprocess.run([*command, str(tmp_path / "whole")], cwd=REPOSITORY, env=environment, capture_output=True, check=True)
    same_version(tmp_path / "whole", tmp_path / "v")
    assert not (tmp_path / "v.run").exists()
