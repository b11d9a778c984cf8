"""Runs a schedule: workers, faults, a time of healing, and the checks."""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import structlog

from tests.faults.broker import Broker
from tests.faults.checker import Checker, Violation
from tests.faults.clicks import PARTITIONS, ClickTopic
from tests.faults.group import Group
from tests.faults.loop import VirtualLoop
from tests.faults.network import Network, Process, own_tasks
from tests.faults.schedule import FAULTS_S, SETTINGS, Fault, Schedule
from tests.faults.worker import SimWorker, World

#: After the last fault, how long the clicks may take to be finished.
_HEAL_S = 30.0
_STEP_S = 0.05
#: How long until whatever looks after the workers starts one again.
_RESTART_S = 0.3

TraceLine = tuple[float, str, tuple[Any, ...]]


class Result(NamedTuple):
    """What became of a schedule: the violation, if any, what happened, and how often."""

    seed: int
    violation: str | None
    trace: list[TraceLine]
    counts: Counter[str]

    def told(self) -> str:
        """The trace as text."""
        return "\n".join(f"{at:7.3f} {who:>8} {' '.join(map(str, what))}" for at, who, what in self.trace)


def run(schedule: Schedule, bug: AbstractContextManager[object] | None = None) -> Result:
    """Run a schedule to its end, with a bug put in if one is given. The same schedule gives the same result."""
    with bug or nullcontext():
        return _run(schedule)


def _run(schedule: Schedule) -> Result:
    trace: list[TraceLine] = []
    counts: Counter[str] = Counter()
    violation = None
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        loop.set_exception_handler(lambda *_: None)  # of tasks whose process was killed
        simulation = Simulation(schedule, trace, counts)
        try:
            runner.run(simulation.run())
        except Violation as error:
            violation = str(error)
        except Exception as error:
            violation = f"failed: {error!r}"
        simulation.end()
    counts["schedules"] += 1
    return Result(schedule.seed, violation, trace, counts)


def quiet() -> None:
    """What the workers log is not for us."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


class Simulation:
    """A schedule under way."""

    def __init__(self, schedule: Schedule, trace: list[TraceLine], counts: Counter[str]) -> None:
        self._schedule = schedule
        self._trace = trace
        self.counts = counts
        self._dice = random.Random(schedule.seed + 1)
        self._broker = Broker()
        self._network = Network(random.Random(schedule.seed + 2), schedule.unruly, counts)
        self._group = Group(PARTITIONS, self._on_commit)
        self._clicks = ClickTopic(self._broker, schedule.clicks)
        self._checker = Checker(schedule, self._clicks, self._broker)
        self._world = World(self._broker, self._clicks, self._group, self._network, schedule, self.note, self._on_restore)
        self._workers: dict[str, tuple[Process, SimWorker, asyncio.Task[None]]] = {}
        self._started = 0
        self._furthest: Counter[int] = Counter()  # commits; one that comes late may set Kafka's back, which does no harm
        self._broken: Violation | None = None

    async def run(self) -> None:
        """Raises Violation."""
        own_tasks(asyncio.get_running_loop())
        counting = asyncio.create_task(self._group.run())
        for _ in range(self._schedule.workers):
            self.start()
        for fault in self._schedule.faults:
            await self._advance(fault.at_s - _now())
            self.apply(fault)
        await self._advance(FAULTS_S - _now())
        await self.heal()
        counting.cancel()
        self._checker.check_end()
        for partition in range(PARTITIONS):
            self._checker.check_restore(partition)
        self.counts["transactions ended early"] += self._broker.early_ends
        if self._schedule.calm or (self._schedule.exactly_once and not self._broker.early_ends):
            self._checker.check_no_copies()

    def apply(self, fault: Fault) -> None:
        """Do what a fault says, as far as there is somebody to do it to."""
        match fault.kind:
            case "start":
                self.start()
                return
            case "away":
                self.note("broker", "away for", fault.for_s)
                self._network.cut(fault.for_s)
                return
            case "compact":
                self.note("broker", "compacts")
                self._broker.compact(SETTINGS.topics.changelog, self._dice)
                self.counts["compactions"] += 1
                return
        alive = [(process, worker) for process, worker, _ in self._workers.values() if process.alive]
        if not alive:
            return
        process, worker = alive[fault.worker % len(alive)]
        match fault.kind:
            case "crash":
                process.armed[fault.failpoint] = 0.0
            case "pause":
                process.armed[fault.failpoint] = fault.for_s
            case "wake":
                process.wake()
            case "stop":
                self.note(process.name, "told to stop")
                self.counts["graceful stops"] += 1
                worker.stop.set()

    def start(self) -> None:
        """Start one worker more."""
        self._started += 1
        process = Process(f"w{self._started}", self.note, self.counts)
        worker = SimWorker(process, self._world)
        self._workers[process.name] = (process, worker, process.run(worker.run()))
        self.counts["workers started"] += 1

    async def heal(self) -> None:
        """No faults from now on; and all clicks have to be finished before long."""
        self.note("world", "heals")
        self._network.heal()
        for process, _, _ in self._workers.values():
            process.armed.clear()
            process.wake()
        until = _now() + _HEAL_S
        self._clicks.arrive(_now())
        while not self._clicks.finished(self._furthest):
            if _now() > until:
                raise Violation(f"stuck: committed {dict(self._furthest)}")
            if not self._workers:
                self.start()
            await self._advance(_STEP_S)

    def end(self) -> None:
        """Nothing of it goes on."""
        self.counts["generations"] += self._group.generation
        self.counts["events"] += len(self._schedule.clicks)
        self.counts["copies for users"] += self._checker.copies

    def note(self, who: str, *what: Any) -> None:
        """Add to the trace."""
        self._trace.append((_now(), who, what))

    def _on_commit(self, name: str, offsets: Mapping[int, int]) -> None:
        self.note(name, "commits", dict(offsets))
        self.counts["commits"] += 1
        self._furthest |= Counter(offsets)
        self._check(lambda: self._checker.check_commit(offsets))

    def _on_restore(self, partition: int) -> None:
        self.counts["restores"] += 1
        self._check(lambda: self._checker.check_restore(partition))

    def _check(self, check: Callable[[], None]) -> None:
        """Whatever is found in the middle of a worker's business is raised where nobody retries it."""
        try:
            check()
        except Violation as error:
            self._broken = self._broken or error

    async def _advance(self, for_s: float) -> None:
        """Let time pass; bury the dead, and have each replaced after a while."""
        until = _now() + for_s
        while True:
            await asyncio.sleep(max(min(_STEP_S, until - _now()), 0.0))
            if self._broken is not None:
                raise self._broken
            for name, (process, worker, task) in list(self._workers.items()):
                if not task.done() and process.alive:
                    continue
                del self._workers[name]
                if process.alive:
                    task.result()
                    self.note(name, "ended")
                    if not worker.stop.is_set():
                        self.counts["zombies shut out"] += 1
                        if self._schedule.calm:
                            raise Violation("I2 nothing failed, and still a worker lost its partition")
                if not worker.stop.is_set():
                    asyncio.get_running_loop().call_later(_RESTART_S, self.start)
            if _now() >= until:
                return


def _now() -> float:
    return asyncio.get_running_loop().time()
