import asyncio
from types import SimpleNamespace
from typing import Any

from aiokafka.protocol.fetch import FetchRequest

from worker.pace import _BACKLOG_BYTES, _LONGEST_S, Pace, pace


class _Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_node_that_gave_little_is_asked_at_once() -> None:
    """A few events a second never wait."""
    clock = _Clock()
    paced = Pace(clock)
    assert paced.wait_s(1) == 0
    answered = paced.asked(1)
    clock.now_s += 0.005
    answered(400)
    assert paced.wait_s(1) == 0


def test_the_more_it_gave_the_later_it_is_asked_up_to_a_bound() -> None:
    """The wait counts from the question, so that what comes at a steady rate comes at steady times."""
    clock = _Clock()
    paced = Pace(clock)
    waits = []
    for size in (0, 5_000, 10_000, 50_000, _BACKLOG_BYTES - 1):
        paced.asked(1)(size)
        waits.append(round(paced.wait_s(1), 6))
    assert waits == [0, 0.005, 0.01, _LONGEST_S, _LONGEST_S]
    clock.now_s += 0.02
    assert 0 < paced.wait_s(1) < 0.006
    assert paced.wait_s(2) == 0, "another node"


def test_a_backlog_is_read_without_a_wait() -> None:
    """And ends a wait that was."""
    paced = Pace(_Clock())
    paced.asked(1)(50_000)
    assert paced.wait_s(1) > 0
    paced.asked(1)(_BACKLOG_BYTES)
    assert paced.wait_s(1) == 0


def _consumer(sizes: dict[int, int]) -> Any:
    """What `pace` knows of a consumer; each node's answers have so many bytes."""

    async def send(node: int, _: Any) -> Any:
        return SimpleNamespace(topics=[("clicks", [(0, 0, 9, 9, [], bytes(sizes[node]))])])

    fetches = [(node, f"fetch of {node}") for node in sizes]
    actions = SimpleNamespace(_get_actions_per_node=lambda _: (fetches, {}, 0.2, False, []))
    return SimpleNamespace(_client=SimpleNamespace(send=send), _fetcher=actions)


async def test_only_the_node_that_gave_much_has_to_wait() -> None:
    """Its request is left out, and the fetcher looks again when it may be asked."""
    consumer = _consumer({1: 20_000, 2: 0})
    pace(consumer)
    assert consumer._fetcher._get_actions_per_node(None)[0] == [(1, "fetch of 1"), (2, "fetch of 2")]
    request = FetchRequest(20, 1, 1_000_000, 0, [], rack_id="")
    await asyncio.gather(*(consumer._client.send(node, request) for node in (1, 2)))
    fetches, resets, timeout_s, *others = consumer._fetcher._get_actions_per_node(None)
    assert fetches == [(2, "fetch of 2")]
    assert 0 < timeout_s <= 0.02
    assert (resets, others) == ({}, [False, []])
    await asyncio.sleep(timeout_s + 0.001)
    assert [node for node, _ in consumer._fetcher._get_actions_per_node(None)[0]] == [1, 2]


async def test_other_requests_do_not_count() -> None:
    """A heartbeat says nothing of how much there is to fetch."""
    consumer = _consumer({1: 20_000})
    pace(consumer)
    await consumer._client.send(1, "heartbeat")
    assert [node for node, _ in consumer._fetcher._get_actions_per_node(None)[0]] == [1]
