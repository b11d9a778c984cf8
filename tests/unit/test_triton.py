"""Tests for worker/scoring/triton.py that need no server: what is sent together, and which answers are refused."""

from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import InferResult, service_pb2
from tritonclient.utils import InferenceServerException, np_to_triton_dtype, serialize_byte_tensor

from worker.errors import DeadlineExceeded, ScorerRejected, ScorerUnavailable, ScoringError
from worker.scoring.triton import _checked, scoring_error

ROWS = 3


def outputs() -> dict[str, np.ndarray[Any, Any]]:
    """A sound answer for three sessions."""
    rising = np.tile(np.array([0.1, 0.2, 0.3, 0.4, 0.5], np.float32), (ROWS, 1))
    return {
        "purchase": rising,
        "cart": rising + np.float32(0.1),
        "churn": np.full((ROWS, 1), 0.25, np.float32),
        "next_type": np.full((ROWS, 8), 0.125, np.float32),
        "next_items": np.array([[b"a", b"b"], [b"c", b""], [b"", b""]], object),
        "next_item_p": np.array([[0.5, 0.2], [0.4, 0.0], [0.0, 0.0]], np.float32),
    }


def answer(arrays: dict[str, np.ndarray[Any, Any]], version: str = "1") -> InferResult:
    response = service_pb2.ModelInferResponse(model_name="intent", model_version=version)
    for name, array in arrays.items():
        strings = array.dtype == object
        kind = "BYTES" if strings else np_to_triton_dtype(array.dtype)
        response.outputs.add(name=name, datatype=kind, shape=array.shape)
        response.raw_output_contents.append(serialize_byte_tensor(array).item() if strings else array.tobytes())
    return InferResult(response)


def test_a_sound_answer_becomes_scores() -> None:
    """Head by head; places without an item are left out."""
    scores = _checked(answer(outputs()), ROWS, "1")
    assert scores.purchase[0].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert scores.churn.tolist() == [0.25] * ROWS
    assert scores.next_items is not None
    assert scores.next_items.named() == [[("a", 0.5), ("b", pytest.approx(0.2))], [("c", pytest.approx(0.4))], []]
    assert (scores.version, scores.path) == ("1", "model")


def changed(name: str, row: int, column: int, value: float) -> dict[str, np.ndarray[Any, Any]]:
    arrays = outputs()
    arrays[name] = arrays[name].copy()
    arrays[name][row, column] = value
    return arrays


@pytest.mark.parametrize("name", ["purchase", "cart", "churn", "next_type", "next_item_p"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -0.01, 1.01])
def test_a_number_that_is_no_probability_is_refused(name: str, value: float) -> None:
    """One in the whole answer is enough."""
    with pytest.raises(ScorerRejected):
        _checked(answer(changed(name, 1, 0, value)), ROWS, "1")


def test_a_probability_that_falls_with_the_horizon_is_refused() -> None:
    """A longer horizon contains the shorter one; rounding is forgiven and mended."""
    with pytest.raises(ScorerRejected, match="falls"):
        _checked(answer(changed("purchase", 2, 3, 0.2)), ROWS, "1")
    mended = _checked(answer(changed("purchase", 2, 3, 0.3 - 5e-6)), ROWS, "1")
    assert (np.diff(mended.purchase, axis=1) >= 0).all()


@pytest.mark.parametrize("name", sorted(outputs()))
def test_an_output_that_is_missing_or_of_another_shape_is_refused(name: str) -> None:
    """Two rows for three sessions must not pass for scores."""
    arrays = outputs()
    with pytest.raises(ScorerRejected):
        _checked(answer(arrays | {name: arrays[name][:2]}), ROWS, "1")
    del arrays[name]
    with pytest.raises(ScorerRejected):
        _checked(answer(arrays), ROWS, "1")


def test_an_answer_of_another_version_is_refused() -> None:
    """Every score names the version that made it."""
    with pytest.raises(ScorerRejected, match="2 answered"):
        _checked(answer(outputs(), version="2"), ROWS, "1")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("StatusCode.DEADLINE_EXCEEDED", DeadlineExceeded),
        ("StatusCode.INVALID_ARGUMENT", ScorerRejected),
        ("StatusCode.NOT_FOUND", ScorerRejected),
        ("StatusCode.UNAVAILABLE", ScorerUnavailable),
        ("StatusCode.INTERNAL", ScorerUnavailable),
        (None, ScorerUnavailable),
    ],
)
def test_client_errors_have_a_meaning(status: str | None, expected: type[ScoringError]) -> None:
    """A refusal is told from a server in trouble, and from a slow one."""
    assert type(scoring_error(InferenceServerException("why", status))) is expected
