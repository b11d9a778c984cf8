"""Version folders for tests that need no model in them."""

import hashlib
import json
from pathlib import Path
from typing import Any

from tests.unit.test_fallback import flat, inputs_of
from worker.scoring.base import Scores
from worker.scoring.fake import ConstantScorer
from worker.scoring.golden import Golden

MODEL = "intent"


def constant_scores(p: float, version: str) -> Scores:
    return ConstantScorer(p).score_now(inputs_of("view", "cart"), version)


def golden_of(p: float) -> Golden:
    """The golden batch of a model that always says `p`."""
    return Golden.of(inputs_of("view", "cart"), constant_scores(p, "1"))


def make_version(repository: Path, name: str, p: float = 0.5, **changes: Any) -> Path:
    """A sound version folder of a model that always says `p`; `changes` go into the manifest."""
    folder = repository / MODEL / name
    folder.mkdir(parents=True)
    (folder / "model.py").write_text("# what the model server runs\n")
    (folder / "model.onnx").write_bytes(b"a graph" * 100)
    (folder / "fallback.json").write_text(json.dumps(flat()))
    (folder / "golden.json").write_text(json.dumps((golden_of(p)).to_json()))
    write_manifest(folder, **changes)
    return folder


def write_manifest(folder: Path, **changes: Any) -> None:
    """The manifest of what lies in the folder now."""
    files = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.name != "manifest.json"
    }
    manifest = {
        "format": 1,
        "model": MODEL,
        "version": folder.name,
        "parent": None,
        "created_at": 1_700_000_000_000,
        "code_revision": "abc",
        "data": {"source": "test", "from_ms": 0, "until_ms": 5000, "events": 10, "sessions": 3},
        "spec": {"version": 2},
        "policy": {},
        "partitions": 4,
        "seed": 1,
        "files": files,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))
