"""Harm real workers on genuine Kafka and Triton, and check what they leave: `python -m tests.faults.real --help`."""

import argparse
import asyncio
import contextlib
import logging
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable
from pathlib import Path

import msgspec

from deploy.local.stack import LocalStack
from tests.faults.mutants import MUTANTS
from tests.faults.real.catalogue import FLOOD, SCENARIOS, Scenario
from tests.faults.real.check import Verdict
from tests.faults.real.stage import Stage
from tests.faults.real.table import Played, table


def main() -> int:
    """Returns 1 when a scenario has findings."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.real", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="decides clicks, moments and order (default 0)")
    parser.add_argument("--only", nargs="+", choices=sorted(SCENARIOS), metavar="NAME", help=f"of {', '.join(SCENARIOS)}")
    parser.add_argument("--events", type=int, default=12_000, help="clicks of each scenario (default 12000)")
    parser.add_argument("--flood", type=int, default=1_000_000, help="records of the scenario flood (default 1000000)")
    parser.add_argument("--json", type=Path, help="where to write the table (default .inkling/faults-SEED.json)")
    parser.add_argument(
        "--bug", choices=sorted(MUTANTS), metavar="NAME", default="", help="put one of the simulation's mutants in"
    )
    parser.add_argument("--keep", type=Path, help="keep logs and Kafka's data in this folder")
    arguments = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # our own clients lose the broker, too
    chosen = [SCENARIOS[name] for name in arguments.only or SCENARIOS]
    random.Random(arguments.seed).shuffle(chosen)
    with contextlib.ExitStack() as exits:
        work = arguments.keep or Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="inkling-faults-")))
        played = run(chosen, arguments.seed, arguments.events, arguments.flood, work, arguments.bug)
    print(table(played))
    path = arguments.json or Path(".inkling") / f"faults-{arguments.seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(played)))
    return int(any(not one.verdict.ok for one in played))


def run(scenarios: Iterable[Scenario], seed: int, events: int, flood: int, work: Path, bug: str) -> list[Played]:
    """Play the scenarios, those without a model server first, each kind on a stack of its own."""
    played: list[Played] = []
    for with_model in (False, True):
        wanted = [scenario for scenario in scenarios if scenario.with_model == with_model]
        if not wanted:
            continue
        folder = work / ("with-triton" if with_model else "kafka")
        with LocalStack(folder, with_triton=with_model, with_prometheus=False, require_model=with_model) as stack:
            for scenario in wanted:
                clicks = flood if scenario.name == FLOOD else events
                played.append(asyncio.run(play(stack, scenario, seed, clicks, folder / "scenarios", bug=bug)))
                _tell(played[-1])
    return played


def _tell(one: Played) -> None:
    line, _, *findings = table([one]).splitlines()[1:]
    print("\n".join([line, *findings]), file=sys.stderr, flush=True)


async def play(
    stack: LocalStack, scenario: Scenario, seed: int, events: int, work: Path, rounds: int = 3, bug: str = ""
) -> Played:
    """One scenario, and what the checker says. Whatever goes wrong is a finding. `bug` is a known one, put into all workers."""
    started = time.monotonic()
    stage = Stage(stack, scenario, seed, events, work, rounds, bug)
    try:
        await stage.make_topics(scenario.clicks_config)
        injected = await scenario.play(stage)
        verdict = await stage.judge()
    except Exception as error:  # told with the scenario's name and seed, and the others are still played
        ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "tests/faults/real" in frame.filename]
        where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(ours))
        told = f"{type(error).__name__} in {where}: {error}"
        injected, verdict = "did not go to its end", Verdict(findings=[told, *stage.findings])
    finally:
        stage.clear()
    return Played(scenario.name, seed, injected, verdict, time.monotonic() - started)


if __name__ == "__main__":
    sys.exit(main())
