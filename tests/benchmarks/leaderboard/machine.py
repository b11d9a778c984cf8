"""What the figures of docs/learning.md were made on."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[3]
#: What a set came to, a file each.
RESULTS = ROOT / ".inkling" / "learning"
_LIBRARIES = ("torch", "lightgbm", "scikit-learn", "numpy", "scipy")


def machine() -> list[str]:
    """Day, revision, processor and versions."""
    cpu = next(line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line)
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    return [
        datetime.now(UTC).strftime("%Y-%m-%d"),
        f"revision {described or 'unknown'}",
        f"{cpu}, {os.cpu_count()} cores, one thread",
        f"Python {platform.python_version()}",
        *(f"{name} {version(name)}" for name in _LIBRARIES),
    ]
