"""Running a long-lived service: signals, logging, and errors as one line and a status."""

import asyncio
import ctypes
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, NoReturn

import structlog
from pydantic import ValidationError

from worker.errors import ConfigurationError, InklingError
from worker.settings import Settings

#: Serves until the event is set, then finishes what it has.
Service = Callable[[Settings, asyncio.Event], Coroutine[Any, Any, None]]


#: For all that is closed besides the drains.
_CLOSING_S = 10.0


#: How many new objects the garbage collector waits for: a look at so many takes a few milliseconds.
_YOUNG_OBJECTS = 10_000
#: glibc's names for: from how many bytes on a piece of memory is the system's own, and how many unused ones are kept.
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
_OWN_MAPPING_BYTES, _KEPT_BYTES = 32 << 20, 64 << 20


def run_service(
    run: Service,
    settings: Callable[[], Settings] = Settings,
    *,
    patient: bool = False,
    closing_s: float | None = _CLOSING_S,
    hung: Callable[[], NoReturn] = lambda: os._exit(1),
) -> None:
    """Run a service until SIGTERM or SIGINT, which drain it. A second one ends it at once, unless it is `patient`.

    A worker that hangs would keep its partitions from everybody else. So once `stop` is set, two drains (a rebalance may
    be under way) and `closing_s` seconds are all the time there is: then a service that was told to end is ended hard,
    and for one that set `stop` itself, as it failed, `hung` is called, from another thread. None: there is no limit.
    """

    async def until_signalled() -> None:
        mine, stop, told = settings(), asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _stop_or_die, stop, told, None if patient else number)
        limit_s = None if closing_s is None else 2 * mine.worker.drain_s + closing_s
        limit = asyncio.create_task(_limit(stop, limit_s, lambda: os._exit(1) if told.is_set() else hung()))
        await asyncio.sleep(0)  # so that it is the first to learn of `stop`
        try:
            await run(mine, stop)
        finally:
            limit.cancel()

    asyncio.run(until_signalled())


def settle() -> None:
    """To be called when a process has begun: what there is now stays, so the garbage collector need not go through it again.

    And it looks more rarely: batches are made of thousands of objects, of which none waits for the collector to go. Memory that
    is given back is kept for the next batch: to get megabytes from the system anew for each costs a tenth of the time.
    """
    with suppress(AttributeError, OSError):  # another libc than glibc
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _OWN_MAPPING_BYTES)
        libc.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)


def own_command(*more: str) -> list[str]:
    """What starts this very program again, with the arguments that it was given and `more`."""
    return [sys.executable, *sys.orig_argv[1:], *more]


def one_line(error: InklingError | ValidationError) -> str:
    """What is wrong and what to do."""
    message = str(error)
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        name = "INKLING_" + "__".join(str(part).upper() for part in first["loc"])
        message = f"{name}: {first['msg']}" if first["loc"] else first["msg"]
    return " ".join(message.split())


def exit_status(error: InklingError | ValidationError) -> int:
    """The status of a command that ends with the error."""
    return error.exit_status if isinstance(error, InklingError) else ConfigurationError.exit_status


def configure_logging(process: int | None = None) -> None:
    """Logs go to stderr, as JSON unless somebody watches. `process` is the number of a supervisor's worker, said in each line."""
    # Libraries speak up only when something is wrong; our own log says what happens.
    who = "" if process is None else f" [{process}]"
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format=f"%(asctime)s{who} %(levelname)s %(name)s: %(message)s", force=True
    )

    def add_process(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return event if process is None else {**event, "process": process}

    structlog.configure(
        processors=[
            add_process,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


async def _limit(stop: asyncio.Event, limit_s: float | None, end: Callable[[], NoReturn]) -> None:
    await stop.wait()
    if limit_s is not None:
        # A thread, as the event loop may be what hangs; and nothing ends it but the end of the process.
        timer = threading.Timer(limit_s, _end_hard, [limit_s, end])
        timer.daemon = True
        timer.start()


def _end_hard(limit_s: float, end: Callable[[], NoReturn]) -> None:
    line = f"error: did not end within {limit_s:g} s, so it is ended hard; nothing is lost by that\n"
    os.write(sys.stderr.fileno(), line.encode())
    end()


def _stop_or_die(stop: asyncio.Event, told: threading.Event, number: int | None) -> None:
    if told.is_set() and number is not None:
        raise SystemExit(128 + number)
    told.set()
    stop.set()
