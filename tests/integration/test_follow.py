"""Users' own sequences, on genuine Kafka: what led to a login is in them, and what happens on another device."""

import asyncio
from collections import defaultdict

import pytest

from tests.support.constant_worker import run_constant_worker
from tests.support.topics import read, read_scores, send, wait_committed
from worker.audit.run import Options, audit
from worker.contract.codec import encode
from worker.contract.events import ClickEvent, ScoreEvent
from worker.settings import Settings

_T0 = 1_760_000_000_000


def _click(name: str, at_s: int, visitor: str, user: str | None = None) -> tuple[bytes, bytes]:
    return visitor.encode(), encode(ClickEvent(name, _T0 + 1000 * at_s, visitor, "view", user_id=user))


#: A phone browses, logs in, logs out; then a laptop that was anonymous logs in as the same user, and somebody else on the phone.
_CLICKS = [
    *(_click(f"p{n}", n, "phone") for n in range(3)),
    *(_click(f"p{n}", n, "phone", "ann") for n in range(3, 5)),
    _click("p5", 5, "phone"),
    *(_click(f"l{n}", n, "laptop") for n in range(10, 12)),
    _click("l12", 12, "laptop", "ann"),
    _click("p13", 13, "phone", "bob"),
]


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
async def test_users_have_sequences_of_their_own(settings: Settings, delivery: str) -> None:
    """From two visitors, each with what led to its login; the visitors' own stay as they are, and the audit knows what is due."""
    update = {"session": settings.session.model_copy(update={"follow_users": True}),
              "worker": settings.worker.model_copy(update={"delivery": delivery})}  # fmt: skip
    settings = settings.model_copy(update=update)
    stop = asyncio.Event()
    worker = asyncio.create_task(run_constant_worker(settings, stop))
    for start in range(0, len(_CLICKS), 3):  # a login and what leads to it come in different batches
        await send(settings, _CLICKS[start : start + 3])
        await asyncio.sleep(0.3)
    copies = 5 + 3 + 2
    await wait_committed(settings, len(_CLICKS) + copies)
    stop.set()
    await worker
    sequences: defaultdict[str, list[ScoreEvent]] = defaultdict(list)
    for score in sorted(await read_scores(settings), key=lambda score: score.position):
        sequences[score.visitor_id].append(score)
    assert {visitor: [score.event_id for score in scores] for visitor, scores in sequences.items()} == {
        "phone": ["p0", "p1", "p2", "p3", "p4", "p5", "p13"],
        "laptop": ["l10", "l11", "l12"],
        "user:ann": ["p0", "p1", "p2", "p3", "p4", "l10", "l11", "l12"],
        "user:bob": ["p5", "p13"],
    }
    assert all(len({score.session_id for score in scores}) == 1 for scores in sequences.values())
    report = await audit(settings, Options())
    assert report.ok, report.checks
    assert report.counts["copies for users"] == copies
    headers = [dict(record.headers) for record in await read(settings, settings.topics.clicks) if record.headers]
    assert len(headers) == copies
