"""A stack of a test module's own, where Triton may be killed and versions published without disturbing other tests."""

import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local.stack import LocalStack
from deploy.local.topics import create_topics, standard_topics
from worker.settings import KafkaSettings, ModelSettings, ScoringSettings, Settings, TopicSettings, TritonSettings


@contextmanager
def model_stack(directory: Path) -> Iterator[LocalStack]:
    """Kafka, and Triton with the shipped version."""
    with LocalStack(directory, with_prometheus=False) as stack:
        yield stack


def settings_for(stack: LocalStack) -> Settings:
    """Settings that lead to the stack, with topics of their own, which are made."""
    unique = secrets.token_hex(4)
    topics = TopicSettings(
        clicks=f"clicks-{unique}",
        scores=f"scores-{unique}",
        dead=f"dead-{unique}",
        outcomes=f"outcomes-{unique}",
        changelog=f"changelog-{unique}",
        control=f"control-{unique}",
    )
    create_topics(stack.addresses.kafka, standard_topics(topics))
    assert stack.triton is not None
    assert stack.addresses.triton_grpc is not None
    return Settings(
        kafka=KafkaSettings(bootstrap_servers=stack.addresses.kafka),
        topics=topics,
        triton=TritonSettings(url=stack.addresses.triton_grpc),
        # The machine may be busy with other tests; what is late is tested by itself.
        scoring=ScoringSettings(deadline_ms=5000),
        model=ModelSettings(repository=stack.triton.repository),
    )


def model_folder(settings: Settings) -> Path:
    return settings.model.repository / settings.model.name


def model_processes(stack: LocalStack) -> list[int]:
    """The processes in which this Triton's python backend runs models."""
    assert stack.triton is not None
    assert stack.triton.child is not None
    assert stack.triton.child.id is not None
    return [pid for pid in _descendants(stack.triton.child.id.pid) if b"triton_python_backend_stub" in _command(pid)]


def kill_triton(stack: LocalStack) -> None:
    """SIGKILL, as the kernel's out-of-memory killer would."""
    assert stack.triton is not None
    assert stack.triton.child is not None
    assert stack.triton.child.id is not None
    models = model_processes(stack)
    for pid in (stack.triton.child.id.pid, *models):
        os.kill(pid, signal.SIGKILL)


def start_triton_again(stack: LocalStack) -> None:
    """On the same address and repository. Returns before it is ready."""
    assert stack.triton is not None
    stack.triton.stop()
    stack.triton.launch(lambda _: None)


def _descendants(pid: int) -> list[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
    found, waiting = [], [pid]
    while waiting:
        children = [child for child, parent in parents.items() if parent in waiting]
        found += children
        waiting = children
    return found


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
