"""What the figures of docs/learning.md were made on."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks.report import cpu, revision

ROOT = Path(__file__).parents[3]
#: What a set came to, a file each.
RESULTS = ROOT / ".inkling" / "learning"
#: What the simulated shops came to.
SHOPS = RESULTS / "shops.json"
_LIBRARIES = ("torch", "lightgbm", "scikit-learn", "numpy", "scipy")


def machine() -> list[str]:
    """Day, revision, processor and versions."""
    return [
        datetime.now(UTC).strftime("%Y-%m-%d"),
        f"revision {revision()}",
        f"{cpu()}, {os.cpu_count()} cores, one thread",
        f"Python {platform.python_version()}",
        *(f"{name} {version(name)}" for name in _LIBRARIES),
    ]
