"""Further versions of the shipped model, made in a second: the same graph with another calibration."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from training.golden import sample_inputs
from training.graph import Graph
from training.serving import BANDS
from worker.contract.events import HAZARD_HEADS, HORIZONS
from worker.scoring.golden import Golden
from worker.versions import MANIFEST, read_manifest, sha256_of

_TRITON_MODEL = Path(__file__).parents[2] / "training" / "triton_model.py"
_SHAPE = (BANDS, len(HAZARD_HEADS), len(HORIZONS))


def vary(source: Path, out: Path, by: float, *, golden_by: float | None = None) -> None:
    """Fill the folder `out` with version `source`, the log-odds of its links moved by `by`.

    With `golden_by` the golden batch is that of another move: a version that lies about itself.
    """
    shutil.copytree(source, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(_TRITON_MODEL, out / "model.py")
    _move(out / "model.onnx", by)
    spec = read_manifest(source).spec
    inputs = sample_inputs(spec, seed=1)
    if golden_by is None:
        scores = Graph(out / "model.onnx").score(inputs, "0")
    else:
        liar = out.parent / f"{out.name}.onnx"
        shutil.copy(source / "model.onnx", liar)
        _move(liar, golden_by)
        scores = Graph(liar).score(inputs, "0")
        liar.unlink()
    (out / "golden.json").write_text(json.dumps(Golden.of(inputs, scores).to_json()))
    seal(out)


def seal(folder: Path) -> None:
    """Make the manifest vouch for the files as they are now."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"] = {path.name: sha256_of(path) for path in folder.iterdir() if path.name != MANIFEST}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def _move(graph: Path, by: float) -> None:
    model = onnx.load(graph)
    (bias,) = (tensor for tensor in model.graph.initializer if tuple(tensor.dims) == _SHAPE and _is_added(model, tensor.name))
    moved = numpy_helper.to_array(bias) + np.float32(by)
    bias.CopyFrom(numpy_helper.from_array(moved, bias.name))
    onnx.save(model, graph)


def _is_added(model: onnx.ModelProto, name: str) -> bool:
    """Whether the rows picked out of this tensor are added, not multiplied. The exporter renames what it lays out anew."""
    picked = {output for node in model.graph.node if name in node.input for output in node.output}
    return any(node.op_type == "Add" and picked & set(node.input) for node in model.graph.node)
