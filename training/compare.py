"""A version judged on the events of a file, against a constant, another version or a baseline that learns from the same file."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.evaluate import Judged, Predictions, judge, predict
from training.event_names import EventNames
from training.examples import Examples, examples_of
from training.forecast import LISTED, Forecast, next_figures
from training.history import History, Ints, fold_log
from training.metrics.draws import Bools, Doubles
from training.read import EventFiles
from training.report import JudgedEvents, decisions, report
from training.session_log import SessionLog, session_log
from training.truth_file import read_truth
from training.version import LoadedVersion
from training.version_forecast import forecast_of
from worker.contract.events import HORIZONS
from worker.contract.features import NUMBERS
from worker.errors import ConfigurationError

_SINCE_VISIT = NUMBERS.index("since_visit_s")

#: Learns from the first log and says something of every event of the second.
Learner = Callable[[SessionLog, SessionLog], Forecast]


@dataclass(frozen=True)
class Judgement:
    """What is judged: `head` within `horizon`, of sessions that began at or after `since_ms`; the log ends at `until_ms`."""

    head: str = "purchase"
    horizon: str = "session"
    since_ms: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True)
class _Told:
    """A version's say on a log: all its predictions, and those whose label is known."""

    history: History
    examples: Examples
    predictions: Predictions
    judged: Judged


def compare_versions(
    files: EventFiles,
    version: LoadedVersion,
    other: LoadedVersion | tuple[str, Learner] | None,
    judgement: Judgement,
    truth: Path | None = None,
) -> dict[str, Any]:
    """Figures of events before the session's first such event whose label is known (see `report`, `decisions`, `next_figures`).

    The baseline is `other`: a version, a named learner (fitted to what the file holds from before the version's training ended),
    or without it the constant that the version's training data gave. `truth` is a file of exact probabilities.
    Raises ConfigurationError when there is no such event, or the two are not comparable.
    """
    made, head, horizon = version.manifest, judgement.head, judgement.horizon
    if isinstance(other, LoadedVersion) and (other.manifest.policy, other.manifest.partitions) != (made.policy, made.partitions):
        raise ConfigurationError(f"{version.path} and {other.path} cut sessions or partitions differently: not comparable")
    if (truth is not None or isinstance(other, tuple)) and (head, horizon) != ("purchase", "session"):
        raise ConfigurationError(f"{head} {horizon}: baselines and truth files speak of a purchase within the session only")
    names = EventNames(with_event_ids=truth is not None)
    told = _told(files, version, names, judgement)
    if not len(told.judged.label):
        raise ConfigurationError(f"no event with a known {head} label in the time given; give more events")
    whole = session_log(told.history, names, "shop", _newest(told.history))
    said = np.isin(whole.event, told.history.rows["offset"][told.predictions.row])
    log = whole.select(np.bincount(whole.session, ~said, whole.sessions) == 0)
    forecast = _forecast(told, version, names, log)
    baseline, their_forecast, name = _baseline(files, version, other, names, told, whole, log, judgement)
    number = _numbers(told)
    events = JudgedEvents(
        session=told.judged.session,
        started_ms=told.history.rows["event_time"][told.history.start[told.judged.session]].astype(np.int64),
        position=told.judged.position,
        label=told.judged.label,
        kinds=_kinds(told, names, number, version),
        truth=None if truth is None else _exact(truth, names, number),
    )
    return {
        "model": made.model,
        "version": made.version,
        "baseline": name,
        "head": head,
        "horizon": None if head == "churn" else horizon,
        "seen_in_training": int((told.examples.rows["event_time"][told.examples.predicted] < version.data.until_ms).sum()),
        "metrics": report(events, told.judged.p, baseline),
        **decisions(events, told.judged.p, baseline),
        "next": next_figures(log, forecast, their_forecast),
    }


def _told(files: EventFiles, version: LoadedVersion, names: EventNames, judgement: Judgement) -> _Told:
    made = version.manifest
    history = fold_log(names.through(files.events(), made.partitions), made.spec, made.policy, judgement.until_ms)
    examples = examples_of(history).between(judgement.since_ms, None)
    predictions = predict(version.serving_model(), examples, LISTED)
    return _Told(history, examples, predictions, judge(predictions, examples, judgement.head, judgement.horizon, early=True))


def _baseline(
    files: EventFiles,
    version: LoadedVersion,
    other: LoadedVersion | tuple[str, Learner] | None,
    names: EventNames,
    told: _Told,
    whole: SessionLog,
    log: SessionLog,
    judgement: Judgement,
) -> tuple[Doubles, Forecast | None, str]:
    """Its probabilities of the judged events, what it says of the log, which is a part of the whole one, and its name."""
    judged = told.judged
    if other is None:
        prior = version.data.priors[judgement.head][0 if judgement.head == "churn" else HORIZONS.index(judgement.horizon)]
        return np.full(len(judged.label), prior), None, "prevalence"
    if isinstance(other, LoadedVersion):
        their_names = EventNames()
        theirs = _told(files, other, their_names, judgement)
        return theirs.judged.p, _forecast(theirs, other, their_names, log), other.manifest.version
    name, learn = other
    until_ms, made = version.data.until_ms, version.manifest
    earlier_names = EventNames()
    earlier = fold_log(earlier_names.through(files.events(), made.partitions), made.spec, made.policy, until_ms)
    if not len(earlier.rows):
        raise ConfigurationError(f"{name} has nothing to learn from: the file holds no event before the version's training ended")
    forecast = learn(session_log(earlier, earlier_names, "shop", until_ms), whole)
    order = np.argsort(whole.event)
    ahead, at = (order[np.searchsorted(whole.event[order], number)] for number in (_numbers(told), log.event))
    return forecast.purchase[ahead], forecast.of(at), name


def _forecast(told: _Told, version: LoadedVersion, names: EventNames, log: SessionLog) -> Forecast:
    """Of all categories that the file names: what the version's own log named is not known here."""
    candidates = version.serving_model().candidates
    return forecast_of(told.predictions, candidates, version.next_categories(), told.history, names, log, len(names.categories))


def _numbers(told: _Told) -> Ints:
    """[n]: the number in the log of each judged event."""
    return np.asarray(told.history.rows["offset"][told.predictions.row[told.judged.event]], np.int64)


def _kinds(told: _Told, names: EventNames, number: Ints, version: LoadedVersion) -> dict[str, Bools]:
    """Masks of the judged events: items that training has seen and others, new visitors and returning ones.

    Seen is what the file holds from before the training ended, and what the version can name.
    """
    rows = told.history.rows
    earlier = rows["offset"][rows["event_time"] < version.data.until_ms]
    seen = np.zeros(len(names.items) + 1, bool)  # the last is for "no item"
    seen[names.item[earlier]] = True
    named = version.serving_model().candidates.ids
    seen[[names.items[name] for name in named if name in names.items]] = True
    item = names.item[number]
    returning = ~np.isnan(rows["numbers"][told.predictions.row[told.judged.event], _SINCE_VISIT])
    return {
        "seen_items": (item >= 0) & seen[item],
        "unseen_items": (item >= 0) & ~seen[item],
        "new_visitors": ~returning,
        "returning_visitors": returning,
    }


def _newest(history: History) -> int:
    return int(history.newest_ms.max())


def _exact(path: Path, names: EventNames, number: Ints) -> Doubles:
    """Probabilities [n] of the events by a truth file. Raises ConfigurationError when it lacks one or cannot be read."""
    exact = read_truth(path)
    assert names.event_ids is not None
    try:
        return np.array([exact[names.event_ids[k]] for k in number], np.float64)
    except KeyError as error:
        raise ConfigurationError(f"{path}: says nothing of event {error}; give the truth of this very file") from error
