"""`inkling baselines`: the leaderboard of all techniques on one protocol."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from worker.cli_evaluate import print_tables
from worker.cli_learning import report_invalid
from worker.errors import ConfigurationError
from worker.settings import Settings


def baselines(
    file: Annotated[Path, typer.Argument(help="Events as JSON, one object a line; .gz by suffix.")],
    until: Annotated[
        int | None,
        typer.Option(metavar="MS", help="Learn from what lies before, judge by sessions that begin then or later; "
                     "without it the last fifth of the sessions judges."),
    ] = None,
    only: Annotated[str | None, typer.Option(metavar="NAME,...", help="Only these baselines.")] = None,
    against: Annotated[str, typer.Option(metavar="NAME", help="Whose figures are taken off in the differences.")] = "lightgbm",
    truth: Annotated[
        Path | None, typer.Option(help='Exact probabilities, {"event_id", "p"} a line: tells the share of what can be known.')
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same figures.")] = 0,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw the figures with their intervals.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable, on stdout.")] = False,
) -> None:  # fmt: skip
    """Fit every technique to the earlier part of a file and judge it by the later part, with intervals of 95%."""
    from training.baselines.line_up import BASELINES
    from training.baselines.protocol import leaderboard, make_task
    from training.baselines.tables import tables
    from training.read import EventFiles
    from training.truth_file import read_truth
    from worker.contract.features import FeatureSpec

    names = list(BASELINES) if only is None else [name.strip() for name in only.split(",")]
    unknown = [name for name in (*names, against) if name not in BASELINES]
    if unknown:
        raise ConfigurationError(f"no baseline is called {unknown[0]!r}; there are {', '.join(BASELINES)}")
    if plot is not None and not plot.resolve().parent.is_dir():
        raise ConfigurationError(f"{plot}: there is no such folder")
    settings = Settings()
    events = EventFiles([file])
    with _status() as tell:
        tell("reading")
        task = make_task(
            events,
            spec=FeatureSpec(window=settings.session.window),
            policy=settings.session.policy,
            partitions=settings.topics.partitions,
            until_ms=until,
            truth=None if truth is None else read_truth(truth),
        )
        document = {"file": file.name, **leaderboard(task, names, against, seed, tell)}
    report_invalid(events)
    if plot is not None:
        from training.baselines.plot import draw

        draw(document, plot)
    if as_json:
        typer.echo(json.dumps(document, allow_nan=False))
        return
    about = "{sessions:,} sessions, {events:,} events, {buyers:,} buyers"
    typer.echo(f"learned from {about.format(**document['train'])}; judged by {about.format(**document['test'])}")
    print_tables(_table(*table) for table in tables(document))


def _table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*row)
    return table


@contextmanager
def _status() -> Iterator[Callable[[str], None]]:
    """What is being done, on stderr: call it with a line."""
    console = Console(stderr=True)
    with console.status("") as status:

        def tell(line: str) -> None:
            status.update(line)
            if not console.is_terminal:
                console.print(line, highlight=False)

        yield tell
