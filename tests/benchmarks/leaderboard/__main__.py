"""`make bench-learning`: the leaderboard of each log, as docs/learning.md.

    python -m tests.benchmarks.leaderboard [SET ...] [--write-docs | --only-docs] [--seed S] [--more-seeds N]

What a set came to is kept under .inkling/learning, so that sets can be run one at a time; the document is made of all that
have been run. Real files are looked for in INKLING_TEST_DATA, by default ../shared/data, and left out where they are not.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks.leaderboard.machine import RESULTS, ROOT, SHOPS, machine
from tests.benchmarks.leaderboard.seeds import OURS, over_seeds, seeds_table
from tests.benchmarks.learning.table import section
from training.baselines.line_up import BASELINES
from training.baselines.plot import draw
from training.baselines.protocol import leaderboard, make_task
from training.baselines.tables import tables
from training.read import EventFiles
from training.simulate import load_shop, simulate
from worker.contract.codec import encode
from worker.contract.features import FeatureSpec
from worker.contract.session import SessionPolicy
from worker.settings import TopicSettings

_DOCUMENT = ROOT / "docs" / "learning.md"
_TEMPLATE = Path(__file__).with_name("learning.template.md")
_AGAINST = "lightgbm"
#: 2026-01-05T00:00:00Z, a Monday; the simulated sessions spread over two weeks from there.
_START_MS, _HOURS = 1_767_571_200_000, 14 * 24.0


class Simulated(NamedTuple):
    """A shipped shop, so many sessions of it, and the seed they are made by."""

    shop: str
    sessions: int
    seed: int


class Real(NamedTuple):
    """A file, and where it comes from."""

    name: str
    source: str


#: 80% of the sessions train: more than 14 thousand of the simulated ones.
SETS: dict[str, Simulated | Real] = {
    "simulated": Simulated("electronics", 18_000, 5),
    "diginetica": Real("diginetica.jsonl.gz", "CIKM Cup 2016; purchases can be trusted"),
    "yoochoose": Real("yoochoose.jsonl.gz", "RecSys Challenge 2015; views alone"),
    "electronics": Real("rees46_electronics.jsonl.gz", "REES46 Marketing Platform; purchase and cart flags are damaged"),
}


def main() -> None:
    """Run the sets asked for, or all; then write the document if told to."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.leaderboard", description="The leaderboard of each log.")
    parser.add_argument("sets", nargs="*", choices=[[], *SETS], metavar="SET", help=", ".join(SETS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--more-seeds", type=int, default=4, metavar="N", help="train ours with N seeds more (default 4)")
    parser.add_argument("--write-docs", action="store_true", help="write docs/learning.md of all sets that have been run")
    parser.add_argument("--only-docs", action="store_true", help="the same, without running any")
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in () if options.only_docs else options.sets or SETS:
        result = run(SETS[name], options.seed, options.more_seeds)
        if result is None:
            print(f"{name}: the file is not there, left out", file=sys.stderr)
            continue
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
        draw(result, RESULTS / f"{name}.png")
        print(f"\n{_section(name, result)}")
    if options.write_docs or options.only_docs:
        _DOCUMENT.write_text(document())
        print(f"{_DOCUMENT.relative_to(ROOT)} written; pictures are in {RESULTS.relative_to(ROOT)}", file=sys.stderr)


def run(one: Simulated | Real, seed: int, more_seeds: int) -> dict[str, Any] | None:
    """The leaderboard of a set; None where its file is not there."""
    if isinstance(one, Real):
        path = Path(os.environ.get("INKLING_TEST_DATA", ROOT.parent / "shared" / "data")) / one.name
        return _judged(path, None, seed, more_seeds) if path.is_file() else None
    stream = simulate(load_shop(one.shop), one.sessions, one.seed, _START_MS, hours=_HOURS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "simulated.jsonl"
        path.write_bytes(b"".join(encode(event) + b"\n" for event in stream.events()))
        return _judged(path, stream.truth_by_id(), seed, more_seeds)


def document() -> str:
    """docs/learning.md: what the template tells, with the sections of the sets in place of its mark."""
    found = {name: path for name in SETS if (path := RESULTS / f"{name}.json").is_file()}
    sections = [_section(name, json.loads(path.read_text())) for name, path in found.items()]
    if SHOPS.is_file():
        sections.append(section(json.loads(SHOPS.read_text())))
    return _TEMPLATE.read_text().replace("{sections}", "\n\n".join(sections))


def _judged(path: Path, truth: dict[str, float] | None, seed: int, more_seeds: int) -> dict[str, Any]:
    task = make_task(
        EventFiles([path]), spec=FeatureSpec(), policy=SessionPolicy(), partitions=TopicSettings().partitions, truth=truth
    )
    made = leaderboard(task, list(BASELINES), _AGAINST, seed, _tell)
    more = range(seed + 1, seed + 1 + more_seeds)
    seeds = over_seeds(task, made["entries"][OURS], more, _tell) if more_seeds else None
    return {"file": path.name, "machine": machine(), **made, "seeds": seeds}


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _section(name: str, result: dict[str, Any]) -> str:
    one = SETS[name]
    what = f"`{one.name}`: {one.source}." if isinstance(one, Real) else (
        f"The shipped shop `{one.shop}`, {one.sessions:,} sessions by seed {one.seed}; its exact probabilities are known."
    )  # fmt: skip
    about = "{sessions:,} sessions, {events:,} events, {buyers:,} buyers"
    lines = [
        f"## {name.capitalize()}", "", what,
        f"Learned from {about.format(**result['train'])}; judged by {about.format(**result['test'])}.",
        f"Seed {result['seed']}; {', '.join(result['machine'])}.",
    ]  # fmt: skip
    for title, columns, rows in (*tables(result), *([seeds_table(result["seeds"])] if result["seeds"] else ())):
        lines += ["", f"### {title}", "", *(f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows))]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
