"""`python -m tests.benchmarks.learning`: what share of a simulated shop's truth the recipe of `inkling train` finds.

Training sees what lies before the judging sessions, and labels that had matured by then. Scores are those of the network
as it is exported, of every event with just the rows that the worker would have had.
"""

import argparse
import json
import time

from rich.console import Console
from rich.table import Table

from tests.benchmarks.leaderboard.machine import RESULTS, SHOPS, machine
from tests.benchmarks.learning.ceiling import fitted_to_the_log
from tests.benchmarks.learning.measure import Doubles, Measured, measured
from tests.benchmarks.learning.sets import SETS, SetSpec, SimulatedSet, simulated_set
from tests.benchmarks.learning.table import Results, table
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
    """Train and judge on each set and seed asked for; print a table. Figures of other sets are kept from the last time."""
    options = _options()
    RESULTS.mkdir(parents=True, exist_ok=True)
    results: Results = json.loads(SHOPS.read_text()) if SHOPS.is_file() else {}
    for spec in SETS:
        if options.sets and spec.name not in options.sets:
            continue
        rows: list[dict[str, float]] = []
        for seed in options.seeds:
            made, ceiling, seconds = run(spec, seed)
            rows.append({"seed": seed, "seconds": round(seconds, 1), "ceiling": ceiling.expected_share, **made._asdict()})
            _console.print(
                f"{spec.name} {seed}: {made.expected_share:.3f} of the Bayes skill expected "
                f"({ceiling.expected_share:.3f} by the true kind, fitted), "
                f"{made.share:.3f} on these labels, "
                f"log-loss {made.log_loss:.5f} "
                f"({made.constant:.5f} constant, {made.bayes:.5f} Bayes), AUC {made.roc_auc:.4f} ({made.bayes_auc:.4f}), "
                f"first event {made.first_auc:.4f} ({made.bayes_first_auc:.4f}), "
                f"ECE {made.ece:.4f} (floor {made.floor:.4f}, Bayes {made.bayes_ece:.4f}), "
                f"level {made.level:+.4f}, {seconds:.0f} s",
                highlight=False, soft_wrap=True,
            )  # fmt: skip
        results[spec.name] = {"machine": machine(), "rows": rows}
        SHOPS.write_text(json.dumps(results, indent=1) + "\n")
    columns, cells = table(results)
    shown = Table(*columns)
    for row in cells:
        shown.add_row(*row)
    _console.print(shown)


def run(spec: SetSpec, seed: int) -> tuple[Measured, Measured, float]:
    """One set, learned and judged; what the truth's own kind comes to; and the seconds that learning took."""
    data = simulated_set(spec, seed)
    features, policy, partitions = FeatureSpec(), SessionPolicy(), TopicSettings().partitions
    history = fold_log(logged(data.events, partitions), features, policy, data.until_ms)
    started = time.monotonic()
    model = learn(examples_of(history), seed=seed).model
    seconds = time.monotonic() - started
    ceiling = measured(data, fitted_to_the_log(spec, data, seed))
    return measured(data, scores_of(model, data, features, policy, partitions)), ceiling, seconds


def scores_of(model: ServingModel, data: SimulatedSet, features: FeatureSpec, policy: SessionPolicy, partitions: int) -> Doubles:
    """Purchase within the session, for each judging event."""
    whole = examples_of(fold_log(logged(data.events, partitions), features, policy))
    said = predict(model, whole)
    hashes = whole.rows["event_hash"][said.row]
    return said.within[data.places_in(hashes), 0, _SESSION]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="*", choices=[spec.name for spec in SETS], help="all without")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    return parser.parse_args()


if __name__ == "__main__":
    main()
