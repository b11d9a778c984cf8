"""I6: a sample of the scores, computed again by the version that they name."""

import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from worker.audit.report import Report
from worker.audit.revised import TOLERANCE
from worker.audit.said import Said
from worker.contract.features import CODES, ModelInputs, stacked

#: Scores are on the wire with six digits.
_ROUNDING = 1e-6
_BATCH = 32
_OUTPUTS = ["purchase", "cart", "churn", "next_type"]

Maker = tuple[str, str, str]


class _Scored(NamedTuple):
    offset: int
    revision: int
    window: ModelInputs  # of one session, not padded


class Sample:
    """A fair sample of fixed size of all scores that a model made, however many are offered. The same seed, the same sample."""

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self._random = random.Random(seed)
        self._offered = 0
        self._kept: list[tuple[Maker, _Scored]] = []

    def offer(self, offset: int, maker: Maker, window: Callable[[], ModelInputs], revision: int = 0) -> None:
        """Take a score into account; `window` gives its inputs. The fallback's are left out: it has no version folder."""
        if self.size == 0 or maker[2] != "model":
            return
        self._offered += 1
        if len(self._kept) < self.size:
            self._kept.append((maker, _Scored(offset, revision, window())))
        elif (place := self._random.randrange(self._offered)) < self.size:
            self._kept[place] = (maker, _Scored(offset, revision, window()))

    def by_maker(self) -> dict[Maker, list[_Scored]]:
        """The sample in order of offset."""
        grouped: defaultdict[Maker, list[_Scored]] = defaultdict(list)
        for maker, scored in sorted(self._kept, key=lambda kept: kept[1][:2]):
            grouped[maker].append(scored)
        return grouped


def recompute(sample: Sample, said: Said, name: str, repository: Path, report: Report) -> None:
    """Check the sample by ONNX Runtime. What cannot be computed here is noted."""
    try:
        import onnxruntime
    except ModuleNotFoundError:
        report.notes.append("I6 is not checked: onnxruntime is not installed (it comes with the extra 'local')")
        return
    for (model, version, _), scored in sample.by_maker().items():
        path = repository / model / version / "model.onnx"
        if not path.is_file():
            report.notes.append(f"I6 is not checked for version {version}: there is no {path}")
            continue
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        if [given.shape[-1] for given in session.get_inputs() if given.name == "codes"] != [len(CODES)]:
            report.notes.append(f"I6 is not checked for version {version}: it scores rows of another layout")
            continue
        for first in range(0, len(scored), _BATCH):
            _check_batch(session, scored[first : first + _BATCH], said, name, version, report)


def _check_batch(session: Any, scored: list[_Scored], said: Said, name: str, version: str, report: Report) -> None:
    inputs = stacked([one.window for one in scored])
    outputs = session.run(_OUTPUTS, inputs._asdict())
    again = np.concatenate([np.asarray(output, np.float32).reshape(len(scored), -1) for output in outputs], axis=1)
    tally = report.checks["I6"]
    for row, one in enumerate(scored):
        tally.checked += 1
        difference = float(np.abs(again[row] - said.p_of(one.offset, one.revision)).max())
        if not difference <= TOLERANCE + _ROUNDING:
            which = f"{name}:{one.offset}" + (f":r{one.revision}" if one.revision else "")
            tally.fail(f"score {which} differs by {difference:.2g} from what version {version} gives")
