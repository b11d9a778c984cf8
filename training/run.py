"""The folder beside a version in the making: after a crash the same command goes on from there. Gone with the version's end."""

import hashlib
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from training.architecture import Architecture
from training.checkpoint import Checkpoint
from training.distributed import processes
from training.examples import Examples
from training.train import Recipe
from training.version import FILES
from worker.errors import ModelError
from worker.versions import MANIFEST, read_manifest

_PACKAGES = Path(__file__).parents[1]


class Run:
    """Checkpoints of the networks that a version takes, in `<version>.run` beside it."""

    def __init__(self, out: Path) -> None:
        self._out = out.resolve()
        self._checkpoints: dict[str, Checkpoint] = {}
        self.folder = self._out.with_name(f"{self._out.name}.run")

    def sweep(self) -> None:
        """Away with what a killed run left: a half-written version, or the checkpoints of a whole one."""
        if not self.folder.is_dir():
            return
        if _whole(self._out):
            self.end()
        else:
            for name in (*FILES, MANIFEST):
                (self._out / name).unlink(missing_ok=True)

    def checkpoint(self, name: str, examples: Examples, seed: int, architecture: Architecture, recipe: Recipe) -> Checkpoint:
        """That of the network of this name, trained on these examples."""
        identity = {
            "data": data_of(examples),
            "recipe": repr((msgspec.to_builtins(architecture), asdict(recipe))),
            "seed": str(seed),
            "code version": _code(),
            "number of processes": str(processes()),
        }
        self._checkpoints[name] = Checkpoint(self.folder / f"{name}.safetensors", identity)
        return self._checkpoints[name]

    @property
    def curves(self) -> dict[str, list[float]]:
        """The losses of each network's steps."""
        return {name: checkpoint.losses for name, checkpoint in self._checkpoints.items()}

    def end(self) -> None:
        """The version is there: nothing is left of the run."""
        shutil.rmtree(self.folder, ignore_errors=True)


def data_of(examples: Examples) -> str:
    """The same for the same windows, labels, item vectors, feature spec and session policy."""
    arrays: list[npt.NDArray[Any]] = [examples.rows, examples.link, *vars(examples.labels).values()]
    windows = (examples.start, examples.stop, examples.first, examples.session, examples.started_ms)
    settings = repr((examples.spec, examples.policy)).encode()
    if examples.vectors is not None:
        arrays += [examples.vectors.buckets, examples.vectors.values]
    # As they lie in memory: copies would take as much again.
    return _sha256([settings, *(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data for array in (*arrays, *windows))])


@cache
def _code() -> str:
    """The same for the same sources and libraries, and so for the same arithmetic."""
    sources = sorted(path for package in ("training", "worker/contract") for path in (_PACKAGES / package).rglob("*.py"))
    libraries = f"torch {torch.__version__}, numpy {np.__version__}".encode()
    return _sha256([libraries, *(path.read_bytes() for path in sources)])


def _sha256(parts: Iterable[bytes | memoryview]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def _whole(version: Path) -> bool:
    try:
        read_manifest(version)
    except ModelError:
        return False
    return True
