"""Prometheus's configuration."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.local.prometheus import PrometheusServer, write_configuration


def test_targets_may_be_added_later(tmp_path: Path) -> None:
    """Each job reads a file, and setting its targets replaces that file."""
    server = PrometheusServer(tmp_path, tmp_path / "log", 9090, {"worker": []})
    server.set_targets("worker", ["127.0.0.1:9464"])
    server.set_targets("worker", ["127.0.0.1:9464", "127.0.0.1:9466"])
    config = json.loads(write_configuration(tmp_path, ["worker"]).read_text())
    (job,) = config["scrape_configs"]
    (targets,) = job["file_sd_configs"][0]["files"]
    assert json.loads(Path(targets).read_text()) == [{"targets": ["127.0.0.1:9464", "127.0.0.1:9466"]}]
    assert sorted(path.name for path in Path(targets).parent.iterdir()) == ["worker.json"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_accepts_the_configuration(tmp_path: Path) -> None:
    """Prometheus's own checker finds no fault, neither in the configuration nor in the rules that it names."""
    server = PrometheusServer(tmp_path, tmp_path / "log", 9090, {})
    server.set_targets("worker", ["127.0.0.1:9464"])
    path = write_configuration(tmp_path, ["worker"])
    answer = subprocess.run(["promtool", "check", "config", str(path)], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr
