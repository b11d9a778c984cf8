"""Workers as processes of their own, so that they can be measured and killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from worker.settings import Settings

#: The environment that the peers we compare with are installed in.
PEER_PYTHON = Path(os.environ.get("BENCH_PEER_PYTHON", Path(__file__).parents[2] / ".venv-bench/bin/python"))
_STOP_S = 20.0


@contextmanager
def running(command: list[str], log: Path, environment: dict[str, str] | None = None) -> "Iterator[subprocess.Popen[Any]]":
    """The process of a command, ended afterwards whatever happens. Its output goes to `log`."""
    with log.open("ab") as file, subprocess.Popen(command, stdout=file, stderr=file, env=environment) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(_STOP_S)
                except subprocess.TimeoutExpired:
                    process.kill()


def module(name: str, *arguments: str) -> list[str]:
    """The command that runs one of our modules."""
    return [sys.executable, "-m", name, *arguments]


def environment(settings: Settings) -> dict[str, str]:
    """The settings as a worker of its own process reads them."""
    groups = settings.model_dump(
        mode="json", include={"kafka", "topics", "session", "state", "triton", "scoring", "model", "worker", "metrics"}
    )
    named = {
        f"INKLING_{group}__{field}".upper(): str(value)
        for group, fields in groups.items()
        for field, value in fields.items()
        if value is not None
    }
    return {**os.environ, **named}
