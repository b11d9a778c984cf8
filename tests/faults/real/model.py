"""The shipped worker while the model server dies or hangs, and while a publisher's disk is full."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap

from tests.benchmarks.process import environment
from tests.faults.real.stage import Failed, Stage
from tests.support.model_stack import kill_triton, model_folder, model_processes, start_triton_again
from tests.support.model_versions import vary
from tests.support.topics import read_scores
from training.publish import promote, publish
from training.repository import staging
from worker.control import read_pointer
from worker.versions import list_versions, open_version

#: As many as a model on few cores scores in a short time.
_MOST_CLICKS = 1_500
_BACK_S = 60.0
_QUIET_S = 0.5


async def killed(stage: Stage) -> str:
    """Triton and its models are killed, and started again: the fallback answers meanwhile, and then the model again."""
    await _begin(stage)
    away_s = stage.dice.uniform(1.0, 4.0)
    async with stage.flowing(for_s=20.0, number=_clicks(stage)):
        await stage.until(lambda: _made_by(stage, "model"), _BACK_S, "no score by the model")
        kill_triton(stage.stack)
        await asyncio.sleep(away_s)
        await stage.until(lambda: _made_by(stage, "fallback"), _BACK_S, "no score by the fallback")
        await asyncio.to_thread(start_triton_again, stage.stack)
        assert stage.stack.triton is not None
        await asyncio.to_thread(stage.stack.triton.wait_ready)
        await _model_is_back(stage)
    return await _end(stage, f"Triton SIGKILL, started again after {away_s:.1f} s")


async def stopped(stage: Stage) -> str:
    """Triton hangs for longer than the deadline, and goes on: the same."""
    await _begin(stage)
    for_s = stage.dice.uniform(6.0, 10.0)
    async with stage.flowing(for_s=20.0, number=_clicks(stage)):
        await stage.until(lambda: _made_by(stage, "model"), _BACK_S, "no score by the model")
        triton = stage.stack.triton
        assert triton is not None
        assert triton.child is not None
        assert triton.child.id is not None
        pids = [triton.child.id.pid, *model_processes(stage.stack)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(for_s)
            await stage.until(lambda: _made_by(stage, "fallback"), _BACK_S, "no score by the fallback")
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        await _model_is_back(stage)
    return await _end(stage, f"Triton SIGSTOP for {for_s:.1f} s")


async def disk_full(stage: Stage) -> str:
    """No room for a version's files, or for the configuration: the champion scores on, and the next version works."""
    await _begin(stage)
    folder = model_folder(stage.settings)
    made = stage.work / "version"
    vary(folder / "1", made, 0.2)
    room = stage.dice.randrange(1_000, (made / "model.onnx").stat().st_size - 1)
    async with stage.flowing(for_s=10.0, number=_clicks(stage)):
        for limit, while_ in ((room, "building"), (0, "publishing")):
            status, said = await asyncio.to_thread(_publish_with_room, stage, str(made), limit, while_)
            if status != 3:
                stage.findings.append(f"{while_} with room for {limit} bytes ended with {status}: {said[-300:]}")
            pointer = await read_pointer(stage.settings)
            if pointer is None or pointer.champion != "1":
                stage.findings.append(f"after {while_} with a full disk the pointer is {pointer}")
            for version in list_versions(folder):
                open_version(folder, version)
        with staging(folder) as staged:
            vary(folder / "1", staged, 0.2)
            pointer = await publish(stage.settings, staged, "1", "faults", "there is room again", _QUIET_S)
    told = await _end(stage, f"disk full after {room} bytes of a version, then for its configuration")
    if not any(score.version == pointer.champion for score in await read_scores(stage.settings)):
        stage.findings.append(f"version {pointer.champion}, published with room, made no score")
    return told


def _clicks(stage: Stage) -> int:
    return min(stage.events, _MOST_CLICKS)


async def _begin(stage: Stage) -> None:
    # Loads it, too: a scenario before this one may have published another.
    await promote(stage.settings, "1", "faults", "the default version", _QUIET_S)
    await stage.joined(stage.worker(with_model=True))


async def _end(stage: Stage, injected: str) -> str:
    await stage.until_committed(stage.sent)
    (worker,) = stage.workers
    await stage.end(worker)
    await stage.finish(with_model=True)
    paths = [score.path for score in await read_scores(stage.settings)]
    return f"{injected}; {paths.count('fallback')} scores by the fallback"


async def _made_by(stage: Stage, path: str) -> bool:
    return any(score.path == path for score in await read_scores(stage.settings))


async def _model_is_back(stage: Stage) -> None:
    """The newest score is the model's. Raises Failed."""

    async def back() -> bool:
        # One more click each time: the worker finds out by a request whether the server is back.
        await stage.send(1)
        return (await read_scores(stage.settings))[-1].path == "model"

    await stage.until(back, _BACK_S, "the model did not come back")


def _publish_with_room(stage: Stage, made: str, limit: int, while_: str) -> tuple[int, str]:
    """In a process that may write files of `limit` bytes: while it builds the version, or only once that is staged."""
    script = f"""
        import asyncio, pathlib, resource, shutil, sys
        from training.publish import promote, publish
        from training.repository import staging
        from worker.errors import ModelError
        from worker.settings import Settings

        def fill():
            resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))

        try:
            with staging(pathlib.Path({str(model_folder(stage.settings))!r})) as staged:
                if {while_ == "building"}:
                    fill()
                shutil.copytree({made!r}, staged, dirs_exist_ok=True)
                fill()
                asyncio.run(publish(Settings(), staged, "1", "faults", "disk full", {_QUIET_S}))
        except (OSError, shutil.Error, ModelError) as error:
            print(f"refused: {{error}}", file=sys.stderr)
            sys.exit(3)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], env=environment(stage.settings), capture_output=True, timeout=120
    )
    if done.returncode not in (0, 1, 3):
        raise Failed(f"the publisher ended with {done.returncode}")
    return done.returncode, done.stderr.decode()
