"""What a stack writes down, and what is done with it after a crash."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.local.errors import StackError
from deploy.local.lock import DirectoryLock
from deploy.local.process import ProcessId
from deploy.local.shm import region_prefix, remove_orphaned_regions, remove_regions
from deploy.local.state import Addresses, StackState, read_state, sweep, write_state

_SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
_NOBODY = ProcessId(2**22 + 1, 1)  # above the largest pid


def test_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Nothing is lost on the way through the file."""
    addresses = Addresses(kafka="127.0.0.1:1", model_repository="/m", triton_grpc="127.0.0.1:2")
    state = StackState(_NOBODY, "ready", [1, 2], {"Kafka": ProcessId(7, 8)}, addresses, ["step"])
    write_state(tmp_path, state)
    assert read_state(tmp_path) == state


@pytest.mark.parametrize("content", [None, b"", b'{"owner": 3}'])
def test_no_state_is_no_stack(tmp_path: Path, content: bytes | None) -> None:
    """A file that is missing, empty or strange is the same as none."""
    if content is not None:
        (tmp_path / "stack.json").write_bytes(content)
    assert read_state(tmp_path) is None


def test_ready_state_of_a_dead_owner_is_not_running(tmp_path: Path) -> None:
    """A crashed stack does not count as up."""
    assert not StackState(_NOBODY, "ready").running()


def test_sweep_kills_what_a_crash_left(tmp_path: Path) -> None:
    """A recorded child that still lives is killed and named."""
    with subprocess.Popen(_SLEEP, start_new_session=True) as left:
        child = ProcessId.of(left.pid)
        assert child is not None
        write_state(tmp_path, StackState(_NOBODY, "ready", children={"Kafka": child}))
        assert sweep(tmp_path) == ["Kafka"]
        assert left.wait(5) == -9


def test_sweep_kills_the_rest_of_a_group_whose_leader_is_gone(tmp_path: Path) -> None:
    """Triton's python process does not stay behind when Triton itself is dead."""
    script = "sleep 60 & echo $!; read until_told"
    command = ["/bin/sh", "-c", script]
    with subprocess.Popen(command, start_new_session=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as leader:
        assert leader.stdin is not None
        assert leader.stdout is not None
        member = ProcessId.of(int(leader.stdout.readline()))
        recorded = ProcessId.of(leader.pid)
        assert member is not None
        assert recorded is not None
        leader.stdin.close()
        leader.wait(5)
        write_state(tmp_path, StackState(_NOBODY, "ready", children={"Triton": recorded}))
        assert sweep(tmp_path) == []
        assert leader.stdout.read() == ""  # the member closes the pipe when it ends, a moment before the kernel says so
        give_up = time.monotonic() + 5
        while member.alive() and time.monotonic() < give_up:
            time.sleep(0.01)
        assert not member.alive()


def test_sweep_spares_a_process_that_has_the_pid_by_chance(tmp_path: Path) -> None:
    """Pids are used again; the start time tells."""
    with subprocess.Popen(_SLEEP, start_new_session=True) as stranger:
        real = ProcessId.of(stranger.pid)
        assert real is not None
        write_state(tmp_path, StackState(_NOBODY, "ready", children={"Kafka": ProcessId(real.pid, real.started - 1)}))
        assert sweep(tmp_path) == []
        assert stranger.poll() is None
        stranger.kill()


def test_one_stack_a_directory(tmp_path: Path) -> None:
    """The second one is refused in one line that says how to end the first; after that it may."""
    first, second = DirectoryLock(tmp_path), DirectoryLock(tmp_path)
    first.acquire()
    with pytest.raises(StackError, match=r"runs in .* already: `inkling stack down --dir .*another --dir"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()


def test_shared_memory_of_the_dead_is_removed_and_that_of_the_living_stays() -> None:
    """Regions are told apart by their owner, so a running stack beside is not harmed."""
    mine = Path("/dev/shm") / f"{region_prefix('test')}-region"
    orphan = Path("/dev/shm") / f"inkling-{_NOBODY.pid}-{_NOBODY.started}-test-region"
    try:
        mine.touch()
        orphan.touch()
        remove_orphaned_regions()
        assert mine.exists()
        assert not orphan.exists()
        remove_regions(region_prefix("test"))
        assert not mine.exists()
    finally:
        mine.unlink(missing_ok=True)
        orphan.unlink(missing_ok=True)
