"""What a stack writes down about itself: who runs it, its children, its addresses. One JSON file, replaced in one step."""

import os
import time
from pathlib import Path
from typing import Literal

import msgspec

from deploy.local.process import ProcessId

_FILE = "stack.json"
_KILL_TIMEOUT_S = 5.0


class Addresses(msgspec.Struct, frozen=True):
    """Where each part answers; None for a part that was not asked for or is not installed."""

    kafka: str  # bootstrap, host:port
    model_repository: str  # the folder that Triton serves
    triton_grpc: str | None = None  # host:port
    triton_http: str | None = None  # URL
    triton_metrics: str | None = None  # host:port
    prometheus: str | None = None  # URL


class StackState(msgspec.Struct):
    """`phase` is what the owner last said; the owner may be dead since."""

    owner: ProcessId
    phase: Literal["starting", "ready", "failed", "stopped"] = "starting"
    ports: list[int] = []
    children: dict[str, ProcessId] = {}
    addresses: Addresses | None = None
    steps: list[str] = []
    error: str | None = None
    log_tail: str = ""

    def running(self) -> bool:
        """Whether it is up or coming up: its owner lives and has not ended it."""
        return self.phase in ("starting", "ready") and self.owner.alive()

    def dead_parts(self) -> list[str]:
        """Names of the parts whose process is gone."""
        return [name for name, process in self.children.items() if not process.alive()]


def read_state(directory: Path) -> StackState | None:
    """The state in a stack's directory; None when there is none or it is not readable as one."""
    try:
        return msgspec.json.decode((directory / _FILE).read_bytes(), type=StackState)
    except (OSError, msgspec.MsgspecError):
        return None


def write_state(directory: Path, state: StackState) -> None:
    """Replaces the state in one step, so that a reader never sees half of it."""
    staged = directory / f".{_FILE}.tmp"
    staged.write_bytes(msgspec.json.format(msgspec.json.encode(state)))
    os.replace(staged, directory / _FILE)


def sweep(directory: Path) -> list[str]:
    """Kills what a crashed owner of this directory left running. Only for a caller that holds the directory's lock.

    Returns the names of the parts that were killed.
    """
    state = read_state(directory)
    if state is None:
        return []
    left = [name for name, process in state.children.items() if process.alive()]
    for process in state.children.values():
        process.kill_group()
    end = time.monotonic() + _KILL_TIMEOUT_S
    while any(process.alive() for process in state.children.values()) and time.monotonic() < end:
        time.sleep(0.01)
    return left
