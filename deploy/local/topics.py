"""The topics that Inkling uses, and making them."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from deploy.local.errors import StackError
from worker.kafka import admin_client
from worker.settings import KafkaSettings, TopicSettings

_CHANGELOG_MAX_BYTES = 24 * 1024 * 1024  # a batch of dirty sessions is one request


@dataclass(frozen=True)
class TopicSpec:
    """A topic to make: its name, its number of partitions, and Kafka's topic settings."""

    name: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)


def standard_topics(names: TopicSettings) -> list[TopicSpec]:
    """Every topic of Inkling. All but the control topic have `names.partitions` partitions: they are read side by side."""
    plain = (names.clicks, names.scores, names.dead, names.outcomes)
    compact = {"cleanup.policy": "compact"}
    return [
        *(TopicSpec(name, names.partitions, {"cleanup.policy": "delete"}) for name in plain),
        TopicSpec(names.changelog, names.partitions, compact | {"max.message.bytes": str(_CHANGELOG_MAX_BYTES)}),
        TopicSpec(names.control, 1, compact),
    ]


def create_topics(address: str, specs: Iterable[TopicSpec]) -> None:
    """Makes the topics that are not there yet and returns when each partition has a leader.

    Raises:
        StackError: one is there with another number of partitions, or Kafka refuses.
    """
    wanted = list(specs)
    try:
        asyncio.run(_create(address, wanted))
    except (KafkaError, OSError, TimeoutError) as error:
        raise StackError(f"cannot make the topics on {address}: {error or type(error).__name__}") from error


async def _create(address: str, specs: Sequence[TopicSpec]) -> None:
    async with admin_client(KafkaSettings(bootstrap_servers=address)) as admin:
        answer = await admin.create_topics(
            [NewTopic(spec.name, spec.partitions, 1, topic_configs=dict(spec.config)) for spec in specs]
        )
        for name, code, *message in answer.topic_errors:
            error = for_code(code)
            if code != 0 and error is not TopicAlreadyExistsError:
                raise StackError(
                    f"Kafka refuses to make the topic {name}: {message[0] if message and message[0] else error.__name__}"
                )
        await asyncio.wait_for(_until_led(admin, specs), timeout=30)


async def _until_led(admin: AIOKafkaAdminClient, specs: Sequence[TopicSpec]) -> None:
    while True:
        found = {topic["topic"]: topic["partitions"] for topic in await admin.describe_topics([spec.name for spec in specs])}
        if all(found[spec.name] and all(partition["leader"] >= 0 for partition in found[spec.name]) for spec in specs):
            break
        await asyncio.sleep(0.05)
    for spec in specs:
        if len(found[spec.name]) != spec.partitions:
            raise StackError(
                f"the topic {spec.name} has {len(found[spec.name])} partitions and {spec.partitions} are asked for: "
                "give --partitions as before, or begin anew with `inkling stack down --wipe`"
            )
