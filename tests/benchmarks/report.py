"""Results as tables: for the terminal, and for docs/performance.md."""

import os
import platform
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

Table = tuple[str, list[str], list[list[str]]]  # title, columns, rows

_LIBRARIES = ("aiokafka", "faust-streaming", "msgspec", "numpy")


def machine(peer_python: Path) -> dict[str, Any]:
    """What the figures were made on."""
    peers = subprocess.run([peer_python, "-c", _PEERS], capture_output=True, text=True, check=True).stdout.split()
    return {
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "kafka": "4.1.0",
        "libraries": [*(f"{name} {version(name)}" for name in _LIBRARIES), *peers],
    }


def cpu() -> str:
    """The processor's name."""
    return next(line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line)


def revision() -> str:
    """Of the working tree. Results that are written change it."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return described.stdout.strip() or "unknown"


def run_of(revision: str) -> dict[str, Any]:
    """What a part's figures are of that is measured now."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "revision": revision,
        "load": round(os.getloadavg()[0], 1),
    }


def tables(results: dict[str, Any]) -> Iterator[Table]:
    """One for each part that was measured."""
    for case, rates in results.get("throughput", {}).items():
        ours = rates["inkling"]["median"]
        rows = [
            [name, *(f"{figures[key]:,}" for key in ("median", "min", "max")), f"{ours / figures['median']:.2f}", figures["what"]]
            for name, figures in rates.items()
        ]
        yield f"Events a second: {case}", ["contestant", "median", "least", "greatest", "inkling / it", "does"], rows
    for kind, functions in results.get("profile", {}).items():
        column = "worker's function, with all that it calls" if kind == "within" else "any function, by itself"
        rows = [[f"`{name}`", f"{share:.1%}"] for name, share in functions]
        yield f"Where the worker's time goes: {column}", [column, "share of samples"], rows
    for part, title in (
        ("scale", "Many sessions"),
        ("processes", "One process and two"),
        ("recovery", "Recovery"),
        ("audit", "Audit"),
        ("failover", "A worker joins, a worker is killed"),
    ):
        if part in results:
            yield title, ["figure", "value"], [[name, f"{value:,}"] for name, value in results[part].items()]
    if "latency" in results:
        found = results["latency"]
        columns = list(found["rates"][0])
        rows = [[f"{row[name]:,}" for name in columns] for row in found["rates"]]
        yield f"Event to score with the model; saturation {found['saturation_events_s']:,} events/s", columns, rows


def _runs(results: dict[str, Any]) -> Table:
    """When the figures of each part were measured, of which revision, and how busy the machine was before."""
    rows = [[part, *(str(run[name]) for name in ("date", "revision", "load"))] for part, run in results["runs"].items()]
    return "Runs", ["part", "date", "revision", "load"], rows


def markdown(results: dict[str, Any], template: str) -> str:
    """docs/performance.md: what is told in the template, with the tables in place of its marks."""
    about = "\n".join(
        f"- {name}: {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in results["machine"].items()
    )
    shown = map(_markdown_table, (*tables(results), _runs(results)))
    return template.replace("{machine}", about).replace("{tables}", "\n\n".join(shown))


def _markdown_table(table: Table) -> str:
    title, columns, rows = table
    lines = [columns, ["---"] * len(columns), *rows]
    return f"### {title}\n\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


_PEERS = """
from importlib.metadata import version
for name in ("quixstreams", "confluent-kafka", "orjson"):
    print(f"{name}={version(name)}")
"""
