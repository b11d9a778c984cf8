"""The process behind `inkling stack up`: `python -m deploy.local.supervise DIR OPTIONS`, with the options as JSON."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from deploy.local.errors import StackError, explain
from deploy.local.serve import serve
from deploy.local.stack import LocalStack
from deploy.local.state import Addresses, read_state
from deploy.local.topics import TopicSpec
from worker.errors import InklingError

_ROOT = Path(__file__).parents[2]
_LOOK_EVERY_S = 0.1
# Python warns of a process object that is dropped while its process runs. These are meant to run on.
_detached: list[subprocess.Popen[bytes]] = []


class StackOptions(msgspec.Struct, frozen=True):
    """What `LocalStack` takes besides its directory, in a form that can be handed to another process."""

    port_base: int | None = None
    with_triton: bool = True
    with_prometheus: bool | Literal["auto"] = "auto"
    model_repository: str | None = None
    require_model: bool = False
    topics: list[TopicSpec] = []
    scrape: dict[str, list[str]] = {}

    def stack(self, directory: Path) -> LocalStack:
        """The stack they describe."""
        return LocalStack(
            directory,
            self.port_base,
            with_triton=self.with_triton,
            with_prometheus=self.with_prometheus,
            model_repository=Path(self.model_repository) if self.model_repository else None,
            require_model=self.require_model,
            topics=self.topics,
            scrape=self.scrape,
        )


def start_in_background(directory: Path, options: StackOptions, progress: Callable[[str], None]) -> Addresses:
    """Starts a supervisor that outlives this process and returns when its stack is ready.

    Raises:
        StackError: it could not be started; nothing is left running then.
    """
    log = directory / "logs" / "supervisor.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            supervisor = subprocess.Popen(
                [sys.executable, "-m", "deploy.local.supervise", str(directory.resolve()), msgspec.json.encode(options).decode()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=_ROOT,
            )
    except OSError as error:
        raise explain(error, directory) from error
    _detached.append(supervisor)
    try:
        return _wait_ready(directory, supervisor, log, progress)
    except BaseException:
        supervisor.terminate()
        supervisor.wait()
        raise


def _wait_ready(directory: Path, supervisor: subprocess.Popen[bytes], log: Path, progress: Callable[[str], None]) -> Addresses:
    told = 0
    while True:
        ended = supervisor.poll() is not None
        state = read_state(directory)
        if state is not None and state.owner.pid == supervisor.pid:
            for step in state.steps[told:]:
                progress(step)
            told = len(state.steps)
            if state.phase == "ready" and state.addresses is not None:
                return state.addresses
            if state.phase == "failed" and state.error:
                raise StackError(state.error, state.log_tail)
        if ended:
            last = (log.read_text(errors="replace").strip().splitlines() or [f"no message in {log}"])[-1]
            raise StackError(last.removeprefix("error: "))
        time.sleep(_LOOK_EVERY_S)


def main() -> None:
    """Owns a stack until it is told to end."""
    directory, options = Path(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=StackOptions)
    try:
        serve(options.stack(directory), lambda step: print(step, flush=True))
    except InklingError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
