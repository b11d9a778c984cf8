"""`python -m tests.benchmarks`: everything that is said about speed, measured on one machine in one go."""

import argparse
import asyncio
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from deploy.local.stack import LocalStack
from tests.benchmarks import audit, failover, latency, processes, profile, recovery, report, scale, throughput
from tests.benchmarks.broker import fresh_topics
from tests.benchmarks.clicks import Click, send_all, simulated_clicks, stream_clicks
from tests.benchmarks.process import PEER_PYTHON

PARTS = ("scale", "throughput", "full", "processes", "profile", "recovery", "audit", "failover", "latency")
_HERE = Path(__file__).parent
_RESULTS = _HERE / "results.json"
_DOCS = _HERE.parents[1] / "docs" / "performance.md"
_VISITORS = 20_000
#: Spread so that a visitor's sessions are apart (at 6,000 an hour), or run into each other and fill the window.
_CALM, _CROWDED = 6_000.0, 40_000.0
_CROWDED_VISITORS = 2_000
_FAILOVER_EVENTS, _LATENCY_EVENTS = 60_000, 500_000
#: So many that the audit's start, and its first clicks of every partition, which it folds twice, do not decide its rate.
_AUDITED = 2_000_000

_console = Console()


def main() -> None:
    """Run the parts asked for; results of other parts are kept from the last time."""
    options = _options()
    known = json.loads(_RESULTS.read_text()) if _RESULTS.exists() else {}
    revision = report.revision()
    results: dict[str, Any] = {**known, "machine": report.machine(PEER_PYTHON)}
    with tempfile.TemporaryDirectory(prefix="inkling-bench-") as directory:
        work = Path(directory)
        with_triton = "latency" in options.parts
        with LocalStack(work / "stack", with_triton=with_triton, with_prometheus=False) as stack:
            for part in options.parts:
                run = report.run_of(revision)
                _console.print(f"[bold]{part}[/bold] (load {run['load']})")
                results.setdefault("runs", {})[part] = run
                _run(part, stack, options, work, results)
                _RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    for title, columns, rows in report.tables(results):
        table = Table(*columns, title=title, title_justify="left")
        for row in rows:
            table.add_row(*row)
        _console.print(table)
    if options.write_docs:
        _DOCS.write_text(report.markdown(results, (_HERE / "performance.template.md").read_text()))


def _run(part: str, stack: LocalStack, options: argparse.Namespace, work: Path, results: dict[str, Any]) -> None:
    bootstrap = stack.addresses.kafka
    match part:
        case "throughput":
            clicks = simulated_clicks(options.events, _VISITORS, options.seed, _CALM)
            title = f"{options.events:,} events of {_VISITORS:,} visitors"
            results.setdefault("throughput", {})[title] = _race(bootstrap, clicks, options.rounds, work)
        case "full":
            clicks = simulated_clicks(options.events, _CROWDED_VISITORS, options.seed, _CROWDED)
            title = f"windows full, {options.events:,} events of {_CROWDED_VISITORS:,} visitors"
            results.setdefault("throughput", {})[title] = _race(bootstrap, clicks, options.rounds, work)
        case "processes":
            clicks = simulated_clicks(options.events, _VISITORS, options.seed, _CALM)
            topic = _topic(bootstrap, clicks)
            results["processes"] = processes.measure(bootstrap, topic, len(clicks), options.rounds, work)
        case "profile":
            clicks = simulated_clicks(options.events, _VISITORS, options.seed, _CALM)
            topic = _topic(bootstrap, clicks)
            ours = throughput.contestants()[0]
            results["profile"] = profile.measure(bootstrap, topic, len(clicks), ours, work)
        case "scale":
            results["scale"] = scale.measure()
        case "recovery":
            results["recovery"] = recovery.measure(bootstrap, options.sessions, work)
        case "audit":
            topic = _topic(bootstrap, stream_clicks(options.audited, _VISITORS, options.seed, _CALM))
            results["audit"] = audit.measure(bootstrap, topic, options.audited, options.rounds, work)
        case "failover":
            clicks = simulated_clicks(_FAILOVER_EVENTS, _VISITORS, options.seed, _CALM)
            results["failover"] = failover.measure(bootstrap, clicks, work)
        case "latency":
            clicks = simulated_clicks(_LATENCY_EVENTS, _VISITORS, options.seed, _CALM)
            results["latency"] = latency.measure(stack, clicks, options.seconds, work)


def _race(bootstrap: str, clicks: list[Click], rounds: int, work: Path) -> dict[str, Any]:
    entered = throughput.contestants()
    topics = {}
    for share in {one.share for one in entered}:
        some = clicks[: int(len(clicks) * share)]
        topics[share] = (_topic(bootstrap, some), len(some))
    rates = throughput.run_rounds(bootstrap, topics, entered, rounds, work, _console.print)
    return {one.name: {**throughput.summary(rates[one.name]), "what": one.what} for one in entered}


def _topic(bootstrap: str, clicks: Iterable[Click]) -> str:
    topic = fresh_topics(bootstrap).clicks
    asyncio.run(send_all(bootstrap, topic, clicks))
    return topic


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", default=[], choices=[*PARTS, []], metavar="PART", help=f"of {', '.join(PARTS)}; all")
    parser.add_argument("--events", type=int, default=400_000, help="clicks in a race (stock Faust gets a twentieth of them)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--sessions", type=int, default=100_000, help="sessions that are read back")
    parser.add_argument("--audited", type=int, default=_AUDITED, help="clicks that are audited, with as many scores")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each rate of the latency part is held")
    parser.add_argument("--write-docs", action="store_true", help="write docs/performance.md from the results")
    options = parser.parse_args()
    options.parts = options.parts or PARTS
    return options


if __name__ == "__main__":
    main()
