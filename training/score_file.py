"""Offline scores of a file's events, by the fold, the counters and the encode of the worker, and the graph that Triton runs."""

import gzip
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import numpy.typing as npt

from training.graph import Graph
from training.read import EventFiles, partition_of
from training.version import LoadedVersion
from worker.contract.events import HORIZONS, ClickEvent
from worker.contract.features import ROW, encode_rows
from worker.contract.fold import Fold
from worker.errors import ConfigurationError

#: Windows held at once, and sent through the graph in one run.
_CHUNK, _BATCH = 4096, 128

Progress = Callable[[int, int], None]


class Scored(NamedTuple):
    """Lines written, and how many of them carry only the prior because their line is no event.

    `repeated` lines have an id that came before, `nameless` ones none at all: neither is written.
    """

    written: int
    prior: int
    repeated: int
    nameless: int


def score_file(
    files: EventFiles, version: LoadedVersion, out: Path, *, head: str = "purchase", horizon: str = "session",
    progress: Progress | None = None,
) -> Scored:  # fmt: skip
    """Write `{"event_id", "score"}` for every event id of the files, in their order. `head`: purchase, cart or churn.

    Raises ConfigurationError when `out` cannot be written.
    """
    number_of: dict[str, int] = {}  # in order of time; the first line of an id is the event
    score = np.full(files.lines, np.nan)
    repeated = nameless = 0
    with _writer(out) as file:
        batcher = _Batcher(version, head, horizon, score)
        folds: defaultdict[int, Fold] = defaultdict(lambda: Fold(version.manifest.spec, version.manifest.policy))
        for done, line in enumerate(files, start=1):
            if line.event_id is None:
                nameless += 1
            elif line.event_id in number_of:
                repeated += 1
            else:
                number_of[line.event_id] = line.number
            if isinstance(line.event, ClickEvent):
                fold = folds[partition_of(line.event.visitor_id, version.manifest.partitions)]
                step = fold.apply(line.event, line.number)
                if step.outcome.changed:
                    batcher.add(line.number, step.session.rows)
            if progress is not None and done % _CHUNK == 0:
                progress(done, files.lines)
        batcher.flush()
        order = sorted(number_of.items(), key=lambda pair: pair[1])
        prior = version.data.priors[head][_horizon(head, horizon)]
        unscored = 0
        for event_id, number in order:
            known = not np.isnan(score[number])
            unscored += not known
            file.write(json.dumps({"event_id": event_id, "score": round(float(score[number]) if known else prior, 6)}) + "\n")
    return Scored(len(order), unscored, repeated, nameless)


class _Batcher:
    """Collects windows and scores them together, those of like length in one run."""

    def __init__(self, version: LoadedVersion, head: str, horizon: str, score: npt.NDArray[np.float64]) -> None:
        self._graph = Graph(version.path / "model.onnx")
        self._version = version.manifest.version
        self._head, self._horizon = head, _horizon(head, horizon)
        self._score = score
        self._waiting: list[tuple[int, bytes]] = []

    def add(self, number: int, rows: bytes) -> None:
        self._waiting.append((number, rows))
        if len(self._waiting) >= _CHUNK:
            self.flush()

    def flush(self) -> None:
        self._waiting.sort(key=lambda pair: len(pair[1]) // ROW.itemsize)
        for begin in range(0, len(self._waiting), _BATCH):
            numbers, windows = zip(*self._waiting[begin : begin + _BATCH], strict=True)
            scores = self._graph.score(encode_rows(windows), self._version)
            values = getattr(scores, self._head)
            self._score[list(numbers)] = values if self._head == "churn" else values[:, self._horizon]
        self._waiting.clear()


def _horizon(head: str, horizon: str) -> int:
    return 0 if head == "churn" else HORIZONS.index(horizon)


@contextmanager
def _writer(out: Path) -> Iterator[IO[str]]:
    """The file, in its place only once it is whole."""
    new = out.with_name(f".{out.name}.new")
    try:
        with gzip.open(new, "wt", encoding="utf-8") if out.suffix == ".gz" else new.open("w", encoding="utf-8") as file:
            yield file
        new.replace(out)
    except OSError as error:
        raise ConfigurationError(f"{out}: cannot be written: {error.strerror}") from error
    finally:
        new.unlink(missing_ok=True)
