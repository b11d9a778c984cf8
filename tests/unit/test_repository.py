"""Tests for training/repository.py."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.unit.version_folder import MODEL, make_version
from training.repository import prune, publishing, staging, take_in, take_out, write_file
from worker.errors import ModelError
from worker.versions import list_versions, open_version


def fill(staged: Path, tmp_path: Path) -> None:
    """A sound version in a staging folder, made elsewhere."""
    made = make_version(tmp_path / "elsewhere", "1")
    shutil.copytree(made, staged, dirs_exist_ok=True)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_staged_version_is_taken_in_under_the_next_number(tmp_path: Path) -> None:
    """Its manifest says that number; nothing of the staging stays."""
    folder = tmp_path / MODEL
    make_version(tmp_path, "1")
    make_version(tmp_path, "9")
    with staging(folder) as staged:
        fill(staged, tmp_path)
        assert take_in(folder, staged) == "10"
    assert open_version(folder, "10").manifest.version == "10"
    assert names(folder) == ["1", "10", "9"]


def test_an_unsound_version_is_never_taken_in(tmp_path: Path) -> None:
    """A flipped byte in the graph: no number is given."""
    folder = tmp_path / MODEL
    with staging(folder) as staged:
        fill(staged, tmp_path)
        (staged / "model.onnx").write_bytes(b"b graph" * 100)
        with pytest.raises(ModelError, match=r"model\.onnx"):
            take_in(folder, staged)
    assert names(folder) == []


def test_a_half_built_version_is_no_version(tmp_path: Path) -> None:
    """While it is staged it is not listed, and after a failure it is gone."""
    folder = tmp_path / MODEL

    def build() -> None:
        with staging(folder) as staged:
            (staged / "model.onnx").write_bytes(b"half")
            assert list_versions(folder) == []
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        build()
    assert names(folder) == []


def test_what_a_killed_publisher_left_is_swept(tmp_path: Path) -> None:
    """By the next one; the folder of one that lives is let be."""
    folder = tmp_path / MODEL
    script = f"""
        import pathlib, sys, time
        from training.repository import staging
        with staging(pathlib.Path({str(folder)!r})) as staged:
            (staged / "model.onnx").write_bytes(b"half")
            print("staged", flush=True)
            time.sleep(60)
    """
    publisher = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE)
    try:
        assert publisher.stdout is not None
        assert publisher.stdout.readline() == b"staged\n"
        with staging(folder):
            assert len(list(folder.glob(".staged-*/model.onnx"))) == 1, "it lives"
    finally:
        os.kill(publisher.pid, signal.SIGKILL)
        publisher.wait()
        publisher.stdout.close()
    assert len(list(folder.glob(".staged-*/model.onnx"))) == 1
    with staging(folder):
        assert list(folder.glob(".staged-*/model.onnx")) == []
    assert names(folder) == []


async def test_one_publisher_at_a_time(tmp_path: Path) -> None:
    """The second waits for the first, and gives up with a reason."""
    folder = tmp_path / MODEL
    async with publishing(folder):
        with pytest.raises(ModelError, match="another publisher"):
            async with publishing(folder, wait_s=0.1):
                pass
        waiting = asyncio.ensure_future(publishing(folder).__aenter__())
        await asyncio.sleep(0.3)
        assert not waiting.done()
    await asyncio.wait_for(waiting, 5)


def test_a_version_is_taken_out_whole(tmp_path: Path) -> None:
    """Nothing of it stays."""
    make_version(tmp_path, "1")
    make_version(tmp_path, "2")
    take_out(tmp_path / MODEL, "2")
    assert names(tmp_path / MODEL) == ["1"]


def test_old_versions_go_but_not_those_that_are_needed(tmp_path: Path) -> None:
    """The newest stay, and champion and predecessor however old they are."""
    for number in range(1, 8):
        make_version(tmp_path, str(number))
    assert prune(tmp_path / MODEL, keep=3, needed={"2", None}) == ["1", "3", "4"]
    assert list_versions(tmp_path / MODEL) == ["2", "5", "6", "7"]


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    """And no scrap stays beside it."""
    path = tmp_path / "config.pbtxt"
    path.write_text("old")
    write_file(path, "new")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["config.pbtxt"]


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    """The repository's path leads to something else."""
    (tmp_path / MODEL).write_text("")
    with pytest.raises(ModelError, match="cannot write"), staging(tmp_path / MODEL):
        pass


def test_the_manifest_keeps_all_else(tmp_path: Path) -> None:
    """Only the number changes."""
    folder = tmp_path / MODEL
    make_version(tmp_path, "1")
    with staging(folder) as staged:
        fill(staged, tmp_path)
        before = json.loads((staged / "manifest.json").read_text())
        take_in(folder, staged)
    after = json.loads((folder / "2" / "manifest.json").read_text())
    assert after == before | {"version": "2"}
