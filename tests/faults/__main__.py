"""Run seeded schedules, or see that every known bug is caught: `python -m tests.faults --help`."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing import Pool

from tests.faults.mutants import MUTANTS, catch, table
from tests.faults.schedule import Schedule, draw
from tests.faults.simulation import Result, quiet, run

_PROGRESS_EVERY = 1000


def main() -> int:
    """Returns 1 when an invariant was broken or a bug was not caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--schedules", type=int, default=1000, help="how many (default 1000)")
    parser.add_argument("--seed", type=int, default=0, help="the first one's seed; with --schedules 1 its trace is shown")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--mutants", action="store_true", help="put known bugs in, one at a time, and see each caught")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="run the schedules with this bug in")
    arguments = parser.parse_args()
    quiet()
    if arguments.mutants:
        return _catch_all(arguments.seed, arguments.jobs)
    if arguments.schedules == 1:
        bug = MUTANTS[arguments.mutant]() if arguments.mutant else None
        return _show(draw(arguments.seed), run(draw(arguments.seed), bug))
    return _run_all(range(arguments.seed, arguments.seed + arguments.schedules), arguments.jobs, arguments.mutant)


def _run_all(seeds: range, jobs: int, mutant: str | None) -> int:
    started = time.monotonic()
    counts: Counter[str] = Counter()
    broken: list[Result] = []
    for number, result in enumerate(results(seeds, jobs, mutant), 1):
        counts.update(result.counts)
        if number % _PROGRESS_EVERY == 0:
            print(f"{number:,} schedules, {len(broken)} broken", file=sys.stderr)
        if result.violation is not None:
            broken.append(result)
    for name, number in sorted(counts.items()):
        print(f"{number:9,} {name}")
    took = time.monotonic() - started
    print(f"{len(seeds):,} schedules in {took:.0f} s ({len(seeds) / took:.0f}/s), {len(broken)} broken")
    if not broken:
        return 0
    for kind, seeds_of in _by_kind(broken).items():
        print(f"  {kind}: {len(seeds_of)}, the first with seed {seeds_of[0]}")
    first = min(broken)
    return _show(draw(first.seed), first)


def _by_kind(broken: list[Result]) -> dict[str, list[int]]:
    kinds: dict[str, list[int]] = {}
    for result in sorted(broken):
        kinds.setdefault((result.violation or "").split("(")[0].split()[0], []).append(result.seed)
    return kinds


def results(seeds: range, jobs: int, mutant: str | None = None) -> Iterator[Result]:
    """What became of each seed's schedule, in order; traces only where an invariant was broken."""
    tasks = ((seed, mutant) for seed in seeds)
    if jobs == 1:
        yield from map(_one, tasks)
        return
    with Pool(jobs, quiet) as pool:
        yield from pool.imap(_one, tasks, chunksize=50)


def _one(task: tuple[int, str | None]) -> Result:
    seed, mutant = task
    result = run(draw(seed), MUTANTS[mutant]() if mutant else None)
    return result if result.violation else result._replace(trace=[])


def _show(schedule: Schedule, result: Result) -> int:
    print(f"seed {schedule.seed}: {schedule.workers} workers, {schedule.unruly:.0%} of requests unruly")
    for fault in schedule.faults:
        print(f"  fault {fault}")
    print(result.told())
    print(f"seed {schedule.seed}: {result.violation or 'all invariants hold'}")
    return int(result.violation is not None)


def _catch_all(seed: int, jobs: int) -> int:
    with Pool(jobs, quiet) as pool:
        caught = pool.starmap(catch, [(name, seed) for name in MUTANTS], chunksize=1)
    print(table(caught))
    return int(any(one.seed is None for one in caught))


if __name__ == "__main__":
    sys.exit(main())
