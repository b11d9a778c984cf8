"""Two processes on loopback train what one trains, and go on together or not at all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

#: 6 of pretraining and 24 more.
STEPS = 30
REPOSITORY = Path(__file__).parents[3]
CHILD = """
import json, os, signal, sys
from pathlib import Path
import training.checkpoint
from tests.unit.training.shop import on_one_partition, random_log
from training.architecture import Architecture
from training.distributed import rank, together
from training.examples import examples_of
from training.history import fold_log
from training.run import Run
from training.train import Recipe, train
from worker.contract.features import FeatureSpec
from worker.contract.session import SessionPolicy

folder, (dropout, killed, seeds, rate) = Path(sys.argv[1]), map(json.loads, sys.argv[2:])
training.checkpoint.EVERY_STEPS = 5
spec = FeatureSpec(window=16, item_buckets=64, category_buckets=16, brand_buckets=16)
small = Architecture(
    width=16, layers=1, heads=2, feed_forward=16, item_width=8, category_width=4, dropout=dropout, id_dropout=dropout
)
examples = examples_of(fold_log(on_one_partition(random_log(0, 600, 40)), spec, SessionPolicy()))
losses = []
def progress(step, steps, loss):
    losses.append(loss)
    if step == killed:
        os.kill(os.getpid(), signal.SIGKILL)
with together():
    recipe, seed = Recipe(epochs=0, min_steps=24, pretrain=0.25, batch_events=128, learning_rate=rate), seeds[rank()]
    # Each in a folder of its own, as on machines without a file system in common.
    checkpoint = Run(folder / str(rank())).checkpoint("network", examples, seed, small, recipe)
    model = train(examples, seed=seed, architecture=small, recipe=recipe, progress=progress, checkpoint=checkpoint)
    weights = [float(p.double().sum()) for p in model.parameters()]
    Path(folder, f"{rank()}.json").write_text(json.dumps([losses, weights]))
"""


def run(
    folder: Path, processes: int, dropout: float = 0.0, killed: int = 0, seeds: tuple[int, int] = (0, 0), rate: float = 0.01
) -> subprocess.CompletedProcess[str]:
    """The processes to their end, or to the step at which they kill themselves."""
    folder.mkdir(exist_ok=True)
    (folder / "child.py").write_text(CHILD)
    launch = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(processes)]
    given = [str(folder / "child.py"), str(folder), *map(json.dumps, (dropout, killed, seeds, rate))]
    command = [sys.executable, *(launch if processes > 1 else []), *given]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False)


def trained(folder: Path, processes: int, dropout: float = 0.0, rate: float = 0.01) -> list[list[np.ndarray]]:
    """Losses and sums of weights that each process came to."""
    done = run(folder, processes, dropout, rate=rate)
    assert done.returncode == 0, done.stderr
    return [[np.array(part) for part in json.loads((folder / f"{k}.json").read_text())] for k in range(processes)]


@pytest.mark.slow
@pytest.mark.parametrize(("dropout", "tolerance"), [(0.0, 1e-3), (0.1, 0.02)])
def test_two_processes_follow_the_loss_curve_of_one(tmp_path: Path, dropout: float, tolerance: float) -> None:
    """But for rounding and next items sampled by halves; with dropout chance differs, too. Both end with the same weights."""
    ((alone, _),) = trained(tmp_path / "one", 1, dropout)
    (first, weights), (second, theirs) = trained(tmp_path / "two", 2, dropout)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(weights, theirs)
    assert len(first) == len(alone) == STEPS
    np.testing.assert_allclose(first, alone, rtol=tolerance)
    ((idle, _),) = trained(tmp_path / "idle", 1, dropout, rate=1e-12)
    assert (alone[-5:] < (1 - 2 * tolerance) * idle[-5:]).all(), "there is something to follow"


@pytest.mark.slow
@pytest.mark.parametrize(("whose", "begins"), [(0, 5), (1, 0)])
def test_killed_processes_of_which_one_finds_a_checkpoint_agree_on_what_to_do(tmp_path: Path, whose: int, begins: int) -> None:
    """The first process looks for all: what it finds all go on from, what it does not find none uses. Nobody waits for ever."""
    assert run(tmp_path / "two", 2, killed=8).returncode != 0
    kept, gone = (tmp_path / "two" / f"{k}.run" for k in (whose, 1 - whose))
    assert (tmp_path / "two" / "0.run" / "network.safetensors").exists()
    assert not (tmp_path / "two" / "1.run").exists(), "only the first one writes"
    if whose:
        gone.rename(kept)
    (first, weights), (second, theirs) = trained(tmp_path / "two", 2)
    assert len(first) == STEPS - begins
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(weights, theirs)


@pytest.mark.slow
def test_processes_that_train_something_else_are_refused(tmp_path: Path) -> None:
    """All of them, in one line that says what differs, before the first step."""
    done = run(tmp_path / "two", 2, seeds=(0, 1))
    assert done.returncode != 0
    assert "the processes that train together differ in seed" in done.stderr
    assert not (tmp_path / "two" / "0.run").exists()
