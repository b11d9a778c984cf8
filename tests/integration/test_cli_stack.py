"""`inkling stack` in the background, as a user has it."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deploy.local.ports import HOST, free_ports, is_free
from deploy.local.state import read_state
from tests.integration.test_stack import eventually
from tests.support.add_one import ask_add_one, write_add_one
from tests.support.stack_left import assert_nothing_left
from worker.cli_stack import app
from worker.errors import InklingError


def stack(command: str, directory: Path, *arguments: str) -> Result:
    """Runs one command of `inkling stack`."""
    return CliRunner().invoke(app, [command, "--dir", str(directory), *arguments])


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A stack's directory; whatever runs there in the end is ended."""
    yield tmp_path / "stack"
    stack("down", tmp_path / "stack")


def test_up_status_env_down(directory: Path, tmp_path: Path) -> None:
    """`up` returns when all is ready and outlives its command; a second `up` changes nothing; `down` leaves nothing."""
    models = write_add_one(tmp_path / "models")
    up = stack("up", directory, "--models", str(models), "--no-prometheus", "--partitions", "2", "--json")
    assert up.exit_code == 0, up.stderr
    addresses = json.loads(up.stdout)
    ask_add_one(addresses["triton_grpc"])

    status = json.loads(stack("status", directory, "--json").stdout)
    assert status["running"]
    assert status["addresses"] == addresses
    assert {name: part["alive"] for name, part in status["parts"].items()} == {"kafka": True, "triton": True}

    assert json.loads(stack("up", directory, "--json").stdout) == addresses
    assert json.loads(stack("status", directory, "--json").stdout) == status

    assert stack("env", directory).stdout.splitlines() == [
        f"export INKLING_KAFKA__BOOTSTRAP_SERVERS={addresses['kafka']}",
        f"export INKLING_TRITON__URL={addresses['triton_grpc']}",
        f"export INKLING_MODEL__REPOSITORY={addresses['model_repository']}",
    ]

    state = read_state(directory)
    assert state is not None
    assert stack("down", directory, "--wipe").exit_code == 0
    assert eventually(lambda: not state.owner.alive(), within_s=5)
    assert_nothing_left(state)
    assert sorted(path.name for path in directory.iterdir()) == ["stack.lock"]


def test_part_that_dies_is_started_again(directory: Path) -> None:
    """Killing Kafka under a running stack brings it back at the same address."""
    assert stack("up", directory, "--no-triton", "--no-prometheus").exit_code == 0
    before = read_state(directory)
    assert before is not None
    os.kill(before.children["Kafka"].pid, signal.SIGKILL)

    def back() -> bool:
        now = read_state(directory)
        return now is not None and now.children["Kafka"] != before.children["Kafka"] and not is_free(before.ports[0])

    assert eventually(back, within_s=60)


def test_taken_port_is_one_line(directory: Path) -> None:
    """The error names the port and the flag, and nothing was started."""
    base = free_ports(1)[0]
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind((HOST, base))
        squatter.listen()
        up = stack("up", directory, "--no-triton", "--no-prometheus", "--port-base", str(base))
    assert isinstance(up.exception, InklingError)
    assert str(up.exception).startswith(f"port {base} is taken")
    assert "--port-base" in str(up.exception)
    assert json.loads(stack("status", directory, "--json").stdout)["running"] is False


def test_missing_model_is_one_line(directory: Path, tmp_path: Path) -> None:
    """A repository without a version says how to get one, or to go without."""
    (tmp_path / "models").mkdir()
    up = stack("up", directory, "--models", str(tmp_path / "models"))
    assert isinstance(up.exception, InklingError)
    assert "no model version in" in str(up.exception)
    assert "inkling train" in str(up.exception)
