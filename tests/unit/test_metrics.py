"""Metrics: one prefix, base units, few labels, and all of them documented."""

import re

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, Info
from prometheus_client.metrics import MetricWrapperBase

from worker import metrics
from worker.contract.events import HAZARD_HEADS, HORIZONS, Reason
from worker.contract.session import Outcome

ALL = {name: metric for name, metric in vars(metrics).items() if isinstance(metric, MetricWrapperBase)}

#: How many values each label can have: closed sets, and what one worker can be given or serve.
LABEL_VALUES = {
    "partition": 64,
    "path": 2,
    "reason": len(Reason),
    "outcome": len(Outcome),
    "stage": 8,
    "result": 4,
    "head": len(HAZARD_HEADS) + 1,
    "horizon": len(HORIZONS),
    "version": 4,
}
MAX_SERIES = 2_000


def _labels(metric: MetricWrapperBase) -> tuple[str, ...]:
    return tuple(metric._labelnames)


def test_names_have_the_prefix_and_base_units() -> None:
    """`inkling_`, lower case; times are in seconds, sizes in bytes, and no name says total twice."""
    assert len(ALL) > 20
    for metric in ALL.values():
        name = metric._name
        assert re.fullmatch(r"inkling_[a-z0-9_]+", name)
        assert not re.search(r"_(ms|millis|milliseconds|minutes|hours|kb|mb|percent|total)$", name)
        if isinstance(metric, Histogram) and name != "inkling_batch_events":
            assert name.endswith("_seconds")


def test_each_metric_says_what_it_is() -> None:
    """The help text is a sentence."""
    for metric in ALL.values():
        assert re.fullmatch(r"[A-Z0-9].+\.", metric._documentation)


def test_labels_come_from_closed_sets_only() -> None:
    """No label can hold a visitor, an item or an error's text."""
    assert {label for metric in ALL.values() for label in _labels(metric)} <= set(LABEL_VALUES)


def test_series_of_a_worker_stay_below_the_limit() -> None:
    """Even with every label at its most, one worker has at most 2,000 series."""
    series = 0
    for metric in ALL.values():
        per_labels = 1
        for label in _labels(metric):
            per_labels *= LABEL_VALUES[label]
        match metric:
            case Histogram():
                kinds = len(metric._upper_bounds) + 3  # buckets, sum, count, created
            case Counter():
                kinds = 2  # total, created
            case Gauge() | Info():
                kinds = 1
            case _:
                raise AssertionError(f"unknown kind of metric {metric}")
        series += per_labels * kinds
    assert series <= MAX_SERIES


def test_latency_buckets_hold_the_objective() -> None:
    """99.9% within 250 ms can only be told if 250 ms is a bucket's bound; so with 10 s and 30 s of rebalance and recovery."""
    assert 0.25 in metrics.event_to_score._upper_bounds
    assert 10 in metrics.rebalance._upper_bounds
    assert 30 in metrics.recovery._upper_bounds


def test_all_metrics_are_served() -> None:
    """They are in the registry that /metrics shows."""
    served = {family.name for family in REGISTRY.collect()}
    assert {metric._name for metric in ALL.values()} <= served
