"""Members of the consumer group that are paused, come and go."""

import asyncio
import signal

from tests.faults.real.failpoints import Armed
from tests.faults.real.processes import WorkerProcess
from tests.faults.real.stage import Failed, Stage

_REACH_S = 60.0
#: Where a worker is stopped: with a batch's scores, state or commit still to be sent, or on their way.
_STOPS = ("score", "scores-sent", "scores-confirmed", "state-sent", "before-commit")
_SETTLE_S = 2.0


async def zombie(stage: Stage) -> str:
    """One of two workers is stopped for longer than the group waits; the other takes over, and then the first wakes up."""
    injected = []
    timeout_s = stage.settings.worker.session_timeout_s
    other = stage.worker()
    async with stage.flowing(for_s=60.0):
        await stage.until_committed(1)
        for _ in range(max(stage.rounds - 1, 1)):
            armed = Armed(stage.dice.choice(_STOPS), stage.dice.randint(1, 4), stage.dice.choice((0.0, 1.0, 4.0)), "SIGSTOP")
            stopped = stage.worker(armed)
            await stage.until(lambda: stopped.is_stopped, _REACH_S, lambda: f"never stopped at {armed}: {stopped.said[-300:]}")  # noqa: B023
            for_s = timeout_s + stage.dice.uniform(1.0, 4.0)
            await asyncio.sleep(for_s)
            stopped.send(signal.SIGCONT)
            await asyncio.sleep(_SETTLE_S)
            stage.check_shut_out(stopped)
            stopped.send(signal.SIGKILL)
            injected.append(f"{armed.failpoint} {armed.count} for {for_s:.1f} s")
    if other.status is not None:
        raise Failed(f"the worker that was left alone ended: {other.said[-300:]}")
    await stage.end(other)
    await stage.finish()
    return f"SIGSTOP at {', '.join(injected)}, then SIGCONT"


async def pause(stage: Stage) -> str:
    """A worker is stopped for less than the group waits, several times: it goes on, and nothing is done twice."""
    await stage.backlog()
    worker = stage.worker()
    pauses = []
    async with stage.flowing(for_s=20.0):
        await stage.until_committed(1)
        for _ in range(stage.rounds + 1):
            pauses.append(stage.dice.uniform(0.2, stage.settings.worker.session_timeout_s / 3))
            worker.send(signal.SIGSTOP)
            await asyncio.sleep(pauses[-1])
            worker.send(signal.SIGCONT)
            await asyncio.sleep(stage.dice.uniform(0.1, 1.0))
    await stage.until_committed(stage.sent)
    await stage.end(worker)
    stage.copies_allowed = False
    await stage.finish()
    return f"SIGSTOP for {', '.join(f'{pause:.1f}' for pause in pauses)} s"


async def scale(stage: Stage) -> str:
    """One worker, three or more, and one again, several times, all told to end: nothing is done twice."""
    await stage.backlog()
    workers = [stage.worker()]
    sizes = []
    async with stage.flowing(for_s=50.0):
        await stage.until_committed(1)
        for size in (3, stage.dice.randint(2, 4), stage.topics.partitions + 1)[: stage.rounds]:
            workers += [stage.worker() for _ in range(size - 1)]
            sizes.append(size)
            await stage.joined(*workers)
            await asyncio.sleep(stage.dice.uniform(0.0, 3.0))
            stage.dice.shuffle(workers)
            workers = await _leave(stage, workers)
            await asyncio.sleep(stage.dice.uniform(0.0, 2.0))
    await stage.until_committed(stage.sent)
    await stage.end(workers[0])
    stage.copies_allowed = False
    await stage.finish()
    return f"1-{'-1-'.join(map(str, sizes))}-1 workers"


async def _leave(stage: Stage, workers: list[WorkerProcess]) -> list[WorkerProcess]:
    """All but the first are told to end, at once or one after the other."""
    stay, *leave = workers
    if stage.dice.random() < 0.5:
        await asyncio.gather(*(stage.end(worker) for worker in leave))
    else:
        for worker in leave:
            await stage.end(worker)
    return [stay]
