"""The local stack with real processes: starting, stopping, failing, crashing."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError

from deploy.local.errors import StackError
from deploy.local.stack import LocalStack
from deploy.local.state import StackState, read_state
from deploy.local.topics import TopicSpec, create_topics
from tests.support.add_one import ask_add_one, write_add_one
from tests.support.stack_left import assert_nothing_left, regions_of, session_members
from worker.settings import TopicSettings


def kafka_alone(directory: Path) -> LocalStack:
    """The quickest stack."""
    return LocalStack(directory, with_triton=False, with_prometheus=False)


def eventually(condition: Callable[[], bool], within_s: float) -> bool:
    """Whether the condition becomes true in time."""
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def send(address: str, topic: str, value: bytes) -> None:
    """One record, confirmed."""

    async def send_it() -> None:
        async with AIOKafkaProducer(bootstrap_servers=address, max_request_size=16 * 1024 * 1024) as producer:
            await producer.send_and_wait(topic, value, key=b"k")

    asyncio.run(send_it())


def first_record(address: str, topic: str) -> bytes | None:
    """The value of the topic's first record."""

    async def read() -> bytes | None:
        async with AIOKafkaConsumer(topic, bootstrap_servers=address, auto_offset_reset="earliest") as consumer:
            return (await asyncio.wait_for(consumer.getone(), 10)).value

    return asyncio.run(read())


def test_data_and_addresses_outlive_a_stop(tmp_path: Path) -> None:
    """Stopping leaves no process or port; the next start has the same addresses and the records of before."""
    with kafka_alone(tmp_path) as stack:
        stack.create_topics([TopicSpec("kept", 1)])
        send(stack.addresses.kafka, "kept", b"hello")
        before = stack.addresses
        state = read_state(tmp_path)
    assert state is not None
    assert_nothing_left(state)
    with kafka_alone(tmp_path) as stack:
        assert stack.addresses == before
        assert first_record(stack.addresses.kafka, "kept") == b"hello"


def test_two_stacks_side_by_side(tmp_path: Path) -> None:
    """Two directories, started at the same moment, are two stacks: each has its own records."""
    stacks = [kafka_alone(tmp_path / name) for name in ("one", "two")]
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda stack: stack.start(), stacks))
        for number, stack in enumerate(stacks):
            stack.create_topics([TopicSpec("same-name", 1)])
            send(stack.addresses.kafka, "same-name", b"%d" % number)
        assert [first_record(stack.addresses.kafka, "same-name") for stack in stacks] == [b"0", b"1"]
    finally:
        for stack in stacks:
            stack.stop()


def test_second_stack_in_one_directory_is_refused(tmp_path: Path) -> None:
    """The one that runs is not disturbed, and its state not overwritten."""
    with kafka_alone(tmp_path) as stack:
        with pytest.raises(StackError, match=r"a stack runs in .* already"):
            kafka_alone(tmp_path).start()
        stack.create_topics([TopicSpec("still-there", 1)])
        state = read_state(tmp_path)
        assert state is not None
        assert state.phase == "ready"


def test_only_the_changelog_takes_large_records(kafka: str, topics: TopicSettings) -> None:
    """Ten megabytes go into the changelog at once, and are refused by the topic beside it."""
    send(kafka, topics.changelog, b"x" * 10_000_000)
    with pytest.raises(MessageSizeTooLargeError):
        send(kafka, topics.clicks, b"x" * 10_000_000)


def test_topic_with_other_partitions_is_told(kafka: str, topics: TopicSettings) -> None:
    """Asking for another number of partitions than there are is an error, not a silent difference."""
    with pytest.raises(StackError, match=rf"{topics.clicks} has 4 partitions and 9 are asked for: give --partitions as before"):
        create_topics(kafka, [TopicSpec(topics.clicks, 9)])


def test_triton_serves_a_model_right(tmp_path: Path) -> None:
    """A model is copied, loaded and answers right; its clone is not written to; nothing is left afterwards."""
    models = write_add_one(tmp_path / "models")
    with LocalStack(tmp_path / "stack", model_repository=models, with_prometheus=False, probe=ask_add_one) as stack:
        assert stack.addresses.triton_grpc is not None
        ask_add_one(stack.addresses.triton_grpc)
        state = read_state(tmp_path / "stack")
        assert state is not None
        assert len(session_members(state.children["Triton"].pid)) == 2
        assert regions_of(state) != []
    assert_nothing_left(state)
    assert sorted(path.name for path in (models / "add_one" / "1").iterdir()) == ["model.py"]


def test_wrong_answer_at_start_ends_the_stack(tmp_path: Path) -> None:
    """Triton says ready, the test inference says no: the stack is not up, the reason is told, the log quoted, nothing left."""
    states: list[StackState] = []

    def probe(address: str) -> None:
        state = read_state(tmp_path / "stack")
        assert state is not None
        states.append(state)
        raise ValueError("2 is not 3")

    models = write_add_one(tmp_path / "models")
    with pytest.raises(StackError, match=r"failed the test inference \(2 is not 3\)") as caught:
        LocalStack(tmp_path / "stack", model_repository=models, with_prometheus=False, probe=probe).start()
    assert "Started GRPCInferenceService" in caught.value.log_tail
    assert_nothing_left(states[0])


def test_model_that_cannot_be_loaded_is_told(tmp_path: Path) -> None:
    """The reason that Triton logs is in the one line."""
    models = write_add_one(tmp_path / "models", code="import a_module_that_is_nowhere")
    with pytest.raises(StackError, match=r"Triton ended at start with status 1: .*a_module_that_is_nowhere") as caught:
        LocalStack(tmp_path / "stack", model_repository=models, with_prometheus=False).start()
    assert "\n" not in str(caught.value)
    state = read_state(tmp_path / "stack")
    assert state is not None
    assert state.phase == "failed"
    assert_nothing_left(state)


def test_full_disk_is_told_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kafka on a full disk fails in strange ways, so it is not even tried."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10 * 2**20}))
    with pytest.raises(StackError, match=r"only 10 MB free on the disk of .*choose another --dir"):
        kafka_alone(tmp_path).start()


def test_killed_owner_leaves_nothing_for_long(tmp_path: Path) -> None:
    """After SIGKILL of the owner its servers die within seconds, and the next start in the directory finds a clean place."""
    models = write_add_one(tmp_path / "models")
    program = f"""
from pathlib import Path
from deploy.local.stack import LocalStack
with LocalStack(Path({str(tmp_path / "stack")!r}), model_repository=Path({str(models)!r}), with_prometheus=False):
    print("up", flush=True)
    input()
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        owner.kill()
    state = read_state(tmp_path / "stack")
    assert state is not None
    assert state.phase == "ready"
    assert not state.running()
    assert eventually(lambda: not any(process.alive() for process in state.children.values()), within_s=5)
    with LocalStack(tmp_path / "stack", with_triton=False, with_prometheus=False) as stack:
        assert int(stack.addresses.kafka.rpartition(":")[2]) == state.ports[0]
        assert regions_of(state) == []
        assert session_members(state.children["Triton"].pid) == []


def test_stack_told_to_end_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    """SIGTERM in the middle of a start is obeyed at once and in order."""
    models = write_add_one(tmp_path / "models")
    command = [sys.executable, "-c", "from worker.cli_stack import app; app()", "run", "--dir", str(tmp_path / "stack")]
    run = subprocess.Popen([*command, "--models", str(models)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert eventually(lambda: bool((found := read_state(tmp_path / "stack")) and "Triton" in found.children), within_s=30)
    state = read_state(tmp_path / "stack")
    assert state is not None
    assert state.phase == "starting"
    os.kill(run.pid, signal.SIGTERM)
    _, errors = run.communicate(timeout=20)
    assert run.returncode == 0, errors
    assert_nothing_left(state)
