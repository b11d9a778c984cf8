"""A version judged on the events of a file, against a constant or against another version."""

from typing import Any

import numpy as np

from training.evaluate import judge, predict
from training.examples import Examples, examples_of
from training.history import fold_log
from training.read import EventFiles, logged
from training.report import report
from training.version import LoadedVersion
from worker.contract.events import HORIZONS
from worker.errors import ConfigurationError


def compare_versions(
    files: EventFiles,
    version: LoadedVersion,
    other: LoadedVersion | None,
    *,
    head: str = "purchase",
    horizon: str = "session",
    since_ms: int | None = None,
    until_ms: int | None = None,
) -> dict[str, Any]:
    """Figures by prefix length (see `report`), of events before the session's first such event whose label is known.

    The baseline is `other`, or the constant that the version's training data gave. Raises ConfigurationError when there is no
    such event, or the two versions read events in different ways.
    """
    made = version.manifest
    if other is not None and (other.manifest.policy, other.manifest.partitions) != (made.policy, made.partitions):
        raise ConfigurationError(f"{version.path} and {other.path} cut sessions or partitions differently: not comparable")
    examples = _examples(files, version, since_ms, until_ms)
    judged = judge(predict(version.serving_model(), examples), examples, head, horizon, early=True)
    if not len(judged.label):
        raise ConfigurationError(f"no event with a known {head} label in the time given; give more events")
    if other is None:
        prior = version.data.priors[head][0 if head == "churn" else HORIZONS.index(horizon)]
        baseline = np.full(len(judged.label), prior)
    else:
        theirs = examples if other.manifest.spec == made.spec else _examples(files, other, since_ms, until_ms)
        baseline = judge(predict(other.serving_model(), theirs), theirs, head, horizon, early=True).p
    return {
        "model": made.model,
        "version": made.version,
        "baseline": "prevalence" if other is None else other.manifest.version,
        "head": head,
        "horizon": None if head == "churn" else horizon,
        "seen_in_training": int((examples.rows["event_time"][examples.predicted] < version.data.until_ms).sum()),
        "metrics": report(judged, baseline),
    }


def _examples(files: EventFiles, version: LoadedVersion, since_ms: int | None, until_ms: int | None) -> Examples:
    made = version.manifest
    history = fold_log(logged(files.events(), made.partitions), made.spec, made.policy, until_ms)
    return examples_of(history).between(since_ms, None)
