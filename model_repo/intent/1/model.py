"""Triton python backend of a version: runs the ONNX graph that lies beside this file.

Copied into each version folder as `model.py`, so that a version keeps working when the code around it changes. Needs numpy and
ONNX Runtime only. Each request is checked and answered on its own: a bad one never costs its neighbours their scores.
"""

import json
import os
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import triton_python_backend_utils as pb_utils

Array = npt.NDArray[Any]
Inputs = list[Array]

_INPUTS = ("codes", "numbers", "length")
#: Lengths that are run once before the version takes traffic: the first run of a shape is slow.
_WARM_UP_STEPS = (8, 16, 32, 64)
#: Sessions of about the same length are run together when there are this many: fewer are cheaper to pad than to run alone.
_WORTH_A_RUN = 16
_SHORTEST = 8

#: Numbers of a row.
_NUMBERS = 18


class TritonPythonModel:
    """One instance of the model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the version's own files. Raises when they are unfit, so that Triton keeps the version from traffic."""
        folder = os.path.join(args["model_repository"], args["model_version"])
        with open(os.path.join(folder, "manifest.json"), encoding="utf-8") as file:
            spec = json.load(file)["spec"]
        parameters = json.loads(args["model_config"]).get("parameters", {})
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(parameters.get("intra_op_threads", {}).get("string_value", "1"))
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            os.path.join(folder, "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._window = spec["window"]
        # Exclusive upper bounds of type, item, category, brand, hour, weekday, device, country, referrer, member; the graph's
        # tables are this long.
        ids = [spec[f"{name}_buckets"] for name in ("item", "category", "brand", "device", "country", "referrer")]
        self._bounds = np.array([9, *ids[:3], 25, 8, *ids[3:], 2])
        for steps in _WARM_UP_STEPS:
            codes = np.ones((1, min(steps, self._window), len(self._bounds)), np.int32)
            numbers = np.zeros((1, codes.shape[1], _NUMBERS), np.float32)
            self._run(codes, numbers, np.ones((1, 1), np.int32))

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response for each request, in order."""
        responses: list[Any] = [None] * len(requests)
        taken: list[tuple[int, Inputs]] = []
        for index, request in enumerate(requests):
            try:
                inputs = [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in _INPUTS]
                self._check(*inputs)
            except Exception as error:  # whatever is wrong with a request is the request's own affair
                responses[index] = _failed(error)
            else:
                taken.append((index, inputs))
        if taken:
            self._answer(taken, responses)
        return responses

    def finalize(self) -> None:
        """Let go of the graph."""
        self._session = None

    def _answer(self, taken: list[tuple[int, Inputs]], responses: list[Any]) -> None:
        """Run requests together and put each one's rows into its response."""
        try:
            outputs = self._run_by_length(*_together([inputs for _, inputs in taken]))
        except Exception as error:
            for index, _ in taken:
                responses[index] = _failed(error)
            return
        begin = 0
        for index, inputs in taken:
            end = begin + len(inputs[0])
            mine = {name: output[begin:end] for name, output in outputs.items()}
            begin = end
            try:
                _check_finite(mine)
            except FloatingPointError as error:
                responses[index] = _failed(error)
            else:
                tensors = [pb_utils.Tensor(name, np.ascontiguousarray(array)) for name, array in mine.items()]
                responses[index] = pb_utils.InferenceResponse(output_tensors=tensors)

    def _run_by_length(self, codes: Array, numbers: Array, length: Array) -> dict[str, Array]:
        """The outputs of all sessions, in their order, run with no more padding than those of about their length need."""
        groups = by_length(length[:, 0])
        parts = []
        for rows in groups:
            steps = -(-int(length[rows].max()) // _SHORTEST) * _SHORTEST
            parts.append(self._run(codes[rows, :steps], numbers[rows, :steps], length[rows]))
        back = np.argsort(np.concatenate(groups))
        return {name: np.concatenate([part[name] for part in parts])[back] for name in self._outputs}

    def _run(self, codes: Array, numbers: Array, length: Array) -> dict[str, Array]:
        outputs = self._session.run(self._outputs, {"codes": codes, "numbers": numbers, "length": length})
        return {name: np.asarray(output) for name, output in zip(self._outputs, outputs, strict=True)}

    def _check(self, codes: Array, numbers: Array, length: Array) -> None:
        """Raises ValueError with one line when the inputs cannot come from the contract's encode."""
        if codes.ndim != 3 or codes.shape[2] != len(self._bounds) or not 1 <= codes.shape[1] <= self._window:
            raise ValueError(f"codes have shape {list(codes.shape)}, want [B, 1..{self._window}, {len(self._bounds)}]")
        if numbers.shape != (*codes.shape[:2], _NUMBERS):
            raise ValueError(f"numbers have shape {list(numbers.shape)}, want {[*codes.shape[:2], _NUMBERS]}")
        if length.shape != (len(codes), 1):
            raise ValueError(f"length has shape {list(length.shape)}, want {[len(codes), 1]}")
        if codes.dtype != np.int32 or numbers.dtype != np.float32 or length.dtype != np.int32:
            raise ValueError("codes and length must be INT32, numbers FP32")
        if ((length < 1) | (length > codes.shape[1])).any():
            raise ValueError(f"length must lie in 1..{codes.shape[1]}, the rows sent")
        if ((codes < 0) | (codes >= self._bounds)).any():
            raise ValueError(f"codes must lie in 0..{(self._bounds - 1).tolist()}; is the feature spec another one?")
        inside = np.arange(codes.shape[1]) < length
        if (codes[..., 0][inside] == 0).any():
            raise ValueError("a row within length has type 0, which is padding")
        if np.isinf(numbers).any():
            raise ValueError("numbers must not be infinite; NaN stands for missing")


def by_length(lengths: Array) -> list[Array]:
    """Which rows are run together, every row once. [B] -> list."""
    order = np.argsort(lengths, kind="stable")
    size = np.ceil(np.log2(np.maximum(lengths[order], _SHORTEST)))  # [B] doubles from one class to the next
    cuts = [0]
    for edge in np.flatnonzero(np.diff(size)) + 1:
        if edge - cuts[-1] >= _WORTH_A_RUN and len(order) - edge >= _WORTH_A_RUN:
            cuts.append(int(edge))
    return np.split(order, cuts[1:])


def _together(requests: list[Inputs]) -> Inputs:
    """Inputs of several requests as those of one, padded to the longest."""
    if len(requests) == 1:
        return requests[0]
    steps = max(codes.shape[1] for codes, _, _ in requests)
    padded = [[np.pad(array, ((0, 0), (0, steps - array.shape[1]), (0, 0))) for array in one[:2]] for one in requests]
    return [*(np.concatenate(arrays) for arrays in zip(*padded, strict=True)), np.concatenate([one[2] for one in requests])]


def _check_finite(outputs: dict[str, Array]) -> None:
    for name, array in outputs.items():
        if array.dtype != object and not np.isfinite(array).all():
            raise FloatingPointError(f"the graph gave {name} that is not finite")


def _failed(error: Exception) -> Any:
    # What was refused is told from what broke: a client must not take a refusal for a server in trouble.
    code = pb_utils.TritonError.INVALID_ARG if isinstance(error, ValueError) else pb_utils.TritonError.INTERNAL
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(f"intent: {error}", code))
