"""`inkling train`, `score` and `evaluate`: from files of events to a version, to scores, to figures."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

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
) -> None:
    """Train a version from files of events."""
    from training.make_version import NEWEST_EVENTS, make_version
    from training.read import EventFiles, logged
    from worker.contract.features import FeatureSpec

    settings = Settings()
    partitions = settings.topics.partitions
    events = EventFiles(files)
    with _progress("training") as step:
        made = make_version(
            lambda: logged(events.events(NEWEST_EVENTS, until), partitions),
            out,
            source=" ".join(path.name for path in files),
            spec=FeatureSpec(window=settings.session.window),
            policy=settings.session.policy,
            partitions=partitions,
            until_ms=until,
            seed=seed,
            progress=lambda at, of, loss: step(at, of, f"loss {loss:.3f}"),
        )
    _report_invalid(events)
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
    with _progress("scoring") as step:
        scored = score_file(events, version, out, head=head.value, horizon=horizon.value, progress=step)
    _report_invalid(events)
    if scored.prior:
        typer.echo(f"{scored.prior} scores are only the prior: their lines are no events", err=True)
    if scored.repeated or scored.nameless:
        typer.echo(f"not written: {scored.repeated} lines with a repeated event_id, {scored.nameless} without one", err=True)
    typer.echo(f"{out}: {scored.written:,} scores")


def evaluate(
    file: Annotated[Path, typer.Argument(help="Events as JSON, one object a line; .gz by suffix.")],
    model: Annotated[Path, typer.Option(help="A version folder.")],
    baseline: Annotated[
        str, typer.Option(help="prevalence (that of the version's own training), or another version folder.")
    ] = "prevalence",
    since: Annotated[int | None, typer.Option(metavar="MS", help="Judge only sessions that began at or after this time.")] = None,
    until: Until = None,
    head: Annotated[Head, typer.Option(help="What is predicted.")] = Head.PURCHASE,
    horizon: Annotated[Horizon, typer.Option(help="Within which time; churn knows none.")] = Horizon.SESSION,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable, on stdout.")] = False,
) -> None:
    """How good a version is on a file's events, by prefix length, with intervals."""
    from training.compare import compare_versions
    from training.read import EventFiles
    from training.version import load_version

    version = load_version(model)
    other = None if baseline == "prevalence" else load_version(Path(baseline))
    events = EventFiles([file])
    document = compare_versions(events, version, other, head=head.value, horizon=horizon.value, since_ms=since, until_ms=until)
    _report_invalid(events)
    if document["seen_in_training"]:
        typer.echo(f"{document['seen_in_training']:,} of the events lie before the version's training ended; --since "
                   f"{version.data.until_ms} leaves them out", err=True)  # fmt: skip
    if as_json:
        typer.echo(json.dumps(document, allow_nan=False))
        return
    table = Table("prefix", "events", "positives", *(title for title, _ in _FIGURES), "log-loss less baseline")
    for prefix, part in document["metrics"].items():
        shown = [_shown(part.get(name)) for _, name in _FIGURES]
        table.add_row(
            prefix,
            f"{part['events']:,}",
            f"{part['positives']:,}",
            *shown,
            _shown(part.get("minus_baseline", {}).get("log_loss")),
        )
    Console().print(table)


_FIGURES = (("ROC AUC", "roc_auc"), ("PR AUC", "pr_auc"), ("log-loss", "log_loss"), ("ECE", "ece"))


def _shown(interval: list[float] | None) -> str:
    return "" if interval is None else "{:.4f} [{:.4f}, {:.4f}]".format(*interval)


def _report_invalid(events: "EventFiles") -> None:
    if events.invalid:
        reasons = ", ".join(f"{reason} {count}" for reason, count in events.invalid.most_common())
        typer.echo(f"{events.invalid.total()} of {events.lines} lines are no events: {reasons}", err=True)


@contextmanager
def _progress(title: str) -> Iterator[Any]:
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
