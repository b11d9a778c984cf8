"""How much the figures of what `inkling train` makes depend on the seed of its training."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from training.baselines.protocol import Task, Tell, leaderboard
from training.baselines.tables import Path, Table, figure

OURS = "transformer"
_CHEAP = "prevalence"  # what differences are to is fitted with each seed, and not looked at here
_FIGURES: tuple[tuple[str, Path], ...] = (
    ("purchase log-loss", ("purchase", "all", "log_loss")),
    ("share of skill", ("purchase", "all", "bayes", "skill_share")),
    ("ROC AUC", ("purchase", "all", "roc_auc")),
    ("at first event", ("purchase", "1", "roc_auc")),
    ("ECE", ("purchase", "all", "ece")),
    ("type or end", ("next", "type_or_end", "log_loss")),
    ("category", ("next", "category", "log_loss")),
    ("item R@20", ("next", "item", "recall@20")),
    ("item MRR@20", ("next", "item", "mrr@20")),
    ("seconds to fit", ("seconds", "fit")),
)


def over_seeds(task: Task, entry: dict[str, Any], seeds: Iterable[int], tell: Tell) -> dict[str, list[float]]:
    """Each figure of `entry`, ours by the first seed, followed by those of further seeds."""
    entries = [entry]
    for seed in seeds:
        tell(f"seed {seed}")
        entries.append(leaderboard(task, [OURS], _CHEAP, seed, tell)["entries"][OURS])
    found = {title: [figure(one, path) for one in entries] for title, path in _FIGURES}
    # Of a figure with an interval, the figure.
    return {
        title: [value[0] if isinstance(value, list) else value for value in values]
        for title, values in found.items()
        if None not in values
    }


def seeds_table(figures: dict[str, list[float]]) -> Table:
    """A row for each figure: mean, standard deviation, smallest and largest."""
    rows = [
        [title, f"{np.mean(values):.4g}", f"{np.std(values, ddof=1):.2g}", f"{min(values):.4g}", f"{max(values):.4g}"]
        for title, values in figures.items()
    ]
    count = max(map(len, figures.values()))
    return f"The {OURS} over {count} seeds", ["", "mean", "standard deviation", "smallest", "largest"], rows
