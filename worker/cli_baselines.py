"""`inkling baselines`: the leaderboard of all techniques on one protocol."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from worker.cli_evaluate import print_tables, shown
from worker.cli_learning import report_invalid
from worker.errors import ConfigurationError
from worker.settings import Settings

#: Columns of the tables: title, and where in an entry the figure is; {} is the name of the entry that differences are to.
_TABLES: tuple[tuple[str, tuple[tuple[str, tuple[str, ...]], ...]], ...] = (
    (
        "Is a purchase ahead in the session?",
        (
            ("ROC AUC", ("purchase", "all", "roc_auc")),
            ("at first event", ("purchase", "1", "roc_auc")),
            ("PR AUC", ("purchase", "all", "pr_auc")),
            ("log-loss", ("purchase", "all", "log_loss")),
            ("log-loss less {}", ("purchase", "all", "minus_baseline", "log_loss")),
            ("share of skill", ("purchase", "all", "bayes", "skill_share")),
        ),
    ),
    (
        "How far can its probability be relied on, and acted on?",
        (
            ("Brier", ("purchase", "all", "brier")),
            ("ECE", ("purchase", "all", "ece")),
            ("its floor", ("purchase", "all", "ece_floor")),
            ("F1", ("threshold", "f1")),
            ("buyers recognised", ("earliness", "recognised")),
            ("by event 2", ("earliness", "recognised_by_2")),
        ),
    ),
    (
        "What comes next? (log-losses in nats, lists of items)",
        (
            ("type or end", ("next", "type_or_end", "log_loss")),
            ("type", ("next", "type", "log_loss")),
            ("category", ("next", "category", "log_loss")),
            ("item R@20", ("next", "item", "recall@20")),
            ("item MRR@20", ("next", "item", "mrr@20")),
            ("seconds to fit", ("seconds", "fit")),
        ),
    ),
)


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
    print_tables(_tables(document))


def _tables(document: dict[str, Any]) -> Iterator[Table]:
    for title, columns in _TABLES:
        cells = {
            column.format(document["against"]): [_cell(entry, path) for entry in document["entries"].values()]
            for column, path in columns
        }
        told = {column: values for column, values in cells.items() if any(values)}
        table = Table("", *told, title=title)
        for name, *row in zip(document["entries"], *told.values(), strict=True):
            table.add_row(name, *row)
        yield table


def _cell(entry: dict[str, Any], path: tuple[str, ...]) -> str:
    value: Any = entry
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return shown(value) if isinstance(value, list) or value is None else f"{value:.4g}"


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
