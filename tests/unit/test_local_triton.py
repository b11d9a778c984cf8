"""Triton's files and the repository that it serves."""

import sys
from pathlib import Path

import pytest

from deploy.local import triton_files
from deploy.local.errors import StackError
from deploy.local.triton import add_missing_versions, found_models


def version(repository: Path, number: str, content: str) -> Path:
    """A version of the model `intent`, with a configuration beside."""
    folder = repository / "intent" / number
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "model.py").write_text(content)
    (repository / "intent" / "config.pbtxt").write_text(content)
    return folder


def test_models_without_a_version_are_not_served(tmp_path: Path) -> None:
    """A folder with a configuration alone cannot be loaded, so it is left out."""
    version(tmp_path, "3", "")
    (tmp_path / "empty").mkdir()
    (tmp_path / "draft" / "work").mkdir(parents=True)
    assert found_models(tmp_path) == ["intent"]
    assert found_models(tmp_path / "nowhere") == []


def test_versions_that_are_there_are_never_touched(tmp_path: Path) -> None:
    """What was published to the served folder stays; only what it does not have is added."""
    version(tmp_path / "clone", "1", "of the clone")
    version(tmp_path / "clone", "2", "of the clone")
    version(tmp_path / "served", "1", "published")
    add_missing_versions(tmp_path / "clone", tmp_path / "served")
    served = tmp_path / "served" / "intent"
    assert (served / "1" / "model.py").read_text() == "published"
    assert (served / "config.pbtxt").read_text() == "published"
    assert (served / "2" / "model.py").read_text() == "of the clone"


def test_only_a_version_s_own_files_are_copied(tmp_path: Path) -> None:
    """Neither caches of the interpreter nor half copied folders appear among the versions."""
    version(tmp_path / "clone", "1", "")
    add_missing_versions(tmp_path / "clone", tmp_path / "served")
    found = sorted(str(path.relative_to(tmp_path / "served")) for path in (tmp_path / "served").rglob("*"))
    assert found == ["intent", "intent/1", "intent/1/model.py", "intent/config.pbtxt"]


def test_backend_folder_has_the_stub_for_this_python(tmp_path: Path) -> None:
    """The stub is executable, and the one library it needs is found beside it."""
    files = triton_files.find_triton()
    triton_files.make_backend_folder(files, tmp_path / "backends")
    stub = tmp_path / "backends" / "python" / "triton_python_backend_stub"
    assert stub.stat().st_mode & 0o100
    assert stub.read_bytes() == files.stub.read_bytes()
    assert (tmp_path / "backends" / "lib" / f"libpython3.{sys.version_info.minor}.so.1.0").exists()


def test_no_libpython_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the interpreter and the system have no shared library, the error says what to install."""
    monkeypatch.setattr(triton_files, "_LIBPYTHON", "libpython9.99.so.1.0")
    with pytest.raises(StackError, match=r"needs libpython9\.99\.so\.1\.0, which is nowhere here: install it") as caught:
        triton_files.find_libpython()
    assert "\n" not in str(caught.value)


def test_no_wheel_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the `local` extra the error says so."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StackError, match="no Triton: install the `local` extra"):
        triton_files.find_triton()
