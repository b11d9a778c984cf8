"""The `inkling` command. Results go to stdout, progress and logs to stderr.

Exit status: 0 done, 1 failed with one line that says what and what to do, 2 usage, 3 the gate refused.
"""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
import typer
from pydantic import ValidationError

from worker import (
    cli_baselines,
    cli_console,
    cli_demo,
    cli_evaluate,
    cli_finetune,
    cli_learning,
    cli_models,
    cli_simulate,
    cli_stack,
    cli_topics,
    doctor,
)
from worker.errors import ConfigurationError, InklingError
from worker.settings import Settings

app = typer.Typer(
    help="Scores what a shop's visitor is about to do, while the visitor is still doing it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def worker() -> None:
    """Score clicks until told to stop. As many as you like share the partitions."""
    from worker.app import run_worker

    run_service(run_worker)


app.command()(cli_demo.demo)
app.add_typer(cli_stack.app, name="stack")
app.command()(doctor.doctor)
app.command()(cli_topics.labels)
app.command()(cli_topics.replay)
app.command()(cli_topics.audit)
app.add_typer(cli_topics.dlq_app, name="dlq")
app.add_typer(cli_simulate.app, name="simulate")
app.command()(cli_learning.train)
app.command()(cli_learning.score)
app.command()(cli_evaluate.evaluate)
app.command()(cli_baselines.baselines)
app.command()(cli_finetune.finetune)
app.add_typer(cli_models.models_app, name="models")
app.command()(cli_models.promote)
app.command()(cli_models.rollback)
app.command()(cli_console.console)


def run_service(run: Callable[[Settings, asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run a long-lived service until SIGTERM or SIGINT, which drain it; a second one ends it at once."""

    async def until_signalled() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _stop_or_die, stop, number)
        await run(Settings(), stop)

    asyncio.run(until_signalled())


def main() -> None:
    """Entry point: turns errors into one line and a status."""
    _configure_logging()
    try:
        app()
    except InklingError as error:
        _end(str(error), error.exit_status)
    except ValidationError as error:
        first = error.errors()[0]
        name = "INKLING_" + "__".join(str(part).upper() for part in first["loc"])
        _end(f"{name}: {first['msg']}", ConfigurationError.exit_status)
    except KeyboardInterrupt:
        _end("interrupted", 130)
    except BrokenPipeError:
        # Whoever read our output has enough.
        sys.stderr.close()
        raise SystemExit(0) from None


def _stop_or_die(stop: asyncio.Event, number: int) -> None:
    if stop.is_set():
        raise SystemExit(128 + number)
    stop.set()


def _end(message: str, status: int) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(status)


def _configure_logging() -> None:
    # Libraries speak up only when something is wrong; our own log says what happens.
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
