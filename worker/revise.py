"""Scores made anew after a late event: which clicks they are about, and how they are written."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from worker import metrics
from worker.batch import FoldedBatch
from worker.contract.clicks import in_quotes
from worker.contract.events import ClickEvent
from worker.contract.features import ModelInputs, encode_rows
from worker.contract.packed import key_of
from worker.contract.revision import Revision
from worker.record_batch import Records
from worker.scoring.base import Scores
from worker.scoring.lines import Scored, score_lines
from worker.settings import Settings


class RevisedPart(NamedTuple):
    """B revisions to be scored at once."""

    revisions: Sequence[Revision]
    event_ids: list[str]
    timestamps_ms: npt.NDArray[np.int64]  # [B] of the late events' records
    inputs: ModelInputs


def revised_parts(batch: FoldedBatch, clicks: Mapping[int, ClickEvent], most: int) -> Iterator[RevisedPart]:
    """A batch's revisions in parts of at most so many; `clicks` are those that they are about, by offset.

    Those whose click has left the topic are counted and left out.
    """
    known = [revision for revision in batch.revisions if revision.offset in clicks]
    metrics.revisions.labels("gone").inc(len(batch.revisions) - len(known))
    for start in range(0, len(known), most):
        some = known[start : start + most]
        causes = np.searchsorted(batch.offsets, [revision.cause for revision in some])
        yield RevisedPart(
            some,
            [clicks[revision.offset].event_id for revision in some],
            batch.timestamps_ms[causes],
            encode_rows([revision.window for revision in some]),
        )


def revised_records(part: RevisedPart, scores: Scores, partition: int, settings: Settings, now_ms: int) -> Records:
    """The ScoreEvents as Kafka records. Their age is that of the late event: until it came, there was nothing to mend."""
    some = part.revisions
    text, names = in_quotes([*part.event_ids, *(revision.visitor_id for revision in some)])
    scored = Scored(
        f"{settings.topics.clicks}:{partition}:",
        np.array([revision.offset for revision in some], np.int64),
        text,
        names[: len(some)],
        names[len(some) :],
        np.array([int(revision.session_id, 16) for revision in some], np.uint64),
        np.array([revision.position for revision in some], np.int64),
        np.array([revision.event_time for revision in some], np.int64),
        np.maximum(now_ms - part.timestamps_ms, 0),
        np.array([revision.input_hash for revision in some], np.uint64),
        np.array([revision.number for revision in some], np.int64),
    )
    keys = [key_of(revision.visitor_id) for revision in some]
    return Records(keys, *score_lines(scored, scores, settings.model.name, now_ms, settings.scoring.deadline_ms))
