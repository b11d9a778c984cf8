"""What a panel is, and how its queries are written."""

from dataclasses import dataclass
from typing import Literal

#: An expression and its legend.
Query = tuple[str, str]

_MATCH = 'job=~"$job", instance=~"$instance"'


@dataclass(frozen=True)
class Panel:
    """One panel, `width` of 24 columns wide.

    `limits` are values from which it is drawn in the next colour: red, or amber and red; `better` says which side is green.
    """

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: Literal["lines", "number", "heatmap"] = "lines"
    width: int = 8
    limits: tuple[float, ...] = ()
    better: Literal["low", "high"] = "low"
    stacked: bool = False


@dataclass(frozen=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


def query(expression: str, legend: str) -> Query:
    """`%` becomes the matchers of the dashboard's variables, `[~]` the rate's interval."""
    return expression.replace("%", _MATCH).replace("[~]", "[$__rate_interval]"), legend


def quantiles(metric: str) -> tuple[Query, ...]:
    """The middle and the slow end of a histogram."""
    return tuple(
        query(f"histogram_quantile({share}, sum by (le) (rate({metric}_bucket{{%}}[~])))", f"p{share * 100:g}")
        for share in (0.5, 0.99)
    )
