"""`inkling stack` where no stack runs."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from worker.cli_stack import _scrape, app
from worker.errors import InklingError
from worker.settings import MetricsSettings


def test_base_install_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the deploy package every command ends with one clear line."""
    monkeypatch.setitem(sys.modules, "deploy.local", None)
    for command in ("up", "run", "down", "status", "env"):
        result = CliRunner().invoke(app, [command, "--dir", str(tmp_path)])
        assert isinstance(result.exception, InklingError)
        assert str(result.exception).startswith("the local stack needs a clone of the repository and the `local` extra")


def test_status_of_no_stack(tmp_path: Path) -> None:
    """Nothing running is an answer, not an error."""
    result = CliRunner().invoke(app, ["status", "--dir", str(tmp_path), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"running": False, "directory": str(tmp_path), "phase": "absent"}


def test_env_of_no_stack_is_an_error(tmp_path: Path) -> None:
    """`eval` must not go on without addresses: nothing on stdout, and a line that says what to do."""
    result = CliRunner().invoke(app, ["env", "--dir", str(tmp_path)])
    assert isinstance(result.exception, InklingError)
    assert "inkling stack up" in str(result.exception)
    assert result.stdout == ""


def test_down_without_a_stack_makes_no_directory(tmp_path: Path) -> None:
    """Ending nothing changes nothing."""
    result = CliRunner().invoke(app, ["down", "--dir", str(tmp_path / "none")])
    assert result.exit_code == 0
    assert not (tmp_path / "none").exists()


def test_wipe_removes_only_what_the_stack_wrote(tmp_path: Path) -> None:
    """A directory shared with other files keeps those."""
    (tmp_path / "kafka" / "data").mkdir(parents=True)
    (tmp_path / "logs").mkdir()
    (tmp_path / "mine.txt").write_text("keep")
    assert CliRunner().invoke(app, ["down", "--dir", str(tmp_path), "--wipe"]).exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt", "stack.lock"]


@pytest.mark.parametrize("arguments", [["--port-base", "80"], ["--port-base", "x"], ["--partitions", "0"], ["--nonsense"]])
def test_wrong_usage_is_status_2(tmp_path: Path, arguments: list[str]) -> None:
    """Flags are checked before anything is started."""
    assert CliRunner().invoke(app, ["up", "--dir", str(tmp_path), *arguments]).exit_code == 2


def test_all_workers_of_a_supervisor_are_scraped() -> None:
    """One for each partition at the most, and never the outcome join in their place."""
    assert _scrape(MetricsSettings(), 3) == {
        "worker": ["127.0.0.1:9464", "127.0.0.1:9465", "127.0.0.1:9466"],
        "labels": ["127.0.0.1:9463"],
    }
    assert _scrape(MetricsSettings(labels_port=9465), 3)["worker"] == ["127.0.0.1:9464", "127.0.0.1:9466"]
    assert _scrape(MetricsSettings(port=65534), 8)["worker"] == ["127.0.0.1:65534", "127.0.0.1:65535"]
    assert _scrape(MetricsSettings(port=0, labels_port=0), 3) == {"worker": [], "labels": []}
