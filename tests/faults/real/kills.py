"""SIGKILL at every named moment of a batch's walk, and at moments of its own choosing."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

from tests.faults.real.failpoints import FAILPOINTS, Armed
from tests.faults.real.stage import Failed, Stage

_REACH_S = 60.0
#: A worker commits five times a second and is done with the clicks soon: more would not be reached.
_MOST_COMMITS = 2
_MOST_BATCHES = 15


def kill_at(failpoint: str) -> Callable[[Stage], Awaitable[str]]:
    """Workers that kill themselves there, one after the other."""

    async def scenario(stage: Stage) -> str:
        return await _kill(stage, [failpoint] * stage.rounds)

    return scenario


async def kill_anywhere_with_copies(stage: Stage) -> str:
    """The same at moments that are drawn."""
    return await _kill(stage, [stage.dice.choice(FAILPOINTS) for _ in range(stage.rounds)])


async def kill_anywhere(stage: Stage) -> str:
    """The same, and whoever reads what is committed sees nothing twice."""
    told = await kill_anywhere_with_copies(stage)
    stage.copies_allowed = False
    return told


async def with_sessions_on_disk(stage: Stage) -> str:
    """The same, with few sessions in memory. What a killed worker left on disk is removed by the next."""
    told = await kill_anywhere_with_copies(stage)
    if left := list(stage.settings.state.dir.iterdir()):
        stage.findings.append(f"on disk there is still {', '.join(map(str, left))}")
    return told


async def _kill(stage: Stage, failpoints: list[str]) -> str:
    injected = []
    async with stage.flowing(for_s=len(failpoints) * 8.0):
        for failpoint in failpoints:
            most = _MOST_COMMITS if "commit" in failpoint else _MOST_BATCHES
            armed = Armed(failpoint, stage.dice.randint(1, most), stage.dice.choice((0.0, 0.5, 2.0, 5.0)))
            worker = stage.worker(armed)
            status = await worker.ended(_REACH_S)
            if status != -signal.SIGKILL:
                raise Failed(f"the worker ended with {status} before it reached {failpoint}: {worker.said[-300:]}")
            injected.append(f"{failpoint} {armed.count}" + (f"+{armed.delay_ms:g} ms" if "sent" in failpoint else ""))
    await stage.finish()
    return f"SIGKILL at {', '.join(injected)}"


async def kill_at_random(stage: Stage) -> str:
    """Two workers; every now and then one is killed and replaced."""
    await stage.send(stage.events // 2)
    workers = [stage.worker(), stage.worker()]
    moments = []
    async with stage.flowing(for_s=30.0):
        await stage.joined(*workers)
        for _ in range(stage.rounds + 1):
            moments.append(stage.dice.uniform(0.0, 2.0))
            await asyncio.sleep(moments[-1])
            place = stage.dice.randrange(len(workers))
            workers[place].send(signal.SIGKILL)
            workers[place] = stage.worker()
    for worker in workers:
        worker.send(signal.SIGKILL)
    await stage.finish()
    return f"SIGKILL of one of two after {', '.join(f'{moment:.2f}' for moment in moments)} s, then of both"


async def end_twice(stage: Stage) -> str:
    """SIGTERM, and again while it drains: it ends, soon and in order."""
    await stage.backlog()
    async with stage.flowing(for_s=20.0):
        for _ in range(stage.rounds - 1):
            worker = stage.worker(delay_ms=25.0)
            await stage.joined(worker)
            before = sum((await stage.committed()).values())
            await stage.until_committed(min(before + 1, stage.events), _REACH_S)
            worker.send(signal.SIGTERM)
            await asyncio.sleep(stage.dice.uniform(0.0, 0.1))
            if (status := await worker.stop(15.0)) != 0:
                stage.findings.append(f"a worker that was told twice to end ended with {status}: {worker.said[-300:]}")
    stage.copies_allowed = False
    await stage.finish()
    return f"SIGTERM twice, {stage.rounds - 1} times"
