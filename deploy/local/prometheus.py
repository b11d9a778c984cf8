"""Prometheus, where the machine has it: scrapes what the stack and the workers serve, by the repository's own rules."""

import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from deploy.local.errors import StackError
from deploy.local.ports import HOST
from deploy.local.process import Child

_RULES = Path(__file__).parents[1] / "prometheus"
_START_TIMEOUT_S = 30
_SCRAPE_INTERVAL_S = 5


def find_prometheus() -> Path | None:
    """The binary on the PATH, if any."""
    found = shutil.which("prometheus")
    return Path(found) if found else None


class PrometheusServer:
    """One Prometheus. Its jobs are the files in `directory`/targets, one a job, read again whenever they change.

    Args:
        targets: for each job its `host:port` addresses at the start.
    """

    name = "Prometheus"

    def __init__(self, directory: Path, log: Path, port: int, targets: Mapping[str, Sequence[str]]) -> None:
        self.url = f"http://{HOST}:{port}"
        self.child: Child | None = None
        self._directory = directory
        self._log = log
        self._port = port
        self._targets = targets

    def launch(self, progress: Callable[[str], None]) -> Child:
        """Writes the configuration and starts the process. Raises StackError when there is no binary."""
        binary = find_prometheus()
        if binary is None:
            raise StackError("no prometheus on the PATH: install it (Debian: apt-get install prometheus), or go without it")
        for job, addresses in self._targets.items():
            _write_targets(self._directory, job, addresses)
        config = write_configuration(self._directory, list(self._targets))
        self.child = Child(
            self.name,
            [
                binary,
                f"--config.file={config}",
                f"--storage.tsdb.path={self._directory / 'data'}",
                f"--web.listen-address={HOST}:{self._port}",
                "--storage.tsdb.retention.time=2d",
                "--log.level=warn",
            ],
            self._log,
        )
        self.child.start()
        return self.child

    def wait_ready(self) -> None:
        """Returns when Prometheus serves queries. Raises StackError."""
        assert self.child is not None
        self.child.wait_until(self._ready, _START_TIMEOUT_S)

    def stop(self) -> None:
        """Ends the process; what it recorded stays."""
        if self.child is not None:
            self.child.stop()

    def set_targets(self, job: str, addresses: Sequence[str]) -> None:
        """Sets the `host:port` addresses that a job scrapes; Prometheus follows within seconds."""
        _write_targets(self._directory, job, addresses)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def write_configuration(directory: Path, jobs: Sequence[str]) -> Path:
    """Writes prometheus.yml in `directory` for these jobs and the repository's rules. Returns its path."""
    path = directory / "prometheus.yml"
    # JSON is YAML, and needs no library to be written right.
    path.write_text(json.dumps(_configuration(directory.resolve(), jobs), indent=2))
    return path


def _write_targets(directory: Path, job: str, addresses: Sequence[str]) -> None:
    """In one step, so that Prometheus never reads half of it."""
    folder = directory / "targets"
    folder.mkdir(parents=True, exist_ok=True)
    staged = folder / f".{job}.tmp"
    staged.write_text(json.dumps([{"targets": list(addresses)}]))
    os.replace(staged, folder / f"{job}.json")


def _configuration(directory: Path, jobs: Sequence[str]) -> dict[str, object]:
    return {
        "global": {"scrape_interval": f"{_SCRAPE_INTERVAL_S}s", "evaluation_interval": f"{_SCRAPE_INTERVAL_S}s"},
        "rule_files": sorted(str(path) for path in _RULES.glob("*.rules.yml")),
        "scrape_configs": [
            {
                "job_name": job,
                "file_sd_configs": [{"files": [str(directory / "targets" / f"{job}.json")], "refresh_interval": "5s"}],
            }
            for job in jobs
        ],
    }
