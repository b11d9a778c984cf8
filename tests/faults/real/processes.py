"""Worker processes that are killed, paused and watched. None outlives the run, however that ends."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from deploy.local.process import guarded
from tests.benchmarks.process import environment
from tests.faults.real.failpoints import VARIABLE, Armed
from worker.settings import Settings

_POLL_S = 0.05


class WorkerProcess:
    """One run of `tests.faults.real.armed`."""

    def __init__(self, settings: Settings, log: Path, armed: Armed | None, with_model: bool, delay_ms: float, bug: str) -> None:
        self.log = log
        self.counts = log.with_suffix(".json")
        variables = {
            "FAULT_SCORER": "model" if with_model else "constant",
            "FAULT_DELAY_MS": f"{delay_ms:g}",
            "FAULT_COUNTS": str(self.counts),
            "FAULT_BUG": bug,
        }
        if armed is not None:
            variables[VARIABLE] = str(armed)
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                guarded([sys.executable, "-m", "tests.faults.real.armed"]),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**environment(settings), **variables},
                start_new_session=True,
            )

    @property
    def status(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll()

    @property
    def has_joined(self) -> bool:
        """Whether the group has given it an assignment, be it an empty one."""
        return "partitions assigned" in self.said

    @property
    def is_stopped(self) -> bool:
        """Whether it is stopped by a signal."""
        if self.status is not None:
            return False
        stat = Path(f"/proc/{self._process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    @property
    def peak_mb(self) -> int:
        """The most memory that it has had, while it runs."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) // 1024

    @property
    def said(self) -> str:
        """Its log."""
        return self.log.read_text(errors="replace")

    def send(self, what: signal.Signals) -> None:
        """A signal, if it still runs."""
        if self.status is None:
            os.kill(self._process.pid, what)

    async def ended(self, within_s: float) -> int:
        """Wait for its end. Raises TimeoutError."""
        async with asyncio.timeout(within_s):
            while (status := self.status) is None:  # noqa: ASYNC110  # a process sets no event
                await asyncio.sleep(_POLL_S)
        return status

    async def stop(self, within_s: float = 30.0) -> int:
        """SIGTERM, and wait. Raises TimeoutError."""
        self.send(signal.SIGTERM)
        return await self.ended(within_s)

    def destroy(self) -> None:
        """Leave nothing of it behind."""
        if self.status is None:
            self._process.kill()
        self._process.wait()
