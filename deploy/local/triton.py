"""Triton Inference Server itself, with its python backend on this interpreter's packages."""

import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from deploy.local.ports import HOST
from deploy.local.process import Child
from deploy.local.shm import region_prefix, remove_regions
from deploy.local.triton_files import environment, find_triton, make_backend_folder
from worker.versions import list_versions

Probe = Callable[[str], None]
_START_TIMEOUT_S = 90  # a version's weights are read and its graph is optimised
_STOP_TIMEOUT_S = 10
_THREADS = min(2, os.cpu_count() or 1)


class TritonServer:
    """One Triton that serves every model with a version found in `repository`, under explicit model control.

    Args:
        directory: for the backend folder, made anew at each start.
        probe: is given the gRPC address when Triton says it is ready, and raises when an inference is wrong. Triton can say
            ready while its python process is dead or answers nonsense.
    """

    name = "Triton"

    def __init__(
        self, directory: Path, log: Path, repository: Path, http: int, grpc: int, metrics: int, probe: Probe | None = None
    ) -> None:
        self.http_url = f"http://{HOST}:{http}"
        self.grpc_address = f"{HOST}:{grpc}"
        self.metrics_address = f"{HOST}:{metrics}"
        self.repository = repository
        self.child: Child | None = None
        self._backends = directory / "backends"
        self._log = log
        self._ports = {"http": http, "grpc": grpc, "metrics": metrics}
        self._probe = probe
        self._region_prefix = region_prefix(f"{grpc}-")

    def launch(self, progress: Callable[[str], None]) -> Child:
        """Lays out the backend and starts the process. Raises StackError."""
        files = find_triton()
        make_backend_folder(files, self._backends)
        self.repository.mkdir(parents=True, exist_ok=True)
        models = found_models(self.repository)
        progress(f"starting Triton with {', '.join(models) or 'no model yet'}")
        self.child = Child(self.name, self._command(files.server, models), self._log, env=environment(files, self._backends))
        self.child.start()
        return self.child

    def wait_ready(self) -> None:
        """Returns when Triton is ready and the probe is content. Raises StackError."""
        assert self.child is not None
        self.child.wait_until(self._ready, _START_TIMEOUT_S)
        if self._probe is not None:
            try:
                self._probe(self.grpc_address)
            except Exception as error:  # whatever the probe calls a failure, a wrong answer must not go unseen
                raise self.child.failure(f"says it is ready but failed the test inference ({error})") from error

    def stop(self) -> None:
        """Ends the server and its python processes, and removes their shared memory."""
        if self.child is not None:
            self.child.stop(_STOP_TIMEOUT_S)
        remove_regions(self._region_prefix)

    def _command(self, server: Path, models: list[str]) -> list[str]:
        return [
            str(server),
            f"--model-repository={self.repository.resolve()}",
            f"--backend-directory={self._backends.resolve()}",
            "--model-control-mode=explicit",
            *(f"--load-model={name}" for name in models),
            *(f"--{kind}-address={HOST}" for kind in self._ports),
            *(f"--{kind}-port={port}" for kind, port in self._ports.items()),
            "--allow-gpu-metrics=false",
            f"--backend-config=python,shm-region-prefix-name={self._region_prefix}",
            f"--http-thread-count={_THREADS}",
            "--model-load-thread-count=1",
            f"--exit-timeout-secs={_STOP_TIMEOUT_S // 2}",
        ]

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.http_url}/v2/health/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def found_models(repository: Path) -> list[str]:
    """Names of the models in a repository with at least one numbered version."""
    if not repository.is_dir():
        return []
    return sorted(model.name for model in repository.iterdir() if list_versions(model))


def add_missing_versions(source: Path, repository: Path) -> None:
    """Copies models and versions that `repository` does not have yet out of `source`; what it has is never touched.

    A version arrives under a temporary name and is renamed, so that a half copied one is never served.

    Raises:
        StackError: the files cannot be copied.
    """
    for name in found_models(source):
        target = repository / name
        target.mkdir(parents=True, exist_ok=True)
        for entry in (source / name).iterdir():
            if (target / entry.name).exists() or entry.name.startswith(".") or entry.name == "__pycache__":
                continue
            staged = target / f".{entry.name}.copying"
            if entry.is_dir():
                shutil.rmtree(staged, ignore_errors=True)
                shutil.copytree(entry, staged, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(entry, staged)
            staged.rename(target / entry.name)
