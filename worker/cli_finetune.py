"""`inkling finetune`: one turn of the loop, or one every so often."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli_models import AsJson, print_json, print_table

if TYPE_CHECKING:
    from training.finetune import CycleReport


def finetune(
    once: Annotated[bool, typer.Option("--once", help="One cycle, also the default; exit status 3 if the gate refuses.")] = False,
    every: Annotated[str | None, typer.Option(help="A cycle every so often, until told to stop: 90s, 30m, 2h.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, log and champion: same candidate.")] = 0,
    min_sessions: Annotated[
        int, typer.Option(min=1, help="Newest sessions with a known outcome that are needed to judge.")
    ] = 200,
    min_positives: Annotated[int, typer.Option(min=1, help="Of their events, how many must lead to a purchase.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Read the log, learn from what is new, and publish the result if it is surely better on what is newer still."""
    from training.finetune import CycleOptions, run_cycle
    from training.gate import GatePolicy
    from worker.errors import ConfigurationError, GateRefused, InklingError
    from worker.settings import Settings

    if once and every is not None:
        raise typer.BadParameter("give --once or --every, not both")
    pause_s = None if every is None else _seconds(every)
    settings = Settings()
    options = CycleOptions(seed=seed, gate=GatePolicy(min_sessions=min_sessions, min_positives=min_positives))
    while True:
        started = time.monotonic()
        try:
            with _progress() as (tell, progress):
                report = run_cycle(settings, options, tell, progress)
            _print_report(report, as_json)
            if pause_s is None and not report.passed:
                raise GateRefused(f"the gate refused: {report.reason}")
        except ConfigurationError:
            raise
        except InklingError as error:
            if pause_s is None:
                raise
            # The next cycle begins anew from what scores then.
            typer.echo(f"this cycle failed: {error}", err=True)
        if pause_s is None:
            return
        time.sleep(max(started + pause_s - time.monotonic(), 0))


@contextmanager
def _progress() -> "Iterator[tuple[Callable[[str], None], Callable[[int, int, float], None]]]":
    """On stderr: a line for each step of the cycle, and a bar while it learns."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task("learning", total=None, visible=False)

        def step(done: int, steps: int, _: float) -> None:
            bars.update(bar, completed=done, total=steps, visible=done < steps)

        yield lambda line: console.print(line, markup=False, highlight=False), step


def _print_report(report: "CycleReport", as_json: bool) -> None:
    if as_json:
        print_json(report)
        return
    typer.echo(", ".join(f"{count} {name}" for name, count in report.sessions.items()) + f" sessions of {report.events} events")
    if report.decision is not None and report.decision.deciding is not None:
        heads = [report.decision.deciding, *report.decision.others]
        rows = [
            (
                head.name,
                f"{head.positives} of {head.events}",
                f"{head.champion_logloss:.5f}",
                f"{head.candidate_logloss:.5f}",
                f"{head.difference:+.5f} [{head.low:+.5f}, {head.high:+.5f}]",
                f"{head.champion_ece:.4f}",
                f"{head.candidate_ece:.4f}",
            )
            for head in heads
        ]
        champion = f"version {report.champion}"
        print_table(("head", "positive", champion, "candidate", "difference", f"ECE of {report.champion}", "ECE"), rows)
    if report.passed:
        typer.echo(f"version {report.version} is the champion: {report.reason}")


def _seconds(text: str) -> float:
    """A duration such as 90s, 30m or 2h."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
    try:
        seconds = float(text[:-1]) * units[text[-1:]]
    except (ValueError, KeyError):
        seconds = 0.0
    if not seconds > 0:
        raise typer.BadParameter(f"{text!r} is no duration; give 90s, 30m or 2h")
    return seconds
