"""When a broker is asked for more records: under load not at once, but a moment later for a larger batch.

A batch costs everybody who works on it a fixed part: the broker two writes, the worker a fold, the model server a question. Asked
at once a broker gives what the last millisecond brought of one partition, and half of all work would be such parts. Asked later
it gives what all partitions have by then, to be scored together.
"""

import time
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.protocol.fetch import FetchRequest

#: From one question to a broker to the next, at most. Half of it is what an event waits on average.
_LONGEST_S = 0.025
#: So long for each byte of an answer: what comes slower than a megabyte a second is asked for at once.
_S_PER_BYTE = 1e-6
#: An answer this large is part of a backlog, and more will be there already.
_BACKLOG_BYTES = 400_000


class Pace:
    """How long to wait before a broker is asked again, by its node id."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_s: dict[Any, float] = {}

    def asked(self, node: Any) -> Callable[[int], None]:
        """Note that a node is being asked. What is returned wants the bytes of the answer."""
        asked_s = self._clock()

        def answered(size: int) -> None:
            self._next_s[node] = asked_s + (min(size * _S_PER_BYTE, _LONGEST_S) if size < _BACKLOG_BYTES else 0.0)

        return answered

    def wait_s(self, node: Any) -> float:
        """In how many seconds the node may be asked; 0 is now."""
        return max(self._next_s.get(node, 0.0) - self._clock(), 0.0)


def pace(consumer: AIOKafkaConsumer) -> None:
    """From now on a started consumer waits before it asks. aiokafka has no setting for it: the broker can wait for it, but then
    partitions that have room meanwhile cannot be asked for.
    """
    client, fetcher, pace = consumer._client, consumer._fetcher, Pace()
    send, actions = client.send, fetcher._get_actions_per_node

    async def send_noting(node: Any, request: Any, **options: Any) -> Any:
        if not isinstance(request, FetchRequest):
            return await send(node, request, **options)
        answered = pace.asked(node)
        answer = await send(node, request, **options)
        answered(sum(len(partition[-1]) for _, partitions in answer.topics for partition in partitions))
        return answer

    def actions_in_time(assignment: Any) -> Any:
        fetches, resets, timeout_s, *others = actions(assignment)
        waits = {node: pace.wait_s(node) for node, _ in fetches}
        timeout_s = min([timeout_s, *filter(None, waits.values())])
        return [(node, request) for node, request in fetches if not waits[node]], resets, timeout_s, *others

    client.send, fetcher._get_actions_per_node = send_noting, actions_in_time
