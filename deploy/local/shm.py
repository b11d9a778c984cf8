"""Shared memory regions of Triton's python backend, which a killed server leaves behind."""

import os
import re
from pathlib import Path

from deploy.local.process import ProcessId

_SHM = Path("/dev/shm")
_NAME = re.compile(r"inkling-(\d+)-(\d+)-")


def region_prefix(label: str) -> str:
    """A prefix for the regions of a server started by this process: names its owner, so that leftovers can be told."""
    owner = ProcessId.of(os.getpid())
    assert owner is not None
    return f"inkling-{owner.pid}-{owner.started}-{label}"


def remove_regions(prefix: str) -> None:
    """Removes the regions with this prefix."""
    for region in _SHM.glob(f"{prefix}*"):
        region.unlink(missing_ok=True)


def remove_orphaned_regions() -> None:
    """Removes every region of ours whose owner is gone, whichever stack it belonged to."""
    for region in _SHM.glob("inkling-*"):
        owner = _NAME.match(region.name)
        if owner and not ProcessId(int(owner[1]), int(owner[2])).alive():
            region.unlink(missing_ok=True)
