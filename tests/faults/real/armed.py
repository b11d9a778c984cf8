"""A worker that may be armed: `python -m tests.faults.real.armed`, settings and failpoint from the environment.

The shipped worker if FAULT_SCORER is "model"; else the real worker but for the scorer, which is constant and FAULT_DELAY_MS slow.
FAULT_BUG puts one of the simulation's known bugs back. SIGUSR1 has it tell what it waits for. With FAULT_COUNTS it writes what
it counted to that file when it is told to end.
"""

import asyncio
import contextlib
import faulthandler
import json
import os
import signal
import sys
from pathlib import Path

from prometheus_client import REGISTRY

from tests.faults.real.failpoints import VARIABLE, Armed, arm
from tests.support import constant_worker
from worker.app import run_worker
from worker.errors import InklingError
from worker.scoring.guarded import GuardedScorer
from worker.settings import Settings

_COUNTED = ("inkling_dead_letters_total", "inkling_dropped_total", "inkling_events_total", "inkling_scores_total")


def main() -> int:
    """As the `inkling worker` command: 1 with one line when it cannot go on."""
    with_model = os.environ.get("FAULT_SCORER") == "model"
    if armed := os.environ.get(VARIABLE):
        arm(Armed.parse(armed), GuardedScorer if with_model else constant_worker.PinnedScorer)
    try:
        with _bug(os.environ.get("FAULT_BUG")):
            asyncio.run(_run(with_model))
    except InklingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if path := os.environ.get("FAULT_COUNTS"):
        Path(path).write_text(json.dumps(counts()))
    return 0


def _bug(name: str | None) -> contextlib.AbstractContextManager[object]:
    if not name:
        return contextlib.nullcontext()
    from tests.faults.mutants import MUTANTS

    return MUTANTS[name]()


async def _run(with_model: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, _tell_tasks)
    if with_model:
        await run_worker(Settings(), stop)
    else:
        await constant_worker.run_constant_worker(Settings(), stop, float(os.environ.get("FAULT_DELAY_MS", "0")) / 1000)


def _tell_tasks() -> None:
    """What everything waits for, to the log: for a worker that hangs."""
    faulthandler.dump_traceback()
    for task in asyncio.all_tasks():
        task.print_stack()


def counts() -> dict[str, float]:
    """The worker's own counters, summed over their labels."""
    summed = dict.fromkeys(_COUNTED, 0.0)
    for family in REGISTRY.collect():
        for sample in family.samples:
            if sample.name in summed:
                summed[sample.name] += sample.value
    return summed


if __name__ == "__main__":
    sys.exit(main())
