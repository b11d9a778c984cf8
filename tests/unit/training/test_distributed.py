"""Two processes on loopback train what one trains."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).parents[3]
CHILD = """
import json, sys
from pathlib import Path
from tests.unit.training.shop import on_one_partition, random_log
from training.architecture import Architecture
from training.distributed import rank, together
from training.examples import examples_of
from training.history import fold_log
from training.train import Recipe, train
from worker.contract.features import FeatureSpec
from worker.contract.session import SessionPolicy

spec = FeatureSpec(window=16, item_buckets=64, category_buckets=16, brand_buckets=16)
small = Architecture(
    width=16, layers=1, heads=2, feed_forward=16, item_width=8, category_width=4,
    dropout=float(sys.argv[2]), id_dropout=float(sys.argv[2]),
)
examples = examples_of(fold_log(on_one_partition(random_log(0, 600, 40)), spec, SessionPolicy()))
losses = []
with together():
    recipe = Recipe(epochs=1, min_steps=30, batch_events=128)
    model = train(examples, architecture=small, recipe=recipe, progress=lambda *at: losses.append(at[2]))
    weights = [float(p.double().sum()) for p in model.parameters()]
    Path(sys.argv[1], f"{rank()}.json").write_text(json.dumps([losses, weights]))
"""


def trained(folder: Path, processes: int, dropout: float) -> list[list[np.ndarray]]:
    """Losses and sums of weights that each process came to."""
    folder.mkdir()
    (folder / "child.py").write_text(CHILD)
    launch = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launch if processes > 1 else []), str(folder / "child.py"), str(folder), str(dropout)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return [[np.array(part) for part in json.loads((folder / f"{k}.json").read_text())] for k in range(processes)]


@pytest.mark.slow
@pytest.mark.parametrize(("dropout", "tolerance"), [(0.0, 1e-3), (0.1, 0.1)])
def test_two_processes_follow_the_loss_curve_of_one(tmp_path: Path, dropout: float, tolerance: float) -> None:
    """But for rounding and next items sampled by halves; with dropout chance differs, too. Both end with the same weights."""
    ((alone, _),) = trained(tmp_path / "one", 1, dropout)
    (first, weights), (second, theirs) = trained(tmp_path / "two", 2, dropout)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(weights, theirs)
    assert len(first) == len(alone) == 30
    np.testing.assert_allclose(first, alone, rtol=tolerance)
    assert alone[-1] < 0.9 * alone[0], "there is something to follow"
