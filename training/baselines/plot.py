"""The leaderboard as a picture: each entry's figures as dots with their intervals."""

from pathlib import Path
from typing import Any

from worker.errors import ConfigurationError

#: Title, and where in an entry the figure is.
_PANELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("purchase: ROC AUC", ("purchase", "all", "roc_auc")),
    ("purchase: log-loss less {against}", ("purchase", "all", "minus_baseline", "log_loss")),
    ("purchase: share of the log-loss skill", ("purchase", "all", "bayes", "skill_share")),
    ("next type or end: log-loss", ("next", "type_or_end", "log_loss")),
    ("next item: MRR@20", ("next", "item", "mrr@20")),
)
_INCHES = (3.2, 0.32)  # a panel's width, an entry's height
_DOTS_PER_INCH = 110


def draw(document: dict[str, Any], out: Path) -> None:
    """Write the picture of what `leaderboard` gave. Raises ConfigurationError when it cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(document["entries"])
    panels = [(title, found) for title, path in _PANELS if (found := _found(document["entries"], path))]
    figure = Figure(
        figsize=(1.2 + _INCHES[0] * max(len(panels), 1), 1.2 + _INCHES[1] * len(names)), dpi=_DOTS_PER_INCH, layout="constrained"
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, max(len(panels), 1), sharey=True, squeeze=False)[0]
    for axis, (title, found) in zip(axes, panels, strict=False):
        for name, (value, low, high) in found.items():
            at = names.index(name)
            axis.plot([low, high], [at, at], color="0.6", linewidth=2, zorder=1)
            axis.scatter([value], [at], s=22, color="#1f5fa8" if name != "transformer" else "#c2410c", zorder=2)
        if "less" in title:
            axis.axvline(0, color="0.3", linewidth=0.8)
        axis.set_title(title.format(against=document["against"]), fontsize=9)
        axis.tick_params(labelsize=8)
        axis.grid(axis="x", color="0.9")
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    figure.suptitle(f"{document['file']}: {document['test']['sessions']:,} judging sessions", fontsize=10)
    try:
        # Without the library's name and version inside, the same figures make the same file.
        figure.savefig(out, format="png", metadata={"Software": None})
    except OSError as error:
        raise ConfigurationError(f"{out}: cannot be written: {error.strerror}") from error


def _found(entries: dict[str, Any], path: tuple[str, ...]) -> dict[str, list[float]]:
    found = {}
    for name, entry in entries.items():
        value: Any = entry
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            found[name] = value
    return found
