"""Tests for worker/versions.py."""

import json
from pathlib import Path

import pytest

from tests.unit.version_folder import MODEL, make_version, write_manifest
from worker.errors import ModelError
from worker.versions import is_version, list_versions, open_version


def test_a_sound_version_opens(tmp_path: Path) -> None:
    """Manifest, fallback and golden batch come with it."""
    make_version(tmp_path, "2", parent="1")
    version = open_version(tmp_path / MODEL, "2")
    assert (version.manifest.version, version.manifest.parent) == ("2", "1")
    assert version.manifest.trained_until_ms == 5000
    assert version.fallback["kind"] == "logistic"
    assert version.golden.inputs.length.tolist() == [[2]]


def test_versions_are_listed_by_number(tmp_path: Path) -> None:
    """Staged, hidden and foreign folders are none; 10 comes after 9."""
    for name in ("10", "9"):
        make_version(tmp_path, name)
    for name in (".staged-11", "0", "007", "x", "12.old"):
        (tmp_path / MODEL / name).mkdir()
    assert list_versions(tmp_path / MODEL) == ["9", "10"]
    assert list_versions(tmp_path / "nothing") == []


@pytest.mark.parametrize("name", ["", "0", "01", "-1", "../1", "1/..", "\N{SUPERSCRIPT TWO}", "1 "])
def test_only_whole_numbers_are_versions(name: str) -> None:
    """Nothing that could lead out of the repository."""
    assert not is_version(name)


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    """In any file."""
    folder = make_version(tmp_path, "1")
    for name in ("model.onnx", "model.py", "fallback.json", "golden.json"):
        sound = (folder / name).read_bytes()
        (folder / name).write_bytes(sound[:50] + bytes([sound[50] ^ 1] if len(sound) > 50 else [0]) + sound[51:])
        with pytest.raises(ModelError, match=f"{name} does not have the sha256"):
            open_version(tmp_path / MODEL, "1")
        (folder / name).write_bytes(sound)
    open_version(tmp_path / MODEL, "1")


def test_a_truncated_file_is_found(tmp_path: Path) -> None:
    """As of a copy that was cut short."""
    folder = make_version(tmp_path, "1")
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:100])
    with pytest.raises(ModelError, match=r"model\.onnx"):
        open_version(tmp_path / MODEL, "1")


def test_a_missing_file_is_found(tmp_path: Path) -> None:
    """Named in the manifest, not there."""
    folder = make_version(tmp_path, "1")
    (folder / "model.onnx").unlink()
    with pytest.raises(ModelError, match=r"model\.onnx is missing"):
        open_version(tmp_path / MODEL, "1")


def test_a_needed_file_cannot_be_left_out_of_the_manifest(tmp_path: Path) -> None:
    """Otherwise it would not be checked."""
    folder = make_version(tmp_path, "1")
    (folder / "model.onnx").unlink()
    write_manifest(folder)
    with pytest.raises(ModelError, match=r"does not name model\.onnx"):
        open_version(tmp_path / MODEL, "1")


def test_a_file_that_nobody_vouches_for_is_found(tmp_path: Path) -> None:
    """A pickle beside the model, say. What Python leaves behind is let be."""
    folder = make_version(tmp_path, "1")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "model.cpython-311.pyc").write_bytes(b"")
    open_version(tmp_path / MODEL, "1")
    (folder / "weights.pkl").write_bytes(b"")
    with pytest.raises(ModelError, match=r"weights\.pkl is not named"):
        open_version(tmp_path / MODEL, "1")


@pytest.mark.parametrize("change", [{"version": "3"}, {"model": "other"}, {"spec": {"window": "wide"}}, {"files": None}])
def test_a_manifest_of_another_version_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    """A folder copied to another number does not become that version."""
    make_version(tmp_path, "1", **change)
    with pytest.raises(ModelError):
        open_version(tmp_path / MODEL, "1")


@pytest.mark.parametrize(("version", "mend"), [(1, r"inkling train"), (3, r"upgrade it")])
def test_a_version_of_another_row_layout_is_refused(tmp_path: Path, version: int, mend: str) -> None:
    """Before its golden batch, which is of other rows as well, could be called damaged. The message says what to do."""
    folder = make_version(tmp_path, "1", spec={"version": version})
    golden = json.loads((folder / "golden.json").read_text())
    golden["codes"] = [[row[:6] for row in window] for window in golden["codes"]]
    (folder / "golden.json").write_text(json.dumps(golden))
    write_manifest(folder, spec={"version": version})
    with pytest.raises(ModelError, match=rf"version 1 of intent wants rows by feature spec {version}.*{mend}"):
        open_version(tmp_path / MODEL, "1")


def test_a_manifest_that_is_no_json_or_missing_is_refused(tmp_path: Path) -> None:
    """The message says which file."""
    folder = make_version(tmp_path, "1")
    (folder / "manifest.json").write_text("{")
    with pytest.raises(ModelError, match=r"manifest\.json is damaged"):
        open_version(tmp_path / MODEL, "1")
    with pytest.raises(ModelError, match=r"2/manifest\.json"):
        open_version(tmp_path / MODEL, "2")
