"""The one protocol of the leaderboard: what may be learned from, what judges, and the figures of every entry.

Sessions (those that the shop names, else those cut by gap) are in order of their start. Everything learns from the events before
one moment with the labels that had matured by then, and is judged on the sessions that begin at that moment or later: of each
event ahead of the session's first purchase, whether a purchase follows; of each event, what comes next.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.baselines.line_up import BASELINES
from training.event_names import EventNames
from training.forecast import Forecast, next_figures
from training.history import fold_log
from training.labels import UNKNOWN
from training.metrics.draws import Bools, Doubles
from training.read import EventFiles
from training.report import JudgedEvents, decisions, reports
from training.session_log import SessionLog, session_log
from worker.contract.features import NUMBERS, FeatureSpec
from worker.contract.session import SessionPolicy
from worker.errors import ConfigurationError

#: The share of the sessions, the latest ones, that judge unless it is said from when on.
TEST_SHARE = 0.2

Tell = Callable[[str], None]
#: Exact probabilities by event id.
Truth = dict[str, float]


@dataclass(frozen=True)
class Task:
    """What is learned from, and what judges; `until_ms` lies between."""

    train: SessionLog
    test: SessionLog
    until_ms: int
    truth: Doubles | None = None

    @property
    def judged(self) -> Bools:
        """[test events]: those of which it is asked whether a purchase follows."""
        return np.asarray(self.test.purchase != UNKNOWN)

    def events(self) -> JudgedEvents:
        """The judged events, with the kinds that are looked at alone."""
        at, log = self.judged, self.test
        seen = np.zeros(max(log.items, self.train.items) + 1, bool)  # the last is for "no item"
        seen[self.train.item[self.train.item != UNKNOWN]] = True
        returning = ~np.isnan(log.rows["numbers"][:, NUMBERS.index("since_visit_s")])
        return JudgedEvents(
            session=log.session[at],
            started_ms=log.started_ms[log.session[at]],
            position=log.position[at],
            label=log.purchase[at].astype(np.int64),
            kinds={
                "seen_items": ((log.item != UNKNOWN) & seen[log.item])[at],
                "unseen_items": ((log.item != UNKNOWN) & ~seen[log.item])[at],
                "new_visitors": ~returning[at],
                "returning_visitors": returning[at],
            },
            truth=None if self.truth is None else self.truth[at],
        )


def make_task(
    files: EventFiles, *, spec: FeatureSpec, policy: SessionPolicy, partitions: int, until_ms: int | None = None,
    truth: Truth | None = None,
) -> Task:  # fmt: skip
    """Fold the log twice: whole, and as it was at `until_ms` (by default, when the last fifth of the sessions began).

    Raises ConfigurationError when nothing is left to learn from or to judge by, or the truth does not speak of an event.
    """
    names = EventNames(with_event_ids=truth is not None)
    whole = session_log(fold_log(names.through(files.events(), partitions), spec, policy), names, "shop")
    if until_ms is None:
        first = int(np.ceil((1 - TEST_SHARE) * whole.sessions))
        until_ms = int(whole.started_ms[min(first, whole.sessions - 1)])
    test = whole.select(whole.started_ms >= until_ms)
    if not test.sessions:
        raise ConfigurationError(f"no session began at {until_ms} or later: nothing is left to judge by; give an earlier --until")
    earlier_names = EventNames()
    earlier = fold_log(earlier_names.through(files.events(), partitions), spec, policy, until_ms)
    if not len(earlier.rows):
        raise ConfigurationError(f"no event before {until_ms}: nothing to learn from; give a later --until")
    train = session_log(earlier, earlier_names, "shop", until_ms)
    return Task(train, test, until_ms, None if truth is None else _exact(truth, names, test))


def leaderboard(task: Task, entries: Sequence[str], against: str, seed: int, tell: Tell) -> dict[str, Any]:
    """Fit and judge the named baselines; differences are to `against`, which is fitted in any case.

    {"until_ms", "against", "train", "test", "entries": {name: {"seconds", "purchase", "threshold", "earliness", "next"}}}
    """
    forecasts: dict[str, Forecast] = {}
    seconds: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys((against, *entries)):
        tell(f"{name}: learning")
        forecasts[name], seconds[name] = _run(name, task, seed)
    tell("judging")
    events, judged, theirs = task.events(), task.judged, forecasts[against]
    p = {name: forecasts[name].purchase[judged] for name in BASELINES if name in forecasts}
    purchase = reports(events, p, against, seed)
    return {
        "until_ms": task.until_ms,
        "seed": seed,
        "against": against,
        "train": _size(task.train),
        "test": _size(task.test),
        "entries": {
            name: {
                "seconds": seconds[name],
                "purchase": purchase[name],
                **decisions(events, p[name], p[against], seed),
                "next": next_figures(task.test, forecasts[name], theirs, seed),
            }
            for name in p
        },
    }


def _run(name: str, task: Task, seed: int) -> tuple[Forecast, dict[str, float]]:
    began = time.monotonic()
    baseline = BASELINES[name]()
    baseline.fit(task.train, seed)
    fitted = time.monotonic()
    forecast = baseline.predict(task.test)
    return forecast, {"fit": round(fitted - began, 2), "predict": round(time.monotonic() - fitted, 2)}


def _size(log: SessionLog) -> dict[str, int]:
    buys = np.zeros(log.sessions, bool)
    buys[log.session[log.purchase == 1]] = True
    return {"sessions": log.sessions, "events": len(log), "buyers": int(buys.sum()), "items": log.items}


def _exact(truth: Truth, names: EventNames, log: SessionLog) -> Doubles:
    assert names.event_ids is not None
    try:
        return np.array([truth[names.event_ids[number]] for number in log.event], np.float64)
    except KeyError as error:
        raise ConfigurationError(f"the truth says nothing of event {error}; give that of this very file") from error
