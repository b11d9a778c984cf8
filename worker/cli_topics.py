"""Commands over the topics: replay, labels, audit; and dlq, from a file of its own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli_dlq import dlq_app as dlq_app

if TYPE_CHECKING:
    from worker.audit.report import Report

AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]


def replay(
    files: Annotated[list[Path], typer.Argument(help="One event a line, in order of time, plain or gzip; - for stdin.")],
    topic: Annotated[str | None, typer.Option(help="Topic to send to [default: the clicks topic].")] = None,
    rate: Annotated[str, typer.Option(help="Events per second, or max.")] = "max",
    speedup: Annotated[
        str | None, typer.Option(help="Send in event time, so many times as fast; 'original' is 1. Instead of --rate.")
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Shift the event times so that the first event is now.")] = False,
    limit: Annotated[int | None, typer.Option(min=0, help="Only the first so many events.")] = None,
    as_json: AsJson = False,
) -> None:
    """Send recorded events to Kafka, keyed by visitor. Several files are merged by time."""
    import asyncio
    import json

    from worker.replay import replay as replay_files
    from worker.settings import Settings

    if speedup is not None and rate != "max":
        raise typer.BadParameter("give --rate or --speedup, not both")
    per_second = None if rate == "max" else _positive(rate, "--rate")
    faster = None if speedup is None else 1.0 if speedup == "original" else _positive(speedup, "--speedup")
    settings = Settings()
    with _progress("sending") as tell:
        report, notes = asyncio.run(
            replay_files(
                settings,
                files,
                topic or settings.topics.clicks,
                rate=per_second,
                speedup=faster,
                shift_to_now=now,
                limit=limit,
                tell=tell,
            )
        )
    if as_json:
        print(json.dumps(report._asdict() | {"unreadable": notes.unreadable, "ahead": notes.ahead}))
        return
    speed = report.records / max(report.seconds, 1e-9)
    print(f"sent {report.records} events in {report.seconds:.1f} s ({speed:,.0f} a second), all confirmed")
    if notes.unreadable:
        print(f"{notes.unreadable} of them are no events with a visitor (first: {notes.first}): sent as they are, without key")
    if notes.ahead:
        allowed = settings.session.max_future_s / 3600
        print(f"{notes.ahead} of them lie more than {allowed:g} h after the clock: the worker will refuse them")


def labels() -> None:
    """Join scores with what really happened, until told to stop. As many as you like share the partitions."""
    from worker.labels_app import run_labels
    from worker.service import run_service

    run_service(run_labels)


def audit(
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="From the first click that is still there; there is no other way yet.")
    ] = True,
    wait: Annotated[float | None, typer.Option(min=0, help="Wait up to so many seconds for the worker to catch up.")] = None,
    model_repository: Annotated[
        Path | None, typer.Option(help="Also compute a sample of the scores again, by the versions here.")
    ] = None,
    sample: Annotated[int, typer.Option(min=1, help="How many scores of each partition to compute again.")] = 200,
    as_json: AsJson = False,
) -> None:
    """Check over the live topics that nothing is missing, twice, out of order or irreproducible."""
    import asyncio
    import json
    import time

    from worker.audit.run import Options
    from worker.audit.run import audit as audit_topics
    from worker.settings import Settings

    options = Options(wait_s=wait, model_repository=model_repository, sample=sample)
    started = time.monotonic()
    with _progress("checking") as tell:
        report = asyncio.run(audit_topics(Settings(), options, tell))
    if as_json:
        print(json.dumps(report.to_json() | {"seconds": round(time.monotonic() - started, 3)}))
    else:
        _print_report(report, time.monotonic() - started)
    if not report.ok:
        raise typer.Exit(1)


def _print_report(report: "Report", seconds: float) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from worker.audit.report import CHECKS

    table = Table("", "what", "checked", "wrong", "first offender")
    for name, tally in report.checks.items():
        mark = "[red]wrong[/]" if tally.failed else "" if tally.checked else "[dim]not checked[/]"
        table.add_row(f"{name} {mark}", CHECKS[name], f"{tally.checked:,}", f"{tally.failed:,}", escape(tally.first or ""))
    console = Console()
    console.print(table)
    counts = ", ".join(f"{count:,} {what}" for what, count in report.counts.items() if count)
    console.print(f"{counts or 'no clicks'}; {seconds:.1f} s")
    for note in report.notes:
        console.print(note, markup=False)


def _positive(text: str, option: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise typer.BadParameter(f"{option} {text}: give a number above 0")
    return value


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int], None]]:
    """A counter on stderr; yields what to call with the number done so far."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description} {task.completed:,.0f} events"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda count: progress.update(task, completed=count)
