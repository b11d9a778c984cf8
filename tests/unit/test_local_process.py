"""Children: they end when told, never outlive their parent, and their last words are quoted."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.local.errors import StackError
from deploy.local.process import Child, ProcessId

_SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def eventually(condition: Callable[[], bool], within_s: float = 10) -> bool:
    """Whether the condition becomes true in time."""
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def number_in(file: Path) -> int:
    """The number that a process writes to a file, once it is there."""
    assert eventually(lambda: file.exists() and file.read_text().endswith("\n"))
    return int(file.read_text())


def test_stop_ends_the_child(tmp_path: Path) -> None:
    """After stop the process is gone; stopping again is harmless."""
    child = Child("sleeper", _SLEEP, tmp_path / "log")
    child.start()
    assert child.id is not None
    assert child.id.alive()
    child.stop()
    assert not child.id.alive()
    assert not child.running()
    child.stop()


def test_stop_kills_what_ignores_the_polite_signal(tmp_path: Path) -> None:
    """A child that ignores SIGTERM is killed after the grace period."""
    ready = tmp_path / "ready"
    stubborn = (
        f"import signal, time, pathlib; signal.signal(15, signal.SIG_IGN); pathlib.Path({str(ready)!r}).touch(); time.sleep(60)"
    )
    child = Child("stubborn", [sys.executable, "-c", stubborn], tmp_path / "log")
    child.start()
    assert eventually(ready.exists)
    child.stop(grace_s=0.2)
    assert child.id is not None
    assert not child.id.alive()


def test_stop_takes_grandchildren_along(tmp_path: Path) -> None:
    """A process that the child left running ends with it."""
    file = tmp_path / "pid"
    script = f"sleep 60 & echo $! > {file}; exec sleep 60"
    child = Child("parent", ["/bin/sh", "-c", script], tmp_path / "log")
    child.start()
    grandchild = ProcessId.of(number_in(file))
    assert grandchild is not None
    child.stop()
    assert eventually(lambda: not grandchild.alive())


def test_child_dies_with_a_killed_parent(tmp_path: Path) -> None:
    """SIGKILL leaves the parent no chance to clean up, and still the child ends."""
    file = tmp_path / "pid"
    program = f"""
import time, pathlib
from deploy.local.process import Child
child = Child("sleeper", {_SLEEP!r}, pathlib.Path({str(tmp_path / "log")!r}))
child.start()
pathlib.Path({str(file)!r}).write_text(f"{{child.id.pid}}\\n")
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", program])
    child = ProcessId.of(number_in(file))
    assert child is not None
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert eventually(lambda: not child.alive(), within_s=5)


def test_child_outlives_the_thread_that_asked_for_it(tmp_path: Path) -> None:
    """The kernel binds the parent-death signal to a thread; a passing thread's end must not end the child."""
    child = Child("sleeper", _SLEEP, tmp_path / "log")
    thread = threading.Thread(target=child.start)
    thread.start()
    thread.join()
    try:
        assert not eventually(lambda: not child.running(), within_s=0.5)
    finally:
        child.stop()


def test_death_at_start_is_told_with_its_reason(tmp_path: Path) -> None:
    """The one line has the status and the log line that speaks of an error; the log's end comes along."""
    script = "echo starting; echo 'error: no such model'; echo bye; exit 3"
    child = Child("Triton", ["/bin/sh", "-c", script], tmp_path / "log")
    child.start()
    with pytest.raises(StackError, match=r"Triton ended at start with status 3: error: no such model") as caught:
        child.wait_until(lambda: False, timeout_s=10)
    assert "\n" not in str(caught.value)
    assert caught.value.log_tail.splitlines()[-1].strip() == "bye"


def test_child_that_never_gets_ready_is_told(tmp_path: Path) -> None:
    """Waiting has an end."""
    child = Child("Kafka", _SLEEP, tmp_path / "log")
    child.start()
    try:
        with pytest.raises(StackError, match="Kafka was not ready after 0 s"):
            child.wait_until(lambda: False, timeout_s=0.2)
    finally:
        child.stop()


def test_missing_binary_is_told(tmp_path: Path) -> None:
    """A command that is not there is named."""
    child = Child("Kafka", ["/nowhere/java"], tmp_path / "log")
    child.start()
    with pytest.raises(StackError, match="/nowhere/java: No such file"):
        child.wait_until(lambda: False, timeout_s=10)


def test_reused_pid_is_not_mistaken() -> None:
    """A process with the same pid and another start time is another process: not alive to us, and not killed."""
    with subprocess.Popen(_SLEEP, start_new_session=True) as process:
        real = ProcessId.of(process.pid)
        assert real is not None
        recorded = ProcessId(real.pid, real.started - 1)
        assert not recorded.alive()
        recorded.kill_group()
        assert not eventually(lambda: not real.alive(), within_s=0.3)
        real.kill_group()
        assert eventually(lambda: not real.alive())


def test_own_process_is_alive() -> None:
    """This process, found by its pid, is alive; a pid that cannot be is none."""
    me = ProcessId.of(os.getpid())
    assert me is not None
    assert me.alive()
    assert ProcessId.of(2**30) is None
