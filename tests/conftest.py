"""Fixtures with genuine Kafka and Triton on free ports. Each is started once a session, and only when a test asks for it."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.stack import LocalStack
from deploy.local.state import read_state
from deploy.local.topics import create_topics, standard_topics
from tests.support.stack_left import assert_nothing_left
from worker.settings import KafkaSettings, Settings, TopicSettings, WorkerSettings

_HERE = Path(__file__).parent
#: These start servers and processes of their own: never two at a time.
_WITH_SERVERS = tuple(_HERE / name for name in ("e2e", "faults", "integration"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes run the tests, one of them has all that start servers."""
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in _WITH_SERVERS):
            item.add_marker(pytest.mark.xdist_group("servers"))


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bootstrap address of a Kafka without topics."""
    yield from (started.addresses.kafka for started in _started(tmp_path_factory.mktemp("kafka"), with_triton=False))


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A Kafka with the standard topics and a Triton that serves a copy of model_repo/, as far as that has versions."""
    for started in _started(tmp_path_factory.mktemp("stack"), with_triton=True):
        started.create_topics(standard_topics(TopicSettings()))
        yield started


@pytest.fixture
def topic_names() -> TopicSettings:
    """Topic names that no other test uses; not made yet."""
    unique = secrets.token_hex(4)
    return TopicSettings(
        clicks=f"clicks-{unique}",
        scores=f"intent-scores-{unique}",
        dead=f"clicks-dead-{unique}",
        outcomes=f"intent-outcomes-{unique}",
        changelog=f"sessions-changelog-{unique}",
        control=f"model-control-{unique}",
    )


@pytest.fixture
def topics(kafka: str, topic_names: TopicSettings) -> TopicSettings:
    """`topic_names`, made on `kafka` with four partitions each (the control topic with one)."""
    create_topics(kafka, standard_topics(topic_names))
    return topic_names


@pytest.fixture
def settings(kafka: str, topics: TopicSettings) -> Settings:
    """Settings of a worker with topics and a group of its own."""
    return Settings(
        kafka=KafkaSettings(bootstrap_servers=kafka),
        topics=topics,
        worker=WorkerSettings(group=f"group-{topics.clicks}", max_batch=64, commit_interval_s=0.2, session_timeout_s=1.5),
    )


def _started(directory: Path, with_triton: bool) -> Iterator[LocalStack]:
    """A running stack; afterwards a check that nothing of it is left."""
    with LocalStack(directory, with_triton=with_triton, with_prometheus=False) as stack:
        yield stack
        state = read_state(directory)
    assert state is not None
    assert_nothing_left(state)
