"""Running a service as a process: signals, the limit to its end, and what it says at last."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import pytest
from pydantic import ValidationError

from worker.errors import ConfigurationError, GateRefused
from worker.service import exit_status, one_line
from worker.settings import Settings, WorkerSettings

_PROGRAM = """
import asyncio, os, time
from functools import partial
from worker.service import run_service
from worker.settings import Settings, WorkerSettings

run_service = partial(run_service, settings=lambda: Settings(worker=WorkerSettings(drain_s=0.1)))

async def drains(settings, stop):
    print("ready", flush=True)
    await stop.wait()
    print("drained", flush=True)

async def hangs(settings, stop):
    print("ready", flush=True)
    await stop.wait()
    await asyncio.sleep(60)

async def blocks(settings, stop):
    print("ready", flush=True)
    await stop.wait()
    time.sleep(60)

async def fails_and_hangs(settings, stop):
    print("ready", flush=True)
    stop.set()
    await asyncio.sleep(60)
"""


def _run(call: str, signals: Sequence[signal.Signals]) -> tuple[int, str, str]:
    """Status, stdout and stderr of a service that gets the signals one after the other."""
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM + call], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for number in signals:
            process.send_signal(number)
            time.sleep(0.2)
        out, err = process.communicate(timeout=10)
    return process.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_drains(number: signal.Signals) -> None:
    """And the status is that of success."""
    assert _run("run_service(drains)", [number]) == (0, "drained\n", "")


def test_the_second_signal_ends_at_once() -> None:
    """For whoever does not want to wait."""
    status, _, _ = _run("run_service(hangs)", [signal.SIGTERM, signal.SIGINT])
    assert status == 128 + signal.SIGINT


def test_a_patient_service_is_not_ended_by_the_second_signal() -> None:
    """A supervisor's worker may be told by both the supervisor and whoever ends the group of processes."""
    status, _, err = _run("run_service(hangs, patient=True, closing_s=0.8)", [signal.SIGTERM, signal.SIGTERM])
    assert status == 1
    assert err == "error: did not end within 1 s, so it is ended hard; nothing is lost by that\n"


@pytest.mark.parametrize("service", ["blocks", "hangs"])
def test_what_hangs_is_ended_hard(service: str) -> None:
    """Also when the event loop itself is stuck: it would keep its partitions from everybody else."""
    started = time.monotonic()
    status, _, err = _run(f"run_service({service}, closing_s=0.3)", [signal.SIGTERM])
    assert (status, time.monotonic() - started < 10) == (1, True)
    assert "did not end within" in err


def test_a_failed_service_that_hangs_may_do_otherwise() -> None:
    """Nobody needs to tell it to end, and it may begin anew instead."""
    assert _run("run_service(fails_and_hangs, closing_s=0.3)", [])[0] == 1
    assert _run("run_service(fails_and_hangs, closing_s=0.3, hung=lambda: os._exit(7))", [])[0] == 7


def test_told_to_end_a_failed_service_does_not_begin_anew() -> None:
    """Nor does the signal count as the second one, as it may still end well."""
    status, _, err = _run("run_service(fails_and_hangs, closing_s=0.8, hung=lambda: os._exit(7))", [signal.SIGTERM])
    assert status == 1
    assert "did not end within" in err


def test_an_error_is_one_line() -> None:
    """Whatever its message has in it; a setting is named as the user sets it."""
    assert one_line(ConfigurationError("no\n  Kafka")) == "no Kafka"
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"worker": {"max_batch": 0}})
    assert one_line(caught.value).startswith("INKLING_WORKER__MAX_BATCH: ")
    assert "\n" not in one_line(caught.value)


def test_the_status_is_the_errors() -> None:
    """A wrong setting is a failure like others, a refused candidate has a status of its own."""
    with pytest.raises(ValidationError) as caught:
        WorkerSettings(max_batch=0)
    assert exit_status(caught.value) == exit_status(ConfigurationError("x")) == 1
    assert exit_status(GateRefused("x")) == 3
