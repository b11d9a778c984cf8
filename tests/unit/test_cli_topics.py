"""The commands over topics: what they take, print and exit with."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from worker import cli_topics
from worker.audit.report import Report
from worker.replay import ReplayNotes
from worker.send import SendReport

_app = typer.Typer()
_app.command()(cli_topics.replay)
_app.command()(cli_topics.labels)
_app.command()(cli_topics.audit)
_app.add_typer(cli_topics.dlq_app, name="dlq")


def _run(*arguments: str) -> Any:
    return CliRunner().invoke(_app, arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ("replay", "f", "--rate", "5", "--speedup", "2"),
        ("replay", "f", "--rate", "0"),
        ("replay", "f", "--rate", "fast"),
        ("replay", "f", "--speedup", "nan"),
        ("replay", "f", "--limit", "-1"),
        ("replay",),
        ("audit", "--wait", "-1"),
        ("dlq", "show", "clicks"),
        ("dlq", "show", "clicks:a:b"),
        ("dlq", "replay"),
        ("dlq", "replay", "clicks:0:1", "--all"),
        ("dlq", "replay", "--reason", "ugly"),
    ],
)
def test_wrong_usage_ends_with_status_2(arguments: tuple[str, ...]) -> None:
    """Before anything is connected to."""
    assert _run(*arguments).exit_code == 2


def test_replay_says_what_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exact counts, and what the worker will refuse."""

    async def sent(*_: object, **options: object) -> tuple[SendReport, ReplayNotes]:
        assert options["rate"] == 50
        assert options["speedup"] is None
        return SendReport(100, 2, 5000, 2.0), ReplayNotes(2, "f:3", 7)

    monkeypatch.setattr("worker.replay.replay", sent)
    told = _run("replay", "f", "--rate", "50").stdout
    assert "sent 100 events in 2.0 s (50 a second), all confirmed" in told
    assert "2 of them are no events with a visitor (first: f:3)" in told
    assert "7 of them lie more than 24 h after the clock" in told
    as_json = json.loads(_run("replay", "f", "--rate", "50", "--json").stdout)
    assert as_json == {"records": 100, "keyless": 2, "bytes": 5000, "seconds": 2.0, "unreadable": 2, "ahead": 7}


def test_original_speed_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--speedup original` replays as it was recorded; files and topic are passed on."""

    async def sent(settings: object, files: list[Path], topic: str, **options: object) -> tuple[SendReport, ReplayNotes]:
        assert (files, topic, options["speedup"], options["shift_to_now"]) == ([Path("f"), Path("g")], "t", 1.0, True)
        return SendReport(0, 0, 0, 0.0), ReplayNotes()

    monkeypatch.setattr("worker.replay.replay", sent)
    assert _run("replay", "f", "g", "--speedup", "original", "--topic", "t", "--now").exit_code == 0


def test_audit_tells_by_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """0 when nothing is wrong, 1 with the first offender named; square brackets in it are no markup."""
    report = Report()

    async def found(*_: object) -> Report:
        return report

    monkeypatch.setattr("worker.audit.run.audit", found)
    report.checks["I1"].checked = 1234
    assert _run("audit").exit_code == 0
    report.checks["I1"].fail("[red]clicks:0:1")
    wrong = _run("audit")
    assert wrong.exit_code == 1
    assert "1,234" in wrong.stdout
    assert "[red]" in wrong.stdout.replace("\n", "")
    as_json = _run("audit", "--json", "--from-beginning")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["checks"]["I1"]["first"] == "[red]clicks:0:1"
