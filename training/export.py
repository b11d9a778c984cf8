"""The serving model as one ONNX file: batch and length free, weights and item names inside."""

import copy
import logging
import warnings
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper

from training.serving import ServingModel
from training.signature import INPUTS, TOP_ITEMS
from worker.contract.features import CODES, NUMBERS

_INDEX = "next_item_index"
_OPSET = 18
_ROWS = 19


def export_onnx(model: ServingModel, path: Path) -> None:
    """Write the graph, weights included, to `path`."""
    graph = _traced(model)
    _name_items(graph, [*model.candidates.ids, ""])
    _strip(graph)
    onnx.checker.check_model(graph)
    onnx.save_model(graph, path, save_as_external_data=False)


def _traced(model: ServingModel) -> onnx.ModelProto:
    # Two sessions of several blocks of rows: sizes of 1 would be taken for constants.
    most = model.network.spec.window + 8
    rows = min(_ROWS, most)
    example = (
        torch.ones((2, rows, len(CODES)), dtype=torch.int32),
        torch.ones((2, rows, len(NUMBERS))),
        torch.full((2, 1), rows, dtype=torch.int32),
    )
    batch, length = torch.export.Dim("batch", min=1, max=4096), torch.export.Dim("T", min=1, max=most)
    shapes = {"codes": {0: batch, 1: length}, "numbers": {0: batch, 1: length}, "length": {0: batch}}
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter's own deprecations
            program = torch.onnx.export(
                copy.deepcopy(model).eval(), example, dynamo=True, dynamic_shapes=shapes, opset_version=_OPSET, verbose=False,
                input_names=list(INPUTS), output_names=["purchase", "cart", "churn", "next_type", _INDEX, "next_item_p"],
            )  # fmt: skip
    finally:
        quiet.setLevel(level)
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    return proto


def _name_items(model: onnx.ModelProto, ids: list[str]) -> None:
    """Put the items' names into the graph and turn the output of indexes into one of names."""
    graph = model.graph
    names = helper.make_tensor("item_names", TensorProto.STRING, [len(ids)], [name.encode() for name in ids])  # type: ignore[misc]
    graph.initializer.append(names)
    graph.node.append(helper.make_node("Gather", ["item_names", _INDEX], ["next_items"], name="name_items", axis=0))
    outputs = [output for output in graph.output if output.name != _INDEX]
    batch = outputs[0].type.tensor_type.shape.dim[0].dim_param
    outputs.insert(4, helper.make_tensor_value_info("next_items", TensorProto.STRING, [batch, TOP_ITEMS]))
    del graph.output[:]
    graph.output.extend(outputs)


def _strip(model: onnx.ModelProto) -> None:
    """Drop what the exporter notes of the machine (source paths and lines): the same weights give the same bytes anywhere."""
    del model.metadata_props[:]
    model.doc_string = ""
    for part in (model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info,
                 *model.graph.initializer, *model.functions):  # fmt: skip
        del part.metadata_props[:]
        part.doc_string = ""
    for function in model.functions:
        for node in function.node:
            del node.metadata_props[:]
            node.doc_string = ""
