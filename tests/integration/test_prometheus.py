"""Prometheus as a part of the stack."""

import json
import shutil
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from deploy.local.ports import HOST, free_ports
from deploy.local.prometheus import PrometheusServer
from tests.integration.test_stack import eventually

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")


def query(url: str, path: str) -> Any:
    """What Prometheus answers to an API request."""
    with urllib.request.urlopen(f"{url}/api/v1/{path}", timeout=5) as answer:
        return json.load(answer)["data"]


def test_scrapes_what_it_is_told_later(tmp_path: Path) -> None:
    """A target that is added while Prometheus runs is scraped; here it scrapes itself."""
    (port,) = free_ports(1)
    server = PrometheusServer(tmp_path, tmp_path / "log", port, {"worker": []})
    server.launch(lambda step: None)
    try:
        server.wait_ready()
        assert query(server.url, "targets")["activeTargets"] == []
        server.set_targets("worker", [f"{HOST}:{port}"])
        assert eventually(lambda: bool(query(server.url, 'query?query=up{job="worker"}')["result"]), within_s=30)
        (sample,) = query(server.url, 'query?query=up{job="worker"}')["result"]
        assert sample["value"][1] == "1"
    finally:
        server.stop()
