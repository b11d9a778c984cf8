"""From a log to a version folder, start to end: what `inkling train` does."""

import dataclasses
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from training import distributed
from training.architecture import Architecture
from training.calibrate import calibrate, calibrate_crossed, follow_level
from training.candidates import Candidates
from training.evaluate import evaluate
from training.examples import Examples, examples_of
from training.fallback_fit import fit_fallback
from training.history import History, fold_log
from training.item_vectors import ItemVectors, read_item_vectors
from training.labels import UNKNOWN
from training.mix_items import mix
from training.model import IntentModel
from training.next_categories import NextCategories, count_categories, mixed_categories
from training.next_items import NextItems, count
from training.read import LoggedEvent
from training.run import Run
from training.run_report import HeldOut, write_report
from training.serving import Calibration, ServingModel
from training.train import Progress, Recipe, train
from training.trust import departing, trust_in
from training.version import LoadedVersion, TrainingData, check_new, export_version, load_version
from worker.contract.events import EVENT_TYPES, HAZARD_HEADS, HORIZONS
from worker.contract.features import CODES, NUMBERS, FeatureSpec
from worker.contract.session import SessionPolicy
from worker.errors import ConfigurationError

log = logging.getLogger(__name__)

_SESSION = HORIZONS.index("session")

#: More events are not learned from at once: a row with its labels and windows takes some 400 bytes.
NEWEST_EVENTS = 4_000_000
#: The earlier part of the sessions that the network is trained on; the later part calibrates it.
TRAINED_SHARE = 0.9
#: Below this many sessions all of them train, and nothing is calibrated: there would be next to nothing to see.
_FEW_SESSIONS = 200
#: Up to this many sessions are all trained on, and calibrated by so many parts; a larger log can spare some, and the time counts.
_CROSSED_SESSIONS, _PARTS = 8000, 4
#: It can spare none if in fewer of these anybody buys or fills a cart: too few to say how far scores are to be believed.
#: Then all are trained on, and calibrated by halves.
_FEW_POSITIVES = 200


def make_version(
    events: Callable[[], Iterable[LoggedEvent]],
    out: Path,
    *,
    source: str,
    spec: FeatureSpec,
    policy: SessionPolicy,
    partitions: int,
    until_ms: int | None = None,
    seed: int = 0,
    architecture: Architecture | None = None,
    recipe: Recipe | None = None,
    progress: Progress | None = None,
    report: Path | None = None,
    left_out: int = 0,
    items: Path | None = None,
) -> LoadedVersion:
    """Train on the events before `until_ms` and write the version to `out`, and what it came to to the HTML file `report`.

    `left_out` is how many older ones the log holds that are not among them: manifest and report say so. `items` has vectors of
    items (`read_item_vectors`).

    Killed and called again with the same, it goes on from the last checkpoint, see `Run`; the version is the same to the bit.
    Raises ConfigurationError when there is no event to train on, ModelError when `out` is taken.
    """
    # 1 read and fold  2 train on the earlier sessions  3 calibrate on the later ones  4 fit the fallback  5 write
    run = Run(out)
    run.sweep()
    check_new(out)
    vectors = None if items is None else read_item_vectors(items, spec)  # first: the log may take long
    history = fold_log(events(), spec, policy, until_ms)
    if not len(history.rows):
        raise ConfigurationError(f"{source}: no event before {until_ms}; give more events or a later --until")
    examples = examples_of(history)
    if items is not None:
        examples = dataclasses.replace(examples, vectors=vectors)
        source = f"{source} {items.name}"
    data = describe(examples, source, until_ms)
    data = msgspec.structs.replace(data, not_learned=data.not_learned + doubts(history, examples.vectors))
    _warn(data, examples.sessions < _FEW_SESSIONS)
    if left_out:
        older = f"{left_out:,} events that are older than these: more may not fit into memory"
        data = msgspec.structs.replace(data, not_learned=[older, *data.not_learned])
    learned = learn(examples, seed=seed, architecture=architecture, recipe=recipe, progress=progress, run=run)
    if distributed.rank():
        # The first process writes the version.
        distributed.wait()
        return load_version(out)
    number = out.name if out.name.isdecimal() and not out.name.startswith("0") else "1"
    made = export_version(
        learned.model,
        fit_fallback(examples, seed),
        learned.next_categories,
        out,
        version=number,
        parent=None,
        data=data,
        policy=policy,
        partitions=partitions,
        metrics=learned.metrics,
        seed=seed,
    )
    distributed.wait()
    run.end()
    if report is not None:
        write_report(report, f"Version {number}", data, run.curves, learned.held_out)
    return made


class Learned(NamedTuple):
    """A calibrated model, what it says of categories, and its figures on sessions that it was not trained on."""

    model: ServingModel
    next_categories: NextCategories
    metrics: dict[str, Any]
    held_out: HeldOut | None = None


def learn(
    examples: Examples,
    *,
    seed: int = 0,
    architecture: Architecture | None = None,
    recipe: Recipe | None = None,
    progress: Progress | None = None,
    run: Run | None = None,
) -> Learned:
    """Train, and calibrate on sessions that were not trained on. Deterministic by seed. A `run` keeps checkpoints.

    Of many sessions the later ones are left out of training and calibrate. Of few, or of few with a purchase, none can be spared:
    all of them train, and networks that each leave out a part calibrate.
    """
    candidates = Candidates.most_frequent(examples.items)
    unmixed = NextItems(examples.spec.category_buckets)

    def trained(on: Examples, name: str = "network") -> IntentModel:
        checkpoint = run.checkpoint(name, on, seed, architecture or Architecture(), recipe or Recipe()) if run else None
        return train(on, seed=seed, architecture=architecture, recipe=recipe, progress=progress, checkpoint=checkpoint)

    if examples.sessions < _FEW_SESSIONS:
        network = trained(examples)
        network = departing(network, trust_in([]))
        next_items = unmixed.fitted_to(count(examples, candidates), candidates)
        model = ServingModel(network, follow_level(network, Calibration(), examples), candidates, next_items).eval()
        return Learned(model, count_categories(examples), {})
    small = examples.sessions <= _CROSSED_SESSIONS
    if small:
        part = examples.session % _PARTS
        earlier, later = examples.select(part != 0), examples.select(part == 0)
    else:
        earlier, later = examples.split(TRAINED_SHARE)
        part = np.where(np.isin(examples.session, later.session), 0, examples.session % 2)
    if small or 0 < _least_positives(later) < _FEW_POSITIVES:
        numbers = range(_PARTS if small else 2)
        crossed = [(trained(examples.select(part != k), f"without-{k}"), examples.select(part == k)) for k in numbers]
        trust = trust_in(crossed)
        crossed = [(departing(model, trust), left) for model, left in crossed]
        network, judge, calibration = departing(trained(examples), trust), crossed[0][0], calibrate_crossed(crossed)
        left_out = f"{later.sessions:,} sessions, by a network that was not trained on them, before calibration"
    else:
        network = trained(earlier)
        network = judge = departing(network, trust_in([(network, later)]))
        calibration = calibrate(network, later, level=False)
        left_out = f"the last {1 - TRAINED_SHARE:.0%} of the sessions, before calibration on them"
    mixed = mix(unmixed.fitted_to(count(earlier, candidates), candidates), candidates, later)
    raw = ServingModel(judge, Calibration(), candidates, mixed)
    held_out = HeldOut(left_out, later, raw, ServingModel(judge, calibration, candidates, mixed))
    next_items = mixed.fitted_to(count(examples, candidates), candidates)
    model = ServingModel(network, follow_level(network, calibration, examples), candidates, next_items).eval()
    next_categories = mixed_categories(earlier, later, examples)
    return Learned(model, next_categories, {"held_out": {"what": left_out, **evaluate(raw, later)}}, held_out)


def _least_positives(examples: Examples) -> int:
    """In how many sessions somebody buys, or fills a cart where that is rarer; what never happens is not counted."""
    rows = examples.predicted
    session, link = examples.session_of(rows), examples.link[rows, :, _SESSION]
    return min(filter(None, (len(np.unique(session[label == 1])) for label in link.T)), default=0)


def describe(examples: Examples, source: str, until_ms: int | None = None) -> TrainingData:
    """What the manifest says of these examples."""
    rows = examples.predicted
    times = examples.rows["event_time"][rows]
    within, matured = examples.labels.within[rows], examples.labels.matured[rows]
    priors, not_learned = {}, []
    for h, head in enumerate(HAZARD_HEADS):
        known = np.maximum(matured.sum(0), 1)
        priors[head] = ((within[:, h] & matured).sum(0) / known).tolist()
        not_learned += _not_learned(head, examples.labels.hazard[rows, h])
    churn = examples.labels.churn[rows]
    priors["churn"] = [float((churn == 1).sum() / max((churn != UNKNOWN).sum(), 1))]
    return TrainingData(
        source=source,
        from_ms=int(times.min()),
        until_ms=int(times.max()) + 1 if until_ms is None else until_ms,
        events=len(rows),
        sessions=examples.sessions,
        priors=priors,
        not_learned=not_learned,
    )


def _not_learned(head: str, hazard: npt.NDArray[np.int8]) -> list[str]:
    """What labels [N, 5] of a head do not hold."""
    if not (hazard == 1).any():
        return [f"{head}: none follows any event"]
    unknown = [horizon for horizon, labels in zip(HORIZONS, hazard.T, strict=True) if (labels == UNKNOWN).all()]
    missing = [horizon for horizon, labels in zip(HORIZONS, hazard.T, strict=True) if not (labels == 1).any()]
    told = [f"{head} within {horizon}: the log is too short for this horizon to have passed" for horizon in unknown]
    return told + [f"{head} within {horizon}: none that is not nearer" for horizon in missing if horizon not in unknown]


def doubts(history: History, vectors: ItemVectors | None = None) -> list[str]:
    """What else of the log, and of items' vectors, cannot teach what it seems to."""
    told = []
    if vectors is not None and not np.isin(history.rows["codes"][:, CODES.index("item")], vectors.buckets).any():
        told.append("item vectors: none is of an item of the log")
    if len(history.currencies) > 1:
        named = ", ".join(name for name, _ in history.currencies.most_common(5))
        told.append(f"price: amounts in several currencies ({named}) were compared as plain numbers")
    for name, known in (("item", CODES.index("item")), ("category", CODES.index("category")), ("brand", CODES.index("brand"))):
        if not (history.rows["codes"][:, known] > 0).any():
            told.append(f"{name}: no event has one")
    if np.isnan(history.rows["numbers"][:, NUMBERS.index("price")]).all():
        told.append("price: no event has one")
    types = np.unique(history.rows["codes"][:, CODES.index("type")])
    if len(types) == 1:
        told.append(f"next_type: every event is a {EVENT_TYPES[types[0] - 1]}")
    if (np.diff(history.start) == 1).all():
        told.append("churn, next_type, next_item: no session has a second event")
    return told


def _warn(data: TrainingData, few: bool) -> None:
    if few:
        log.warning("only %d sessions: too few to calibrate on, and to learn much from", data.sessions)
    for what in data.not_learned:
        log.warning("not learned: %s", what)
