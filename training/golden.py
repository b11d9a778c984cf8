"""The small batch that comes with each version, and what the version says of it."""

from pathlib import Path

import numpy as np

from training.graph import Graph
from worker.contract.features import CODES, NUMBERS, FeatureSpec, ModelInputs
from worker.scoring.golden import Golden

#: Sessions in the batch, and their longest length.
_SESSIONS, _STEPS = 4, 16
#: Seconds, counts and prices mostly lie below this.
_LARGEST = 500.0


def golden_of(graph: Path, spec: FeatureSpec, version: str, seed: int) -> Golden:
    """A random but valid batch with the graph's scores of it."""
    inputs = sample_inputs(spec, seed)
    return Golden.of(inputs, Graph(graph).score(inputs, version))


def sample_inputs(spec: FeatureSpec, seed: int, sessions: int = _SESSIONS, steps: int = _STEPS) -> ModelInputs:
    """Random but valid inputs: lengths from 1 to `steps` rows, the first of `steps`, some prices and visits missing."""
    rng = np.random.default_rng(seed)
    length = rng.integers(1, steps + 1, (sessions, 1)).astype(np.int32)
    length[0] = steps
    sizes = spec.code_sizes.values()
    codes = np.stack([rng.integers(1, size, (sessions, steps)) for size in sizes], axis=-1).astype(np.int32)
    # What is missing is a value like any other to these, and all that some shops send.
    visitor = CODES.index("device")
    codes[..., visitor:][rng.uniform(size=codes[..., visitor:].shape) < 0.5] = 0
    numbers = rng.uniform(0, _LARGEST, (sessions, steps, len(NUMBERS))).round(1).astype(np.float32)
    for name in ("price", "since_visit_s"):
        numbers[..., NUMBERS.index(name)][rng.uniform(size=(sessions, steps)) < 0.5] = np.nan
    padding = np.arange(steps) >= length  # [B, T]
    codes[padding] = 0
    numbers[padding] = 0
    return ModelInputs(codes, numbers, length)
