"""`inkling train` and `score`: from files of events to a version, to scores."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from worker.settings import Settings

if TYPE_CHECKING:
    from training.read import EventFiles


class Head(StrEnum):
    """What can be scored and judged."""

    PURCHASE = "purchase"
    CART = "cart"
    CHURN = "churn"


class Horizon(StrEnum):
    """`HORIZONS`, as the command line takes them."""

    M5 = "5m"
    M30 = "30m"
    SESSION = "session"
    H24 = "24h"
    D7 = "7d"


Files = Annotated[list[Path], typer.Argument(help="Events as JSON, one object a line; .gz by suffix.")]
Until = Annotated[int | None, typer.Option(metavar="MS", help="Use only events before this time, and labels known by then.")]


def train(
    files: Files,
    out: Annotated[Path, typer.Option(help="A new folder; becomes a complete version.")],
    until: Until = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same weights.")] = 0,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="One HTML file that tells how it went.")] = None,
    items: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help='Vectors of items, of texts or pictures, say: {"item_id", "vector"} a line; .gz by suffix.'
        ),
    ] = None,
) -> None:
    """Train a version from files of events. Killed and started again, it goes on where it was.

    Several processes train together by `torchrun --nproc-per-node 2 -m worker train ...`.
    """
    from training.distributed import rank, together
    from training.make_version import NEWEST_EVENTS, make_version
    from training.read import EventFiles, logged
    from worker.contract.features import FeatureSpec

    settings = Settings()
    partitions = settings.topics.partitions
    events = EventFiles(files)
    with together(), progress("training") as step:
        shown = rank() == 0
        made = make_version(
            lambda: logged(events.events(NEWEST_EVENTS, until), partitions),
            out,
            source=" ".join(path.name for path in files),
            spec=FeatureSpec(window=settings.session.window),
            policy=settings.session.policy,
            partitions=partitions,
            until_ms=until,
            seed=seed,
            progress=(lambda at, of, loss: step(at, of, f"loss {loss:.3f}")) if shown else None,
            report=report,
            left_out=events.left_out(NEWEST_EVENTS, until),
            items=items,
        )
    if not shown:
        return
    report_invalid(events)
    data = made.data
    typer.echo(f"{out}: version {made.manifest.version} of {data.events:,} events in {data.sessions:,} sessions")


def score(
    file: Annotated[Path, typer.Argument(help="Events as JSON, one object a line; .gz by suffix.")],
    model: Annotated[Path, typer.Option(help="A version folder.")],
    out: Annotated[Path, typer.Option(help='File for {"event_id", "score"} a line; .gz by suffix.')],
    head: Annotated[Head, typer.Option(help="What is predicted.")] = Head.PURCHASE,
    horizon: Annotated[Horizon, typer.Option(help="Within which time; churn knows none.")] = Horizon.SESSION,
) -> None:
    """Score every event of a file, as the worker would have when it came."""
    from training.read import EventFiles
    from training.score_file import score_file
    from training.version import load_version

    version = load_version(model)
    events = EventFiles([file])
    with progress("scoring") as step:
        scored = score_file(events, version, out, head=head.value, horizon=horizon.value, progress=step)
    report_invalid(events)
    if scored.prior:
        typer.echo(f"{scored.prior} scores are only the prior: their lines are no events", err=True)
    if scored.repeated or scored.nameless:
        typer.echo(f"not written: {scored.repeated} lines with a repeated event_id, {scored.nameless} without one", err=True)
    typer.echo(f"{out}: {scored.written:,} scores")


def report_invalid(events: "EventFiles") -> None:
    if events.invalid:
        reasons = ", ".join(f"{reason} {count}" for reason, count in events.invalid.most_common())
        typer.echo(f"{events.invalid.total()} of {events.lines} lines are no events: {reasons}", err=True)


@contextmanager
def progress(title: str) -> Iterator[Any]:
    """A bar on stderr: call it with (done, total, remark)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[remark]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None, remark="reading")
        yield lambda done, total, remark="": bar.update(task, completed=done, total=total, remark=remark)
