"""`python -m tests.benchmarks.learning`: what share of a simulated shop's truth the recipe of `inkling train` finds.

Training sees what lies before the judging sessions, and labels that had matured by then. Scores are those of the network
as it is exported, of every event with just the rows that the worker would have had.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from tests.benchmarks.learning.measure import Doubles, Measured, measured
from tests.benchmarks.learning.sets import SETS, SetSpec, SimulatedSet, simulated_set
from training.evaluate import predict
from training.examples import examples_of
from training.history import fold_log
from training.make_version import learn
from training.read import logged
from training.serving import ServingModel
from worker.contract.events import HORIZONS
from worker.contract.features import FeatureSpec
from worker.contract.session import SessionPolicy
from worker.settings import TopicSettings

_console = Console()
_SESSION = HORIZONS.index("session")


def main() -> None:
    """Train and judge on each set and seed asked for; print a table, and write every figure to --out."""
    options = _options()
    results: dict[str, list[dict[str, float]]] = {}
    for spec in SETS:
        if options.sets and spec.name not in options.sets:
            continue
        for seed in options.seeds:
            made, seconds = run(spec, seed)
            results.setdefault(spec.name, []).append({"seed": seed, "seconds": round(seconds, 1), **made._asdict()})
            _console.print(
                f"{spec.name} {seed}: {made.share:.3f} of the Bayes skill, log-loss {made.log_loss:.5f} "
                f"({made.constant:.5f} constant, {made.bayes:.5f} Bayes), AUC {made.roc_auc:.4f} ({made.bayes_auc:.4f}), "
                f"first event {made.first_auc:.4f} ({made.bayes_first_auc:.4f}), "
                f"ECE {made.ece:.4f} (floor {made.floor:.4f}, Bayes {made.bayes_ece:.4f}), "
                f"level {made.level:+.4f}, {seconds:.0f} s",
                highlight=False, soft_wrap=True,
            )  # fmt: skip
    _console.print(_table(results))
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n")


def run(spec: SetSpec, seed: int) -> tuple[Measured, float]:
    """One set, learned and judged; and the seconds that learning took."""
    data = simulated_set(spec, seed)
    features, policy, partitions = FeatureSpec(), SessionPolicy(), TopicSettings().partitions
    history = fold_log(logged(data.events, partitions), features, policy, data.until_ms)
    started = time.monotonic()
    model = learn(examples_of(history), seed=seed).model
    seconds = time.monotonic() - started
    return measured(data, scores_of(model, data, features, policy, partitions)), seconds


def scores_of(model: ServingModel, data: SimulatedSet, features: FeatureSpec, policy: SessionPolicy, partitions: int) -> Doubles:
    """Purchase within the session, for each judging event."""
    whole = examples_of(fold_log(logged(data.events, partitions), features, policy))
    said = predict(model, whole)
    hashes = whole.rows["event_hash"][said.row]
    order = np.argsort(hashes)
    at = order[np.searchsorted(hashes[order], data.hashes)]
    assert np.array_equal(hashes[at], data.hashes), "every judging event has its score"
    return said.within[at, 0, _SESSION]


def _table(results: dict[str, list[dict[str, float]]]) -> Table:
    columns = (
        "set",
        "seeds",
        "share of Bayes skill",
        "log-loss less prevalence's",
        "AUC (Bayes)",
        "first event",
        "ECE less floor",
    )
    table = Table(*columns, "level", "seconds")
    for name, rows in results.items():
        mean = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
        share, over = [row["share"] for row in rows], [row["ece"] - row["floor"] for row in rows]
        more = [row["log_loss"] - row["constant"] for row in rows]
        table.add_row(
            name,
            str(len(rows)),
            f"{mean['share']:.3f} ({min(share):.3f}..{max(share):.3f})",
            f"{np.mean(more):+.5f} (at most {max(more):+.5f})",
            f"{mean['roc_auc']:.4f} ({mean['bayes_auc']:.4f})",
            f"{mean['first_auc']:.4f} ({mean['bayes_first_auc']:.4f})",
            f"{np.mean(over):+.4f} (at most {max(over):+.4f})",
            f"{mean['level']:+.4f}",
            f"{mean['seconds']:.0f}",
        )
    return table


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="*", choices=[spec.name for spec in SETS], help="all without")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
