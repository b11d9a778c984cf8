"""`inkling evaluate`: how good a version is, in figures with intervals."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from worker.cli_learning import Head, Horizon, Until, report_invalid

if TYPE_CHECKING:
    from training.compare import Learner
    from training.version import LoadedVersion

#: Columns where there is no terminal to say how many fit.
_WIDE = 260
_PREVALENCE = "prevalence"
_FIGURES = (("ROC AUC", "roc_auc"), ("PR AUC", "pr_auc"), ("log-loss", "log_loss"), ("Brier", "brier"), ("ECE", "ece"))


def evaluate(
    file: Annotated[Path, typer.Argument(help="Events as JSON, one object a line; .gz by suffix.")],
    model: Annotated[Path, typer.Option(help="A version folder.")],
    baseline: Annotated[
        str,
        typer.Option(
            help="prevalence (that of the version's own training), another version folder, or the name of a baseline, "
            "which learns from what the file holds from before the version's training ended."
        ),
    ] = _PREVALENCE,
    since: Annotated[int | None, typer.Option(metavar="MS", help="Judge only sessions that began at or after this time.")] = None,
    until: Until = None,
    head: Annotated[Head, typer.Option(help="What is predicted.")] = Head.PURCHASE,
    horizon: Annotated[Horizon, typer.Option(help="Within which time; churn knows none.")] = Horizon.SESSION,
    truth: Annotated[
        Path | None, typer.Option(help='Exact probabilities, {"event_id", "p"} a line: tells the share of what can be known.')
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of a baseline that learns.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable, on stdout.")] = False,
) -> None:
    """How good a version is on a file's events: by prefix length, seen and unseen items, new and returning visitors.

    Intervals are of 95%, by drawing whole sessions.
    """
    from training.compare import Judgement, compare_versions
    from training.read import EventFiles
    from training.version import load_version

    version = load_version(model)
    events = EventFiles([file])
    document = compare_versions(
        events, version, _baseline(baseline, seed), Judgement(head.value, horizon.value, since, until), truth
    )
    report_invalid(events)
    if document["seen_in_training"]:
        typer.echo(f"{document['seen_in_training']:,} of the events lie before the version's training ended; --since "
                   f"{version.data.until_ms} leaves them out", err=True)  # fmt: skip
    if as_json:
        typer.echo(json.dumps(document, allow_nan=False))
        return
    print_tables(_tables(document))


def _baseline(name: str, seed: int) -> "LoadedVersion | tuple[str, Learner] | None":
    from training.baselines.line_up import BASELINES, learner
    from training.version import load_version
    from worker.errors import ConfigurationError

    if name == _PREVALENCE:
        return None
    if name in BASELINES:
        return name, learner(name, seed)
    if not Path(name).is_dir():
        raise ConfigurationError(f"--baseline {name}: neither a version folder nor one of {', '.join((_PREVALENCE, *BASELINES))}")
    return load_version(Path(name))


def _tables(document: dict[str, Any]) -> list[Table]:
    baseline = document["baseline"]
    table = Table("events", "number", "positives", *(title for title, _ in _FIGURES), "its floor", f"log-loss less {baseline}")
    for name, part in document["metrics"].items():
        floor = part.get("ece_floor")
        table.add_row(
            name if not name.isdigit() else f"position {name}",
            f"{part['events']:,}",
            f"{part['positives']:,}",
            *(shown(part.get(figure)) for _, figure in _FIGURES),
            "" if floor is None else f"{floor:.4f}",
            shown(part.get("minus_baseline", {}).get("log_loss")),
        )
    more = Table("figure", "value", f"less {baseline}")
    bayes = document["metrics"]["all"].get("bayes")
    if bayes:
        more.add_row(
            "share of the exact probabilities' log-loss skill", shown(bayes["skill_share"]), shown(bayes["minus_baseline"])
        )
        more.add_row("log-loss less that of the exact probabilities", shown(bayes["minus_exact"]), "")
    for part, figures in (("threshold", document.get("threshold", {})), ("earliness", document["earliness"]),
                          *((f"next {name}", each) for name, each in document["next"].items())):  # fmt: skip
        for name, value in figures.items():
            if isinstance(value, list):
                more.add_row(f"{part}: {name}", shown(value), shown(figures.get("minus_baseline", {}).get(name)))
    return [table, more]


def print_tables(tables: Iterable[Table]) -> None:
    """On stdout; in a file or a pipe as wide as they need to be."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDE)
    for table in tables:
        console.print(table)


def shown(interval: list[float] | None) -> str:
    """[value, low, high] for a table's cell."""
    return "" if interval is None else "{:.4f} [{:.4f}, {:.4f}]".format(*interval)
