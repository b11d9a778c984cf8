"""Tests for worker/cli_models.py: what it reads from the repository, without Kafka."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.unit.version_folder import MODEL, make_version
from worker.cli import app
from worker.errors import DeliveryError, InklingError, ModelError


@pytest.fixture(autouse=True)
def _repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(_: object) -> None:
        raise DeliveryError("Kafka is away")

    monkeypatch.setenv("INKLING_MODEL__REPOSITORY", str(tmp_path))
    monkeypatch.setattr("worker.control.read_pointer", away)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["models", *arguments])


def test_versions_are_listed_without_kafka(tmp_path: Path) -> None:
    """What scores is not known then, and that is said on stderr."""
    make_version(tmp_path, "1", metrics={"held_out": {"purchase": {"session": {"log_loss": 0.25}}}})
    make_version(tmp_path, "12", parent="1")
    result = run("list", "--json")
    assert result.exit_code == 0
    assert [(line["version"], line["parent"], line["role"]) for line in json.loads(result.stdout)] == [
        ("1", None, ""),
        ("12", "1", ""),
    ]
    assert "Kafka is away" in result.stderr
    table = run("list").stdout
    assert "0.25000" in table


def test_show_has_the_whole_manifest(tmp_path: Path) -> None:
    """And its checksum, by which a pointer names it."""
    make_version(tmp_path, "3", seed=42)
    shown = json.loads(run("show", "3", "--json").stdout)
    assert (shown["version"], shown["seed"]) == ("3", 42)
    assert len(shown["manifest_sha256"]) == 64


def test_show_refuses_a_damaged_version(tmp_path: Path) -> None:
    """It reads every file."""
    folder = make_version(tmp_path, "3")
    (folder / "model.onnx").write_bytes(b"")
    assert isinstance(run("show", "3").exception, ModelError)


def test_diff_names_what_differs_and_nothing_else(tmp_path: Path) -> None:
    """With the value of either side."""
    make_version(tmp_path, "1", metrics={"a": {"b": 1}}, seed=1)
    make_version(tmp_path, "2", metrics={"a": {"b": 2}}, seed=1)
    assert json.loads(run("diff", "1", "2", "--json").stdout) == {"version": ["1", "2"], "metrics.a.b": [1, 2]}


def test_a_repository_that_is_not_there_is_named() -> None:
    """With the setting that leads to it."""
    error = run("list").exception
    assert isinstance(error, InklingError)
    assert MODEL in str(error)
    assert "INKLING_MODEL__REPOSITORY" in str(error)
