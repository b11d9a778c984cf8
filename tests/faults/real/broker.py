"""The only broker is killed, stopped, or restarted in order while workers are at it."""

import asyncio
import os
import signal
import time

from tests.faults.real.processes import WorkerProcess
from tests.faults.real.stage import FINISH_S, Stage


async def killed(stage: Stage) -> str:
    """SIGKILL, and started again after a while."""
    return await _away(stage, signal.SIGKILL, (0.2, 3.0))


async def restarted(stage: Stage) -> str:
    """Told to end, and started again at once."""
    return await _away(stage, signal.SIGTERM, (0.0, 0.2))


async def stopped(stage: Stage) -> str:
    """SIGSTOP, for longer than the group waits for a member, then SIGCONT."""
    await stage.backlog()
    workers = [stage.worker(), stage.worker()]
    pauses = []
    async with stage.flowing(for_s=30.0):
        await stage.joined(*workers)
        await stage.until_committed(1)
        for _ in range(stage.rounds - 1):
            pauses.append(stage.dice.uniform(1.0, 12.0))
            _signal(stage, signal.SIGSTOP)
            try:
                await asyncio.sleep(pauses[-1])
            finally:
                _signal(stage, signal.SIGCONT)
            await asyncio.sleep(stage.dice.uniform(0.5, 2.0))
    await _worked_off(stage, workers)
    for worker in workers:
        await stage.end(worker, may_be_shut_out=True)
    await stage.finish()
    return f"broker SIGSTOP for {', '.join(f'{pause:.1f}' for pause in pauses)} s"


async def _away(stage: Stage, how: signal.Signals, range_s: tuple[float, float]) -> str:
    await stage.backlog()
    workers = [stage.worker() for _ in range(stage.dice.randint(1, 2))]
    pauses, resumed = [], []
    async with stage.flowing(for_s=30.0):
        await stage.joined(*workers)
        await stage.until_committed(1)
        for _ in range(stage.rounds - 1):
            pauses.append(stage.dice.uniform(*range_s))
            await _down_for(stage, how, pauses[-1])
            resumed.append(await _resumed(stage))
            await asyncio.sleep(stage.dice.uniform(0.5, 3.0))
    await _worked_off(stage, workers)
    for worker in workers:
        await stage.end(worker, may_be_shut_out=True)
    await stage.finish()
    told = ", ".join(f"{pause:.1f} (commits again {after:.1f} later)" for pause, after in zip(pauses, resumed, strict=True))
    return f"broker {how.name}, back after {told} s; {len(workers)} workers"


async def _worked_off(stage: Stage, workers: list[WorkerProcess]) -> None:
    """Wait until all is committed, or all workers found themselves shut out: whoever looks after them would start them again."""

    async def done() -> bool:
        return all(worker.status is not None for worker in workers) or sum((await stage.committed()).values()) >= stage.sent

    await stage.until(done, FINISH_S, "the workers did not get over it")


async def _resumed(stage: Stage) -> float:
    """How long it takes until something is committed again."""
    started = time.monotonic()
    done = sum((await stage.committed()).values())
    if done < stage.sent:
        await stage.until_committed(done + 1)
    return time.monotonic() - started


async def _down_for(stage: Stage, how: signal.Signals, for_s: float) -> None:
    broker = stage.stack.kafka
    assert broker is not None
    assert broker.child is not None
    _signal(stage, how)
    while broker.child.running():  # noqa: ASYNC110  # a process sets no event
        await asyncio.sleep(0.02)
    await asyncio.sleep(for_s)
    await asyncio.to_thread(stage.stack.restart, broker)


def _signal(stage: Stage, what: signal.Signals) -> None:
    broker = stage.stack.kafka
    assert broker is not None
    assert broker.child is not None
    assert broker.child.id is not None
    os.kill(broker.child.id.pid, what)
