"""Scores are computed again by the version that they name, and differences are found."""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from aiokafka import ConsumerRecord
from onnx import TensorProto, helper, numpy_helper

from worker.audit.recompute import Sample, recompute
from worker.audit.report import Report
from worker.audit.said import Said
from worker.contract.codec import encode
from worker.contract.events import EVENT_TYPES, HORIZONS, ClickEvent, ScoreEvent
from worker.contract.features import CODES, FeatureSpec
from worker.contract.features import encode as encode_sessions
from worker.contract.fold import Fold
from worker.contract.session import SessionPolicy

_WIDTHS = {"purchase": 5, "cart": 5, "churn": 1, "next_type": 8}
_MAKER = ("intent", "3", "model")


def _write_model(repository: Path, codes: int = len(CODES)) -> None:
    """A graph that says a hundredth of the session's length, for everything."""
    inputs = [
        helper.make_tensor_value_info("codes", TensorProto.INT32, ["b", "t", codes]),
        helper.make_tensor_value_info("numbers", TensorProto.FLOAT, ["b", "t", 18]),
        helper.make_tensor_value_info("length", TensorProto.INT32, ["b", 1]),
    ]
    nodes = [helper.make_node("Cast", ["length"], ["as_float"], to=TensorProto.FLOAT)]
    weights = []
    for name, width in _WIDTHS.items():
        weights.append(numpy_helper.from_array(np.full((1, width), 0.01, np.float32), f"w_{name}"))
        nodes.append(helper.make_node("MatMul", ["as_float", f"w_{name}"], [name]))
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", width]) for name, width in _WIDTHS.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = repository / "intent" / "3" / "model.onnx"
    path.parent.mkdir(parents=True)
    onnx.save(model, path)


def _scored(count: int, wrong: int | None = None) -> tuple[Sample, Said, Report]:
    """`count` clicks of one visitor with their scores; that of click `wrong` is a ten-thousandth off."""
    fold, report = Fold(FeatureSpec(), SessionPolicy()), Report()
    sample, said = Sample(10, 1), Said("clicks", 0, 0, count, report)
    for offset in range(count):
        event = ClickEvent(f"e{offset}", 1_700_000_000_000 + offset, "v", "view")
        session, _, _ = fold.apply(event, offset)
        p = round(0.01 * session.position, 6) + (1e-4 if offset == wrong else 0)
        score = ScoreEvent(
            score_id=f"clicks:0:{offset}", event_id=event.event_id, visitor_id="v", session_id=session.session_id,
            position=session.position, event_time=event.event_time, scored_at=0, age_ms=0, deadline_met=True, model="intent",
            version="3", path="model", input_hash=session.input_hash,
            scores={
                "purchase": dict.fromkeys(HORIZONS, p), "cart": dict.fromkeys(HORIZONS, p), "churn": p,
                "next_type": dict.fromkeys(EVENT_TYPES, p),
            },
        )  # fmt: skip
        said.add([ConsumerRecord("s", 0, offset, 0, 0, b"v", encode(score), None, 0, 0, ())])
        sample.offer(offset, _MAKER, partial(encode_sessions, [session]))
    assert report.ok, report.checks
    return sample, said, report


def test_right_scores_pass(tmp_path: Path) -> None:
    """Computed in another batch, within 1e-5."""
    _write_model(tmp_path)
    sample, said, report = _scored(10)
    recompute(sample, said, "clicks:0", tmp_path, report)
    assert (report.checks["I6"].checked, report.checks["I6"].failed) == (10, 0)


def test_a_wrong_score_is_named(tmp_path: Path) -> None:
    """A ten-thousandth off is found."""
    _write_model(tmp_path)
    sample, said, report = _scored(10, wrong=4)
    recompute(sample, said, "clicks:0", tmp_path, report)
    assert report.checks["I6"].failed == 1
    assert str(report.checks["I6"].first).startswith("score clicks:0:4 differs by 0.0001 from what version 3 gives")


def test_the_sample_is_bounded_and_fair() -> None:
    """Ten of fifty, early and late ones, the same each time; the fallback's are left out."""
    sample, _, _ = _scored(50)
    offsets = [scored.offset for scored in sample.by_maker()[_MAKER]]
    assert len(offsets) == 10
    assert offsets == [scored.offset for scored in _scored(50)[0].by_maker()[_MAKER]]
    assert min(offsets) < 25 < max(offsets)
    fallback = Sample(10, 1)
    session, _, _ = Fold(FeatureSpec(), SessionPolicy()).apply(ClickEvent("e", 1_700_000_000_000, "v", "view"), 0)
    fallback.offer(0, ("intent", "3", "fallback"), partial(encode_sessions, [session]))
    assert fallback.by_maker() == {}


def test_what_cannot_be_computed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that is not here, or of other rows, or no ONNX Runtime: a note, not a pass in silence."""
    sample, said, report = _scored(3)
    recompute(sample, said, "clicks:0", tmp_path, report)
    assert "not checked for version 3" in report.notes[0]
    _write_model(tmp_path, codes=6)
    recompute(sample, said, "clicks:0", tmp_path, report)
    assert "version 3: it scores rows of another layout" in report.notes[1]
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    recompute(sample, said, "clicks:0", tmp_path, report)
    assert "onnxruntime is not installed" in report.notes[2]
    assert report.checks["I6"].checked == 0
