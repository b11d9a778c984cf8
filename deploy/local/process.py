"""Child processes that cannot outlive their parent, and errors that quote their last words."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deploy.local.errors import StackError
from worker.exec_guard import guarded

_POLL_S = 0.05
_TAIL_LINES = 12
_REASON_LINES = 60
_REASON_LENGTH = 300
_ERROR = re.compile(r"error|exception|fatal|refused|in use", re.IGNORECASE)
# The parent-death signal is bound to the *thread* that forks, so every child is forked by this one, which ends with the process.
_FORKER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="forker")


@dataclass(frozen=True)
class ProcessId:
    """A pid with the process's start time in clock ticks since boot, so that a reused pid is never mistaken for it."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> "ProcessId | None":
        """The live process with this pid; None when there is none or when it is a zombie."""
        found = _ended_and_start(pid)
        return None if found is None or found[0] else cls(pid, found[1])

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return ProcessId.of(self.pid) == self

    def kill_group(self) -> None:
        """SIGKILL to the process group that it leads, also when it is gone and only others of the group are left.

        Harmless when none is left. While a group has members the kernel does not give its number to a new process.
        """
        found = _ended_and_start(self.pid)
        if found is not None and found[1] != self.started:
            return  # another process has the pid now
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def _ended_and_start(pid: int) -> tuple[bool, int] | None:
    """Whether it is a zombie, and when it started."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        threads = len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return None
    state, *fields = stat[stat.rindex(")") + 2 :].split()  # the command's name may hold spaces and brackets
    # A killed process looks like a zombie while other threads of it still end, and these hold its ports.
    return state in "ZX" and threads <= 1, int(fields[18])


class Child:
    """One server: started in a session of its own, logged to a file, stopped gracefully, and killed when its parent dies."""

    def __init__(self, name: str, command: Sequence[str | Path], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.log = log
        self._command = [str(part) for part in command]
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None
        self.id: ProcessId | None = None

    def start(self) -> None:
        """Forks and returns at once; the log is appended to. Raises OSError when the log cannot be written."""
        self._process = _FORKER.submit(self._fork).result()
        self.id = ProcessId.of(self._process.pid)

    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def wait_until(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Asks `ready` again and again until it is true.

        Raises:
            StackError: the child ended, or was not ready within `timeout_s` seconds; with what its log says.
        """
        end = time.monotonic() + timeout_s
        while not ready():
            if not self.running():
                status = self._process.returncode if self._process else None
                raise self.failure(f"ended at start with status {status}")
            if time.monotonic() > end:
                raise self.failure(f"was not ready after {timeout_s:.0f} s")
            time.sleep(_POLL_S)

    def failure(self, what: str) -> StackError:
        """An error that names the child, says `what` and why by the log, and carries the log's last lines."""
        return StackError(f"{self.name} {what}: {self._reason()} (log: {self.log})", self.log_tail())

    def log_tail(self, lines: int = _TAIL_LINES) -> str:
        """The last lines of the log, indented."""
        try:
            text = self.log.read_text(errors="replace")
        except OSError:
            return "    (no log)"
        return "\n".join(f"    {line}" for line in text.splitlines()[-lines:]) or "    (empty)"

    def _reason(self) -> str:
        """The last line of the log's end that speaks of an error, else its last line."""
        lines = [line.strip() for line in self.log_tail(_REASON_LINES).splitlines()]
        errors = [line for line in lines if _ERROR.search(line)]
        return (errors or lines)[-1][:_REASON_LENGTH]

    def stop(self, grace_s: float = 10.0) -> None:
        """SIGTERM, then SIGKILL to the whole group after `grace_s` seconds. Returns when it is gone; may be called twice."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(grace_s)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # the group outlives its leader when a grandchild was left
        self._process.wait()

    def _fork(self) -> subprocess.Popen[bytes]:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                guarded(self._command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=None if self._env is None else dict(self._env),
                start_new_session=True,
            )
