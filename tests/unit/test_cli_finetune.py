"""Tests for worker/cli_finetune.py: the command around a cycle. The cycle itself is tested in tests/integration."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from training.finetune import CycleReport
from worker.cli import app
from worker.errors import DeliveryError, GateRefused


def report(passed: bool) -> CycleReport:
    return CycleReport(
        champion="1",
        version="2" if passed else None,
        passed=passed,
        reason="the numbers say so",
        decision=None,
        events=10,
        sessions={"fresh": 3},
        cut_ms=5,
        seconds={"read": 0.1},
    )


def run(monkeypatch: pytest.MonkeyPatch, outcomes: list[CycleReport | Exception], *arguments: str) -> Result:
    """The command with cycles that end so; the run ends when there are none left."""

    def cycle(*_: Any) -> CycleReport:
        if not outcomes:
            raise KeyboardInterrupt
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr("training.finetune.run_cycle", cycle)
    return CliRunner().invoke(app, ["finetune", *arguments])


def test_a_published_version_is_status_0(monkeypatch: pytest.MonkeyPatch) -> None:
    """And named."""
    result = run(monkeypatch, [report(passed=True)], "--once")
    assert result.exit_code == 0
    assert "version 2 is the champion" in result.stdout


def test_a_refusal_is_an_error_with_status_3_after_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a script can tell it from a failure."""
    result = run(monkeypatch, [report(passed=False)], "--json")
    assert isinstance(result.exception, GateRefused)
    assert result.exception.exit_status == 3
    assert "the numbers say so" in str(result.exception)
    assert json.loads(result.stdout)["sessions"] == {"fresh": 3}


def test_every_goes_on_after_refusals_and_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    """One bad cycle must not end the loop."""
    outcomes: list[CycleReport | Exception] = [report(passed=False), DeliveryError("Kafka is away"), report(passed=True)]
    result = run(monkeypatch, outcomes, "--every", "0.01s")
    assert "Kafka is away" in result.stderr
    assert "version 2 is the champion" in result.stdout
    assert outcomes == []


def test_every_needs_a_duration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Usage, status 2."""
    for text in ("30", "m", "-5m", "0s", "1w", ""):
        assert run(monkeypatch, [report(passed=True)], "--every", text).exit_code == 2


def test_once_and_every_exclude_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Usage, status 2."""
    assert run(monkeypatch, [report(passed=True)], "--once", "--every", "5m").exit_code == 2
