"""What a local stack leaves behind: processes, ports, shared memory. There should be nothing."""

from pathlib import Path

from deploy.local.ports import is_free
from deploy.local.state import StackState


def session_members(leader: int) -> list[int]:
    """Living processes of the session that a part leads: itself, and Triton's python process."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] not in "ZX":
            found.append(int(entry.name))
    return found


def regions_of(state: StackState) -> list[Path]:
    """Shared memory of a stack's Triton. The owner may have other stacks, which have other ports."""
    owner, (_, _, _, grpc, _, _) = state.owner, state.ports
    return list(Path("/dev/shm").glob(f"inkling-{owner.pid}-{owner.started}-{grpc}-*"))


def assert_nothing_left(state: StackState) -> None:
    """No process, port or shared memory of a stack, given its state while it ran."""
    assert {name: session_members(process.pid) for name, process in state.children.items()} == {
        name: [] for name in state.children
    }
    assert [port for port in state.ports if not is_free(port)] == []
    assert regions_of(state) == []
