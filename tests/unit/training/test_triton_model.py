"""The python backend of a version, run without Triton: only `triton_python_backend_utils` is a stand-in."""

import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from training.golden import sample_inputs
from training.graph import Graph
from training.signature import OUTPUTS
from worker.contract.features import FeatureSpec, ModelInputs

REPOSITORY = Path(__file__).parents[3] / "model_repo" / "intent"
TEMPLATE = Path(__file__).parents[3] / "training" / "triton_model.py"
SPEC = FeatureSpec()


@dataclass
class Tensor:
    name: str
    array: Any

    def as_numpy(self) -> Any:
        return self.array


@dataclass
class Response:
    output_tensors: list[Tensor]
    error: Any = None

    def __getitem__(self, name: str) -> Any:
        (tensor,) = (tensor for tensor in self.output_tensors if tensor.name == name)
        return tensor.array


class TritonError(str):
    """Triton's own error as far as the backend uses it."""

    INVALID_ARG, INTERNAL = "invalid argument", "internal"
    code: str

    def __new__(cls, message: str, code: str = INTERNAL) -> "TritonError":
        error = super().__new__(cls, message)
        error.code = code
        return error


@pytest.fixture(scope="module")
def model() -> Iterator[Any]:
    """The template of this tree over the shipped version's files, initialised as Triton does."""
    utils = ModuleType("triton_python_backend_utils")
    utils.Tensor, utils.InferenceResponse, utils.TritonError = Tensor, Response, TritonError  # type: ignore[attr-defined]
    utils.get_input_tensor_by_name = lambda request, name: request[name]  # type: ignore[attr-defined]
    sys.modules[utils.__name__] = utils
    spec = importlib.util.spec_from_file_location("version_model", TEMPLATE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = text_format.Parse((REPOSITORY / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    config_json = json.dumps(json_format.MessageToDict(config, preserving_proto_field_name=True))
    instance = module.TritonPythonModel()
    instance.initialize({"model_repository": str(REPOSITORY), "model_version": "1", "model_config": config_json})
    yield instance
    instance.finalize()
    del sys.modules[utils.__name__]


def request(inputs: ModelInputs) -> dict[str, Tensor]:
    return {name: Tensor(name, array) for name, array in inputs._asdict().items()}


def changed(inputs: ModelInputs, **arrays: Any) -> ModelInputs:
    return inputs._replace(**arrays)


def test_the_shipped_version_runs_this_template() -> None:
    """What was tested is what is served."""
    assert (REPOSITORY / "1" / "model.py").read_bytes() == TEMPLATE.read_bytes()


def test_each_request_gets_the_scores_of_its_own_sessions(model: Any) -> None:
    """Requests of several sizes and lengths in one call give what each gives alone, in order."""
    batches = [
        sample_inputs(SPEC, seed, sessions, steps) for seed, (sessions, steps) in enumerate([(3, 8), (1, 16), (5, 8), (2, 64)])
    ]
    responses = model.execute([request(batch) for batch in batches])
    graph = Graph(REPOSITORY / "1" / "model.onnx")
    for batch, response in zip(batches, responses, strict=True):
        assert response.error is None
        assert {tensor.name for tensor in response.output_tensors} == set(OUTPUTS)
        alone = graph.score(batch, "1")
        np.testing.assert_allclose(response["purchase"], alone.purchase, atol=1e-6)
        np.testing.assert_allclose(response["churn"][:, 0], alone.churn, atol=1e-6)
        assert alone.next_items is not None
        assert [[name for name, _ in row] for row in alone.next_items.named()] == response["next_items"].tolist()


def test_many_sessions_are_run_by_length(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With little padding and in few runs; each session still gets its own scores."""
    inputs = sample_inputs(SPEC, 5, 200, 64)
    lengths = np.minimum(inputs.length, np.random.default_rng(3).geometric(0.15, (200, 1))).astype(np.int32)
    inside = (np.arange(64) < lengths)[..., None]
    inputs = ModelInputs(inputs.codes * inside, np.where(inside, inputs.numbers, np.float32(0)), lengths)
    shapes: list[tuple[int, ...]] = []
    run = model._run
    monkeypatch.setattr(model, "_run", lambda codes, *others: shapes.append(codes.shape[:2]) or run(codes, *others))
    (response,) = model.execute([request(inputs)])
    assert 1 < len(shapes) <= 4
    assert sum(rows for rows, _ in shapes) == 200
    assert sum(rows * steps for rows, steps in shapes) <= 2 * np.maximum(lengths, 8).sum()
    alone = Graph(REPOSITORY / "1" / "model.onnx").score(inputs, "1")
    np.testing.assert_allclose(response["purchase"], alone.purchase, atol=1e-6)
    np.testing.assert_allclose(response["next_type"], alone.next_type, atol=1e-6)


def test_a_few_sessions_are_one_run(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """However their lengths differ, and whatever requests they come in."""
    rows: list[int] = []
    run = model._run
    monkeypatch.setattr(model, "_run", lambda codes, *others: rows.append(len(codes)) or run(codes, *others))
    model.execute([request(sample_inputs(SPEC, 1, 3, 8)), request(sample_inputs(SPEC, 2, 4, 64))])
    assert rows == [7]


GOOD = sample_inputs(SPEC, 0, 2, 8)
AT = (0, 0, 0)


def put(array: Any, value: float, at: tuple[int, ...] = AT) -> Any:
    copy = array.copy()
    copy[at] = value
    return copy


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (changed(GOOD, codes=put(GOOD.codes, -1)), "codes must lie"),
        (changed(GOOD, codes=put(GOOD.codes, 9)), "codes must lie"),
        (changed(GOOD, codes=put(GOOD.codes, SPEC.item_buckets, (0, 0, 1))), "codes must lie"),
        (changed(GOOD, codes=put(GOOD.codes, 0)), "type 0"),
        (changed(GOOD, length=put(GOOD.length, 0, (0, 0))), "length must lie"),
        (changed(GOOD, length=put(GOOD.length, 9, (0, 0))), "length must lie"),
        (changed(GOOD, length=GOOD.length[:1]), "length has shape"),
        (changed(GOOD, numbers=put(GOOD.numbers, np.inf)), "infinite"),
        (changed(GOOD, numbers=GOOD.numbers[:, :4]), "numbers have shape"),
        (changed(GOOD, codes=GOOD.codes[:, :, :3]), "codes have shape"),
        (changed(GOOD, codes=np.ones((1, SPEC.window + 1, 6), np.int32)), "codes have shape"),
        (changed(GOOD, codes=GOOD.codes[:, :0], numbers=GOOD.numbers[:, :0]), "codes have shape"),
        (changed(GOOD, codes=GOOD.codes.astype(np.int64)), "INT32"),
    ],
)
def test_a_bad_request_costs_only_itself(model: Any, bad: ModelInputs, says: str) -> None:
    """Its neighbours in the same call are answered."""
    before, refused, after = model.execute([request(GOOD), request(bad), request(GOOD)])
    assert says in refused.error
    assert refused.error.code == TritonError.INVALID_ARG, "a refusal, not a server in trouble"
    assert refused.output_tensors == []
    assert before.error is None
    np.testing.assert_array_equal(before["purchase"], after["purchase"])


def test_a_request_without_an_input_is_answered_with_an_error(model: Any) -> None:
    """Whatever is wrong with a request, the call goes on."""
    refused, good = model.execute([{"codes": Tensor("codes", GOOD.codes)}, request(GOOD)])
    assert refused.error is not None
    assert good.error is None


def test_scores_that_are_not_finite_are_an_error(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A NaN from the graph fails the request that it belongs to."""
    run = model._run

    def broken(*inputs: Any) -> dict[str, Any]:
        outputs: dict[str, Any] = run(*inputs)
        return outputs | {"cart": put(outputs["cart"], np.nan, (0, 0))}

    monkeypatch.setattr(model, "_run", broken)
    first, second = model.execute([request(GOOD), request(GOOD)])
    assert "cart" in first.error
    assert first.error.code == TritonError.INTERNAL
    assert second.error is None


def test_a_graph_that_fails_is_answered_with_errors(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request of the run gets one; execute itself never raises."""

    def failing(*inputs: Any) -> dict[str, Any]:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(model, "_run", failing)
    assert all("out of memory" in response.error for response in model.execute([request(GOOD), request(GOOD)]))


def test_a_version_without_its_graph_does_not_start(model: Any, tmp_path: Path) -> None:
    """Triton then keeps the version from traffic."""
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "manifest.json").write_bytes((REPOSITORY / "1" / "manifest.json").read_bytes())
    with pytest.raises(Exception, match=r"model\.onnx"):
        type(model)().initialize({"model_repository": str(tmp_path), "model_version": "2", "model_config": "{}"})
