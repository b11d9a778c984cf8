"""The figures of all sets as a table, for the terminal and for docs/learning.md."""

from typing import Any

import numpy as np

from tests.benchmarks.learning.sets import SETS, SetSpec

#: By set: `machine`, and a row for each seed, its figures by name.
Results = dict[str, dict[str, Any]]

#: In nats. Of less, or of none, no share can be told; nor of a blind shop, where it is luck.
_LEAST_SKILL = 0.001

_COLUMNS = (
    "shop", "sessions", "seeds", "expected share of skill", "of the true kind, fitted", "share on these labels",
    "log-loss less constant's", "of the truth", "ROC AUC", "of the truth",
    "at first event", "of the truth", "ECE less floor", "level", "seconds",
)  # fmt: skip


def table(results: Results) -> tuple[tuple[str, ...], list[list[str]]]:
    """Titles of the columns, and a row for each set that has results."""
    return _COLUMNS, [_row(spec, results[spec.name]["rows"]) for spec in SETS if spec.name in results]


def section(results: Results) -> str:
    """What docs/learning.md says of them."""
    columns, rows = table(results)
    machines = sorted({", ".join(one["machine"]) for one in results.values()})
    lines = [
        "## Simulated shops",
        "",
        "What `inkling train` makes of shops whose truth is known, on the first four fifths of their sessions "
        "(`python -m tests.benchmarks.learning`): a log of its own for each seed, mean and, in brackets, the least and most.",
        "A shop's parameters were fitted to a real file; *strange*: all of them are moved by chance; *ramp*: its rates drift; "
        "*blind*: nothing tells who buys. Level is the mean score less the share of buyers.",
        "",
        "The share of skill is told as the truth has one expect it, and on these labels, whose luck moves it by a tenth "
        "where little can be foreseen. *The true kind, fitted* is the truth's own model, fitted to the same sessions by "
        "expectation maximisation from the true parameters on: what it lacks the log does not tell. It knows no drift, so"
        " on *ramp* it is no bound.",
        "",
        "Nine tenths are found of electronics, rees46-like and ramp, less of the strange shops, and half and three fifths"
        " of the two where the truth saves .001 to .002: a few hundred buyers tell little, and that, by luck, a tenth more "
        "of them are among the sessions learned from than the truth has costs .0003 by itself. Tried without gain: twice "
        "the filter's steps, states held nearer together, a readiness by how many more bought in a category than the "
        "filter expects; and, before scores started at the filter, four times the sessions (strange-often) and a mean of "
        "four networks (strange-rare: .41 to .45). Small and blind shops are there for what a log must not be made to "
        "say: the loss should stay near the constant's.",
        "",
        *(f"{one}." for one in machines),
        "",
        *(f"| {' | '.join(cells)} |" for cells in (columns, ("---",) * len(columns), *rows)),
    ]
    return "\n".join(lines)


def _row(spec: SetSpec, rows: list[dict[str, float]]) -> list[str]:
    mean = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}

    tells = not spec.blind and mean["constant"] - mean["bayes"] > _LEAST_SKILL

    def spread(values: list[float], form: str) -> str:
        return f"{np.mean(values):{form}} ({min(values):{form}} to {max(values):{form}})"

    return [
        spec.name,
        f"{spec.sessions:,}",
        str(len(rows)),
        *(spread([row[share] for row in rows], ".3f") if tells else "" for share in ("expected_share", "ceiling", "share")),
        spread([row["log_loss"] - row["constant"] for row in rows], "+.5f"),
        f"{mean['bayes'] - mean['constant']:+.5f}",
        f"{mean['roc_auc']:.4f}",
        f"{mean['bayes_auc']:.4f}",
        f"{mean['first_auc']:.4f}",
        f"{mean['bayes_first_auc']:.4f}",
        spread([row["ece"] - row["floor"] for row in rows], "+.4f"),
        f"{mean['level']:+.4f}",
        f"{mean['seconds']:.0f}",
    ]
