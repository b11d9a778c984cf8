"""Metrics as a scraper sees them: what promtool says of them, how many there are, and what is there from the start."""

import shutil
import subprocess

import pytest

from tests.support.metric_samples import exposition
from tests.support.tools import need
from worker.contract.events import Reason

#: What one process may expose, with 64 partitions and every label at its worst.
MOST_SERIES = 2000


@pytest.fixture(scope="module")
def filled() -> str:
    return exposition()


@pytest.fixture(scope="module")
def fresh() -> list[str]:
    return exposition(filled=False).splitlines()


def test_promtool_finds_nothing_to_complain_of(filled: str) -> None:
    """Names, units, suffixes and help texts follow the conventions that promtool checks."""
    promtool = need(shutil.which("promtool"), "promtool: install prometheus to check metrics and rules")
    checked = subprocess.run([promtool, "check", "metrics"], input=filled, capture_output=True, text=True, check=False)
    complaints = [line for line in (checked.stdout + checked.stderr).splitlines() if line.startswith("inkling_")]
    assert complaints == []


def test_series_are_bounded(filled: str) -> None:
    """One process stays below two thousand series, whatever happens to it."""
    assert 200 < sum(line.startswith("inkling_") for line in filled.splitlines()) <= MOST_SERIES


@pytest.mark.parametrize("reason", [reason.value for reason in Reason])
def test_dead_letters_start_at_zero(fresh: list[str], reason: str) -> None:
    """Every reason is a series from the start, so that the first dead letter is an increase that alerts see."""
    assert f'inkling_dead_letters_total{{reason="{reason}"}} 0.0' in fresh


@pytest.mark.parametrize("path", ["model", "fallback"])
def test_score_paths_start_at_zero(fresh: list[str], path: str) -> None:
    """So does every path."""
    assert f'inkling_scores_total{{path="{path}"}} 0.0' in fresh
