"""Bugs in the order of publishing and in who may write."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from aiokafka.errors import KafkaError

from worker import batch as walk
from worker import follow, pipeline
from worker.delivery import Delivery
from worker.lane import Lane
from worker.owner import Owner
from worker.pipeline import Pipeline
from worker.record_batch import Records

_publish = Delivery.publish


@contextmanager
def ack_before_produce() -> Iterator[None]:
    """What was taken counts as finished."""

    def finished(self: Pipeline) -> dict[Any, int]:
        return {tp: lane.taken for tp, lane in self._lanes.items()}

    with patch.object(Pipeline, "finished", finished):
        yield


@contextmanager
def commit_before_state() -> Iterator[None]:
    """A batch counts as finished while it is being published."""

    async def keep(self: Lane[Any, Any], steps: Any) -> None:
        while True:
            batch = await self._published.get()
            self.finished = batch.next_offset
            await steps.keep([batch])
            if self.finished == self.taken:
                self.idle.set()

    with patch.object(Lane, "_keep", keep):
        yield


@contextmanager
def state_before_scores() -> Iterator[None]:
    """The changelog says that a batch is done before its scores are confirmed."""

    steps = pipeline._Steps
    publish, keep = steps.publish, steps.keep

    async def turned_round(self: Any, batches: Any) -> None:
        await keep(self, batches)
        await publish(self, batches)

    async def nothing(self: Any, batches: Any) -> None:
        return

    with patch.object(steps, "publish", turned_round), patch.object(steps, "keep", nothing):
        yield


@contextmanager
def scores_not_awaited() -> Iterator[None]:
    """Scores are sent, and nobody looks whether they arrived."""

    async def send(self: Delivery, topic: str, partition: int, packs: Iterable[Any]) -> None:
        for pack in packs:
            await self._records.send_batch(pack, topic, partition=partition)

    with patch.object(Delivery, "_send", send):
        yield


@contextmanager
def failed_batch_skipped() -> Iterator[None]:
    """A batch that Kafka does not confirm is left out."""
    send = Delivery._send

    async def forgiving(self: Delivery, topic: str, partition: int, packs: Iterable[Any]) -> None:
        try:
            await send(self, topic, partition, packs)
        except KafkaError:
            return

    with patch.object(Delivery, "_send", forgiving):
        yield


@contextmanager
def packs_not_in_order() -> Iterator[None]:
    """All packs of a batch are sent at once, so that one that is sent again falls behind the others."""

    async def send(self: Delivery, topic: str, partition: int, packs: Iterable[Any]) -> None:
        await asyncio.gather(*[await self._records.send_batch(pack, topic, partition=partition) for pack in packs])

    with patch.object(Delivery, "_send", send):
        yield


@contextmanager
def dead_letters_not_sent() -> Iterator[None]:
    """Records that are no events vanish."""

    async def publish(self: Delivery, partition: int, scores: Any, dead: Any, copies: Any) -> None:
        await _publish(self, partition, scores, [], copies)

    with patch.object(Delivery, "publish", publish):
        yield


@contextmanager
def zombies_not_shut_out() -> Iterator[None]:
    """State is written without a transaction: what an earlier owner sends late lands behind newer state."""
    start = Owner.__init__

    def plain(self: Owner, settings: Any, partition: int, connect: Any) -> None:
        def without(transactional_id: str, **arguments: Any) -> Any:
            producer = connect(**arguments)
            producer.room = 1_000_000
            return producer

        start(self, settings, partition, without)

    with patch.object(Owner, "__init__", plain):
        yield


@contextmanager
def state_in_pieces() -> Iterator[None]:
    """Every changed session is a transaction of its own, so that a crash leaves half a batch."""
    write = Owner.write

    async def piecemeal(self: Owner, state: Records, *others: Any) -> None:
        for change in state:
            await write(self, Records.of([change]), *others)
            others = ()

    with patch.object(Owner, "write", piecemeal):
        yield


@contextmanager
def restored_before_owned() -> Iterator[None]:
    """State is read back while the earlier owner can still write: it is shut out only by the first write."""
    opening, writing = Owner.open, Owner.write

    async def later(self: Owner) -> None:
        return

    async def write(self: Owner, *written: Any) -> None:
        if self._producer._epoch < 0:
            await opening(self)
        await writing(self, *written)

    with patch.object(Owner, "open", later), patch.object(Owner, "write", write):
        yield


@contextmanager
def revisions_not_published() -> Iterator[None]:
    """What stands behind a late event keeps the score it had."""
    fold = walk.fold_batch

    def forgetful(*batch: Any) -> walk.FoldedBatch:
        return fold(*batch)._replace(revisions=[])

    with patch.object(pipeline, "fold_batch", forgetful):
        yield


@contextmanager
def copies_not_published() -> Iterator[None]:
    """Clicks of users stay with the visitor."""

    async def publish(self: Delivery, partition: int, scores: Any, dead: Any, copies: Any) -> None:
        await _publish(self, partition, scores, dead, [])

    with patch.object(Delivery, "publish", publish):
        yield


@contextmanager
def login_forgets_what_led_to_it() -> Iterator[None]:
    """Only clicks with a user are copied."""
    copies = follow.copies

    with patch.object(follow, "copies", lambda followed, earlier, place: copies(followed, {}, place)):
        yield


@contextmanager
def logins_remembered_by_the_process() -> Iterator[None]:
    """What went to a user once is not sent again, even if it was lost with a crash."""
    copies = follow.copies
    sent: set[tuple[str, int]] = set()

    def once(followed: Sequence[follow.Followed], earlier: Any, place: str) -> list[Any]:
        fresh = [one for one in followed if (place, one.offset) not in sent]
        sent.update((place, one.offset) for one in followed)
        return copies(fresh, earlier, place)

    with patch.object(follow, "copies", once):
        yield


MUTANTS = (
    revisions_not_published,
    copies_not_published,
    login_forgets_what_led_to_it,
    logins_remembered_by_the_process,
    ack_before_produce,
    commit_before_state,
    state_before_scores,
    scores_not_awaited,
    failed_batch_skipped,
    packs_not_in_order,
    dead_letters_not_sent,
    zombies_not_shut_out,
    state_in_pieces,
    restored_before_owned,
)
