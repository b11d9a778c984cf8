"""The supervisor with plain processes: they are started again, given up, and never left behind."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka.errors import KafkaConnectionError

from deploy.local.process import ProcessId
from worker.errors import ConfigurationError, InklingError
from worker.member import Member
from worker.restarts import Exit
from worker.settings import KafkaSettings, MetricsSettings, Settings
from worker.supervisor import Command, Supervisor, supervise

_SLEEP = ["/bin/sleep", "60"]


class Crew:
    """Children that note their pids in a folder, and a record of whose partitions were handed over."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.handed_over: list[int] = []

    def command(self, script: str = "exec sleep 60") -> Command:
        return lambda member: ["/bin/sh", "-c", f"echo $$ >> {self.folder}/{member.number}; {script}"]

    async def hand_over(self, member: Member) -> int:
        self.handed_over.append(member.number)
        return 1

    def lives(self, number: int) -> list[int]:
        """The pids that the worker of this number has had."""
        file = self.folder / str(number)
        return [int(pid) for pid in file.read_text().split()] if file.exists() else []


@pytest.fixture
def crew(tmp_path: Path) -> Crew:
    return Crew(tmp_path)


async def _until(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        await asyncio.sleep(0.02)


def _gone(pids: list[int]) -> bool:
    return not any(ProcessId.of(pid) for pid in pids)


async def test_a_killed_worker_is_started_again_after_its_partitions_were_handed_over(crew: Crew) -> None:
    """The others go on as they are, and all end when told."""
    stop = asyncio.Event()
    running = asyncio.create_task(Supervisor(3, crew.command(), crew.hand_over).run(stop))
    await _until(lambda: all(crew.lives(number) for number in range(3)))
    os.kill(crew.lives(1)[0], signal.SIGKILL)
    await _until(lambda: crew.handed_over == [1])
    assert len(crew.lives(1)) == 1
    await _until(lambda: len(crew.lives(1)) == 2)
    stop.set()
    await asyncio.wait_for(running, 5)
    assert [len(crew.lives(number)) for number in range(3)] == [1, 2, 1]
    assert _gone([pid for number in range(3) for pid in crew.lives(number)])
    # Those that were told to end may have been about to join.
    assert sorted(crew.handed_over) == [0, 1, 1, 2]


async def test_a_kafka_that_is_away_does_not_keep_a_worker_from_its_restart(tmp_path: Path) -> None:
    """Then the session's timeout hands over."""

    async def hand_over(_: Member) -> int:
        raise KafkaConnectionError("away")

    crew = Crew(tmp_path)
    stop = asyncio.Event()
    running = asyncio.create_task(Supervisor(1, crew.command("exit 1"), hand_over).run(stop))
    await _until(lambda: len(crew.lives(0)) == 2)
    stop.set()
    await asyncio.wait_for(running, 5)


async def test_a_pause_ends_when_all_are_told_to_end(crew: Crew) -> None:
    """A worker that waits for its restart is not started for that, nor waited for."""
    stop = asyncio.Event()
    running = asyncio.create_task(Supervisor(1, crew.command("exit 1"), crew.hand_over).run(stop))
    await _until(lambda: crew.handed_over == [0])
    stop.set()
    await asyncio.wait_for(running, 0.5)
    assert len(crew.lives(0)) == 1


@pytest.mark.parametrize("status", [Exit.MISCONFIGURED, Exit.REFUSED])
async def test_what_no_restart_mends_ends_all_with_the_workers_own_words(crew: Crew, status: Exit) -> None:
    """The last line that it printed, once, and no worker is left."""
    script = f'[ "$0" = 1 ] && echo noise && echo "the setting X is wrong" && exit {int(status)}; exec sleep 60'
    command = crew.command(script)
    with pytest.raises(InklingError, match=r"^the setting X is wrong$"):
        await asyncio.wait_for(
            Supervisor(2, lambda member: [*command(member), str(member.number)], crew.hand_over).run(asyncio.Event()), 10
        )
    assert _gone(crew.lives(0) + crew.lives(1))
    assert crew.handed_over == []


async def test_told_to_end_workers_may_finish(crew: Crew) -> None:
    """SIGTERM, and all the time that they take."""
    done = crew.folder / "done"
    stop = asyncio.Event()
    script = f"trap 'sleep 0.5; echo done >> {done}; exit 0' TERM; touch {crew.folder}/ready; while :; do sleep 0.05; done"
    running = asyncio.create_task(Supervisor(2, crew.command(script), crew.hand_over).run(stop))
    await _until(lambda: bool(crew.lives(0) and crew.lives(1)))
    await asyncio.sleep(0.2)  # until the traps are set
    stop.set()
    await asyncio.wait_for(running, 5)
    assert done.read_text() == "done\ndone\n"


def _program(crew: Crew) -> "subprocess.Popen[bytes]":
    """A supervisor of children that ignore SIGTERM, as a process of its own."""
    code = f"""
from functools import partial
from worker.service import run_service
from worker.settings import Settings
from worker.supervisor import supervise

def command(member):
    return ["/bin/sh", "-c", f"trap '' TERM INT; echo $$ >> {crew.folder}/{{member.number}}; while :; do sleep 0.05; done"]

run_service(partial(supervise, processes=2, command=command))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 20
    while not (crew.lives(0) and crew.lives(1)):
        assert time.monotonic() < end
        time.sleep(0.05)
    return process


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
async def test_the_second_signal_ends_all_at_once(crew: Crew, first: signal.Signals) -> None:
    """Also workers that do not listen."""
    with _program(crew) as process:
        process.send_signal(first)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 128 + signal.SIGTERM
    await _until(lambda: _gone(crew.lives(0) + crew.lives(1)))


async def test_workers_do_not_outlive_a_killed_supervisor(crew: Crew) -> None:
    """SIGKILL leaves it no chance to end them."""
    with _program(crew) as process:
        process.kill()
    await _until(lambda: _gone(crew.lives(0) + crew.lives(1)))


def test_each_worker_has_a_client_id_and_a_port_of_its_own() -> None:
    """The client id tells whose membership a dead one's was, among all supervisors of the group."""
    shared = Settings(kafka=KafkaSettings(client_id="shop"), metrics=MetricsSettings(port=9000))
    members = [Member("1f2e", number) for number in range(3)]
    assert [Member.parse(str(member)) for member in members] == members
    mine = [member.settings(shared) for member in members]
    assert [settings.kafka.client_id for settings in mine] == ["shop.1f2e.0", "shop.1f2e.1", "shop.1f2e.2"]
    assert [settings.metrics.port for settings in mine] == [9000, 9001, 9002]
    assert mine[2].topics == shared.topics


def test_without_metrics_there_is_no_port() -> None:
    """0 turns them off for all."""
    assert Member("1f2e", 3).settings(Settings(metrics=MetricsSettings(port=0))).metrics.port == 0


async def test_ports_that_do_not_exist_are_refused() -> None:
    """Before anything is started."""
    settings = Settings(metrics=MetricsSettings(port=65535))
    with pytest.raises(ConfigurationError, match="INKLING_METRICS__PORT"):
        await supervise(settings, asyncio.Event(), 2, lambda member: _SLEEP)
