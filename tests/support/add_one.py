"""The smallest model that Triton's python backend can serve: y = x + 1."""

from pathlib import Path

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput

_CONFIG = """
backend: "python"
max_batch_size: 8
input [{ name: "x" data_type: TYPE_FP32 dims: [ -1 ] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [ -1 ] }]
instance_group [{ kind: KIND_CPU count: 1 }]
"""
_MODEL = """
import numpy
import triton_python_backend_utils as pb_utils

assert numpy.__version__.startswith("1."), numpy.__version__


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", x + 1)]))
        return answers
"""


def write_add_one(repository: Path, code: str = _MODEL) -> Path:
    """A repository with the model in version 1, or with another program in its place. Returns the repository."""
    version = repository / "add_one" / "1"
    version.mkdir(parents=True)
    (version.parent / "config.pbtxt").write_text(_CONFIG)
    (version / "model.py").write_text(code)
    return repository


def ask_add_one(address: str) -> None:
    """A probe: raises unless the model adds one."""
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    tensor = InferInput("x", x.shape, "FP32")
    tensor.set_data_from_numpy(x)
    with InferenceServerClient(address) as client:
        y = client.infer("add_one", [tensor], client_timeout=10).as_numpy("y")
    if not np.array_equal(y, x + 1):
        raise AssertionError(f"{x} + 1 is not {y}")
