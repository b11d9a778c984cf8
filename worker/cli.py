"""The `inkling` command. Results go to stdout, progress and logs to stderr.

Exit status: 0 done, 1 failed with one line that says what and what to do, 2 usage, 3 the gate refused.
"""

import sys

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
    cli_worker,
    doctor,
)
from worker.errors import InklingError
from worker.service import configure_logging, exit_status, one_line

app = typer.Typer(
    help="Scores what a shop's visitor is about to do, while the visitor is still doing it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


app.command()(cli_worker.worker)
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


def main() -> None:
    """Entry point: turns errors into one line and a status."""
    configure_logging()
    try:
        app()
    except (InklingError, ValidationError) as error:
        _end(one_line(error), exit_status(error))
    except KeyboardInterrupt:
        _end("interrupted", 130)
    except BrokenPipeError:
        # Whoever read our output has enough.
        sys.stderr.close()
        raise SystemExit(0) from None


def _end(message: str, status: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(status)
