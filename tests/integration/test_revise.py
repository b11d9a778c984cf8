"""Scores made anew after late events, on genuine Kafka."""

import asyncio

from tests.support.constant_worker import run_constant_worker
from tests.support.topics import read, read_scores, send, wait_committed
from worker.audit.run import Options, audit
from worker.click_log import KafkaClicks
from worker.contract.codec import encode
from worker.contract.events import ClickEvent
from worker.settings import Settings

_T0 = 1_760_000_000_000


def _clicks(names: str, *at_s: int) -> list[tuple[bytes, bytes]]:
    return [(b"ann", encode(ClickEvent(name, _T0 + 1000 * s, "ann", "view"))) for name, s in zip(names, at_s, strict=True)]


async def test_a_late_event_mends_earlier_scores(settings: Settings) -> None:
    """Of two workers, one after the other: the second has events of the first from the changelog, ids from the topic."""
    sent = 0
    for clicks in (_clicks("abc", 0, 20, 30), _clicks("xy", 10, 25)):
        sent += await send(settings, clicks)
        stop = asyncio.Event()
        worker = asyncio.create_task(run_constant_worker(settings, stop))
        await wait_committed(settings, sent)
        stop.set()
        await worker
    scores = {score.event_id + score.score_id.partition(":r")[2]: score for score in await read_scores(settings)}
    assert {name: score.position for name, score in scores.items()} == {
        "a": 1, "b": 2, "c": 3, "x": 4, "b1": 3, "c1": 4, "y": 5, "c2": 5,
    }  # fmt: skip
    report = await audit(settings, Options())
    assert report.ok, report.checks
    assert report.counts["revised scores"] == 3


async def test_clicks_are_read_by_offset(settings: Settings) -> None:
    """Far apart or next to each other; what was never there or no event is left out."""
    far = [(b"ann", value) for n in range(4, 1204) for _, value in _clicks("d", n)]
    await send(settings, [*_clicks("abc", 0, 1, 2), (b"ann", b"{"), *far])
    partition = (await read(settings, settings.topics.clicks))[0].partition
    clicks = KafkaClicks(settings)
    for offsets, expected in ({0, 2, 3, 1203}, {0: "a", 2: "c", 1203: "d"}), ({1}, {1: "b"}), (set[int](), {}):
        found = await clicks.events(partition, offsets)
        assert {offset: event.event_id for offset, event in found.items()} == expected
    await clicks.close()
