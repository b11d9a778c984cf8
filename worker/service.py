"""Running a long-lived service: signals, logging, and errors as one line and a status."""

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
from pydantic import ValidationError

from worker.errors import ConfigurationError, InklingError
from worker.settings import Settings

#: Serves until the event is set, then finishes what it has.
Service = Callable[[Settings, asyncio.Event], Coroutine[Any, Any, None]]


#: For a drain and every connection to be closed. A worker that hangs longer would keep its partitions from everybody else.
END_S = 60.0


def run_service(
    run: Service, settings: Callable[[], Settings] = Settings, *, patient: bool = False, end_s: float | None = END_S
) -> None:
    """Run a service until SIGTERM or SIGINT, which drain it. A second one ends it at once, unless it is `patient`.

    When it has not ended `end_s` seconds after `stop` was set, by a signal or by itself, the process is ended hard.
    """

    async def until_signalled() -> None:
        stop = asyncio.Event()
        limit = asyncio.create_task(_end_hard_after(stop, end_s))
        await asyncio.sleep(0)  # so that it is the first to learn of `stop`
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            if patient:
                loop.add_signal_handler(number, stop.set)
            else:
                loop.add_signal_handler(number, _stop_or_die, stop, number)
        try:
            await run(settings(), stop)
        finally:
            limit.cancel()

    asyncio.run(until_signalled())


def own_command(*more: str) -> list[str]:
    """What starts this very program again, with the arguments that it was given and `more`."""
    return [sys.executable, *sys.orig_argv[1:], *more]


def one_line(error: InklingError | ValidationError) -> str:
    """What is wrong and what to do."""
    message = str(error)
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        name = "INKLING_" + "__".join(str(part).upper() for part in first["loc"])
        message = f"{name}: {first['msg']}"
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


async def _end_hard_after(stop: asyncio.Event, end_s: float | None) -> None:
    await stop.wait()
    if end_s is not None:
        # A thread, as the event loop may be what hangs, and one that is there as long as the process.
        timer = threading.Timer(end_s, _end_hard, [end_s])
        timer.daemon = True
        timer.start()


def _end_hard(end_s: float) -> None:
    os.write(
        sys.stderr.fileno(), f"error: did not end within {end_s:g} s, so it is ended hard; nothing is lost by that\n".encode()
    )
    os._exit(1)


def _stop_or_die(stop: asyncio.Event, number: int) -> None:
    if stop.is_set():
        raise SystemExit(128 + number)
    stop.set()
