"""Inkling's own processes, as a user would start them, on free ports, with their logs in files."""

import asyncio
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

from deploy.local.errors import StackError
from deploy.local.ports import free_ports
from deploy.local.process import Child
from deploy.local.stack import LocalStack
from worker.errors import GateRefused
from worker.exec_guard import guarded
from worker.settings import Settings

_READY_S = 40.0


class Services:
    """The worker, the outcome join and the console, beside a running stack."""

    def __init__(self, stack: LocalStack, directory: Path) -> None:
        addresses = stack.addresses
        worker_port, labels_port, console_port = free_ports(3)
        self.directory = directory
        self.environment = {
            "INKLING_KAFKA__BOOTSTRAP_SERVERS": addresses.kafka,
            "INKLING_TRITON__URL": addresses.triton_grpc or "",
            "INKLING_MODEL__REPOSITORY": addresses.model_repository,
            "INKLING_STATE__DIR": str(directory),
            "INKLING_METRICS__PORT": str(worker_port),
            "INKLING_METRICS__LABELS_PORT": str(labels_port),
            "INKLING_CONSOLE__PORT": str(console_port),
        }
        self.console_url = f"http://127.0.0.1:{console_port}"
        self._ready = {
            "worker": f"http://127.0.0.1:{worker_port}/readyz",
            "labels": f"http://127.0.0.1:{labels_port}/readyz",
            "console": f"{self.console_url}/",
        }
        self.children = {
            name: Child(name, _command(name), directory / "logs" / f"{name}.log", self._child_environment())
            for name in self._ready
        }
        if stack.prometheus is not None:
            stack.prometheus.set_targets("worker", [f"127.0.0.1:{worker_port}"])
            stack.prometheus.set_targets("labels", [f"127.0.0.1:{labels_port}"])

    @property
    def settings(self) -> Settings:
        """The settings that the processes have, for use in this one."""
        return Settings.model_validate(_nested(self.environment))

    async def run(self, timeout_s: float, *arguments: str) -> str:
        """Run an `inkling` command to its end; what it printed.

        Raises GateRefused if the gate did, StackError if its status is another than 0 or it takes longer than `timeout_s`.
        """
        what = f"inkling {' '.join(arguments)}"
        log = self.directory / "logs" / f"{arguments[0]}.log"
        with log.open("ab") as stderr:
            process = await asyncio.create_subprocess_exec(
                *guarded(_command(*arguments)),
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                env=self._child_environment(),
            )
        try:
            printed, _ = await asyncio.wait_for(process.communicate(), timeout_s)
        except TimeoutError as error:
            raise StackError(f"{what} took longer than {timeout_s:.0f} s; is the machine busy? (log: {log})") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            if process.returncode == GateRefused.exit_status:
                raise GateRefused(" ".join(last).removeprefix("error: "))
            raise StackError(
                f"inkling {' '.join(arguments)} ended with status {process.returncode}: {' '.join(last)} (log: {log})"
            )
        return printed.decode()

    def start(self) -> None:
        """Start all and return when each is ready. Raises StackError with the end of its log."""
        for child in self.children.values():
            child.start()
        for name, url in self._ready.items():
            self.children[name].wait_until(lambda url=url: _answers(url), _READY_S)  # type: ignore[misc]

    def stop(self) -> None:
        """End all; the worker drains."""
        for child in self.children.values():
            child.stop()

    def _child_environment(self) -> dict[str, str]:
        # The surrounding environment may hold settings for another installation.
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("INKLING_")}
        return {**inherited, **self.environment}


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "worker", *arguments]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _nested(environment: dict[str, str]) -> dict[str, dict[str, str]]:
    groups: dict[str, dict[str, str]] = {}
    for name, value in environment.items():
        group, field = name.removeprefix("INKLING_").lower().split("__")
        groups.setdefault(group, {})[field] = value
    return groups
