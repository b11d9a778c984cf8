"""Metrics: their names, and how many series they can become."""

import re
import shutil
import subprocess

import pytest
from prometheus_client import REGISTRY, generate_latest

from tests.support.metric_samples import fill
from tests.support.tools import need
from worker.contract.events import Reason

#: What one process may expose, with 64 partitions and every label at its worst.
MOST_SERIES = 2000


def ours() -> list[str]:
    fill(partitions=64, versions=4)
    return [line for line in generate_latest(REGISTRY).decode().splitlines() if line.startswith("inkling_")]


def test_promtool_finds_nothing_to_complain_of() -> None:
    """Names, units, suffixes and help texts follow the conventions that promtool checks."""
    promtool = need(shutil.which("promtool"), "promtool: install prometheus to check metrics and rules")
    ours()
    checked = subprocess.run([promtool, "check", "metrics"], input=generate_latest(REGISTRY), capture_output=True, check=False)
    complaints = [line for line in (checked.stdout + checked.stderr).decode().splitlines() if line.startswith("inkling_")]
    assert complaints == []


def test_series_are_bounded() -> None:
    """One process stays below two thousand series, whatever happens to it."""
    assert 200 < len(ours()) <= MOST_SERIES


def test_every_metric_has_the_prefix_and_a_unit_or_a_count() -> None:
    """Each name says what is counted; times end in seconds and sizes in bytes."""
    names = {re.split(r"[{ ]", line)[0] for line in ours()}
    assert all(name.startswith("inkling_") for name in names)
    assert not [name for name in names if re.search(r"_(ms|millis|milliseconds|kb|mb|percent)(_|$)", name)]


@pytest.mark.parametrize("reason", [reason.value for reason in Reason])
def test_dead_letters_start_at_zero(reason: str) -> None:
    """Every reason is a series from the start, so that the first dead letter is an increase that alerts see."""
    assert REGISTRY.get_sample_value("inkling_dead_letters_total", {"reason": reason}) is not None


def test_fallback_answers_start_at_zero() -> None:
    """So is every path."""
    for path in ("model", "fallback"):
        assert REGISTRY.get_sample_value("inkling_scores_total", {"path": path}) is not None
