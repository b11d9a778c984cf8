"""The leaderboard as tables of text, for the terminal and for documents."""

from collections.abc import Iterator
from typing import Any

#: Title, columns, rows; the first column is the entry's name.
Table = tuple[str, list[str], list[list[str]]]
#: Where in an entry a figure is.
Path = tuple[str, ...]

#: Columns of the tables: title, and where in an entry the figure is; {} is the name of the entry that differences are to.
_COLUMNS: tuple[tuple[str, tuple[tuple[str, Path], ...]], ...] = (
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


def tables(document: dict[str, Any]) -> Iterator[Table]:
    """What `leaderboard` gave. A column that no entry has anything for is left out, and so is a table without columns."""
    entries = document["entries"]
    for title, columns in _COLUMNS:
        cells = {name.format(document["against"]): [_cell(entry, path) for entry in entries.values()] for name, path in columns}
        told = {name: values for name, values in cells.items() if any(values)}
        if told:
            yield title, ["", *told], [list(row) for row in zip(entries, *told.values(), strict=True)]


def shown(interval: list[float]) -> str:
    """[value, low, high] in a cell."""
    return "{:.4f} [{:.4f}, {:.4f}]".format(*interval)


def figure(entry: dict[str, Any], path: Path) -> Any:
    """What an entry has at the path: a number, [value, low, high], or None where it has nothing."""
    value: Any = entry
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _cell(entry: dict[str, Any], path: Path) -> str:
    value = figure(entry, path)
    if value is None:
        return ""
    return shown(value) if isinstance(value, list) else f"{value:.4g}"
