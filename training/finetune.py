"""One turn of the loop: read the log, learn from what is new, and publish the candidate if the gate lets it through."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from training.evaluate import Judged, Predictions, evaluate, judge, predict
from training.examples import Examples
from training.fallback_fit import fit_fallback
from training.fine_tune import fine_tune
from training.gate import Comparison, Decision, GatePolicy, decide, too_little
from training.history import fold_log
from training.log import ClickLog
from training.make_version import describe
from training.next_categories import continued
from training.publish import QUIET_S, publish
from training.repository import staging
from training.serving import ServingModel
from training.slices import Slices, slice_log
from training.train import Progress
from training.version import LoadedVersion, export_version, load_version
from worker.control import Pointer, read_pointer
from worker.errors import ModelError
from worker.settings import Settings
from worker.versions import check_spec

log = logging.getLogger(__name__)

#: Read at most so many of the newest records: a row is 160 bytes, and labels and windows as much again.
NEWEST_RECORDS = 2_000_000

_DECIDING = ("purchase", "session")
_OTHERS = (("purchase", "30m"), ("purchase", "24h"), ("cart", "session"), ("churn", "session"))


class CycleOptions(msgspec.Struct, frozen=True):
    """How a cycle is run. `quiet_s`: see `publish`."""

    seed: int = 0
    gate: GatePolicy = GatePolicy()
    newest_records: int = NEWEST_RECORDS
    replay_share: float = 0.3
    freeze_layers: int = 1
    quiet_s: float = QUIET_S


class CycleReport(msgspec.Struct, frozen=True):
    """What a cycle came to. `version` is None when the gate refused; `sessions` is by slice; times are ms and seconds."""

    champion: str
    version: str | None
    passed: bool
    reason: str
    decision: Decision | None
    events: int
    sessions: dict[str, int]
    cut_ms: int | None
    seconds: dict[str, float]


class _Candidate(NamedTuple):
    model: ServingModel
    predictions: Predictions


def run_cycle(
    settings: Settings,
    options: CycleOptions | None = None,
    tell: Callable[[str], None] = lambda _: None,
    progress: Progress | None = None,
) -> CycleReport:
    """One cycle, for use outside of an event loop. Deterministic by seed, log and champion.

    A refusal by the gate is a report with `passed` False. Raises ModelError, DeliveryError or ScoringError, as the publishing
    and the reading do; then nothing of the candidate scores.
    """
    options = options or CycleOptions()
    clock = _Clock()
    # 1 what scores now
    pointer = _champion(settings)
    champion = load_version(settings.model.repository / settings.model.name / pointer.champion)
    check_spec(champion.manifest.spec, f"the champion, version {pointer.champion} of {pointer.model},")
    # 2 the log, folded as the worker did, cut by time
    tell(f"reading {settings.topics.clicks}")
    source = f"kafka:{settings.topics.clicks}"
    history = fold_log(ClickLog(settings, options.newest_records), champion.manifest.spec, settings.session.policy)
    clock.lap("read")
    slices = slice_log(history, champion.data.until_ms if champion.data.source == source else None)
    tell(f"{len(history.rows)} events in {history.sessions} sessions")

    def report(decision: Decision | None, reason: str, version: str | None = None) -> CycleReport:
        return CycleReport(
            champion=pointer.champion,
            version=version,
            passed=version is not None,
            reason=reason,
            decision=decision,
            events=len(history.rows),
            sessions=_sessions(slices),
            cut_ms=slices.cut_ms if slices else None,
            seconds=clock.laps,
        )

    if slices is None:
        return report(None, f"no session that began after version {pointer.champion} was trained has a known outcome yet")
    # 3 is there enough to judge by? Before anything is learned.
    now = predict(champion.serving_model(), slices.evaluation)
    deciding = judge(now, slices.evaluation, *_DECIDING)
    if lack := too_little(deciding.name, _distinct(deciding), int(deciding.label.sum()), options.gate):
        return report(None, lack)
    if not len(slices.fresh):
        return report(None, "there is nothing new to learn from ahead of what judges")
    # 4 learn  5 judge
    tell(
        f"fine-tuning version {pointer.champion} on {slices.fresh.sessions} new sessions and {slices.replay.sessions} older ones"
    )
    candidate = _learn(champion, slices, options, progress)
    clock.lap("learn")
    decision = decide(*_comparisons(now, candidate.predictions, slices.evaluation), options.gate, options.seed)
    clock.lap("judge")
    if not decision.passed:
        return report(decision, decision.reason)
    # 6 write  7 publish
    tell(f"publishing: {decision.reason}")
    written = _publish(settings, options, champion, candidate.model, slices, source, decision)
    clock.lap("publish")
    return report(decision, decision.reason, written.champion)


def _champion(settings: Settings) -> Pointer:
    pointer = asyncio.run(read_pointer(settings))
    if pointer is None:
        raise ModelError("there is no champion to fine-tune: run `inkling promote 1`")
    return pointer


def _learn(champion: LoadedVersion, slices: Slices, options: CycleOptions, progress: Progress | None) -> _Candidate:
    model = fine_tune(
        champion,
        slices.fresh,
        slices.replay,
        slices.calibration,
        seed=options.seed,
        replay_share=options.replay_share,
        freeze_layers=options.freeze_layers,
        progress=progress,
    )
    return _Candidate(model, predict(model, slices.evaluation))


def _comparisons(champion: Predictions, candidate: Predictions, examples: Examples) -> tuple[Comparison, list[Comparison]]:
    deciding, *others = (
        _comparison(judge(champion, examples, *head), judge(candidate, examples, *head)) for head in (_DECIDING, *_OTHERS)
    )
    return deciding, others


def _comparison(champion: Judged, candidate: Judged) -> Comparison:
    return Comparison(champion.name, champion.session, champion.label, champion.p, candidate.p)


def _publish(
    settings: Settings,
    options: CycleOptions,
    champion: LoadedVersion,
    model: ServingModel,
    slices: Slices,
    source: str,
    decision: Decision,
) -> Pointer:
    parent = champion.manifest.version
    metrics: dict[str, Any] = {"held_out": evaluate(model, slices.evaluation), "gate": msgspec.to_builtins(decision)}
    with staging(settings.model.repository / settings.model.name) as staged:
        export_version(
            model,
            fit_fallback(slices.learned, options.seed),
            continued(champion.next_categories(), slices.fresh),
            staged,
            version=str(int(parent) + 1),  # until it is taken in and has its own
            parent=parent,
            data=describe(slices.learned, source, slices.cut_ms),
            policy=settings.session.policy,
            partitions=settings.topics.partitions,
            metrics=metrics,
            seed=options.seed,
        )
        return asyncio.run(publish(settings, staged, parent, "inkling finetune", decision.reason, options.quiet_s))


def _sessions(slices: Slices | None) -> dict[str, int]:
    if slices is None:
        return {}
    return {name: getattr(slices, name).sessions for name in ("replay", "fresh", "calibration", "evaluation")}


def _distinct(judged: Judged) -> int:
    return len(set(judged.session.tolist()))


class _Clock:
    """Seconds of each step."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = round(now - self._last, 2)
        self._last = now
