"""`inkling worker`: one, or several under a supervisor."""

import os
import sys
import time
from functools import partial
from typing import Annotated, NoReturn

import typer
from structlog import get_logger

from worker.errors import OwnershipError
from worker.member import Member, run_member
from worker.service import Service, own_command, run_service
from worker.supervisor import supervise

#: Whoever took our partitions over has settled by then.
_ANEW_AFTER_S = 1.0


def worker(
    processes: Annotated[
        int,
        typer.Option(
            min=1,
            help="Run so many under a supervisor, which starts the dead again and hands their partitions over at once. "
            "Number i, from 0, serves its metrics on INKLING_METRICS__PORT + i.",
        ),
    ] = 1,
    member: Annotated[str | None, typer.Option(hidden=True, help="Which of a supervisor's workers this is.")] = None,
) -> None:
    """Score clicks until told to stop. As many as you like share the partitions, here or elsewhere.

    The first SIGTERM or SIGINT drains, a second one ends at once.
    """
    from worker.app import run_worker

    run_workers(run_worker, processes, member)


def run_workers(run: Service, processes: int, member: str | None) -> None:
    """Run the worker's service as the options say: as a supervisor's child, as a supervisor, or alone."""
    if member is not None:
        run_member(run, Member.parse(member))
    elif processes > 1:
        # Its workers have a limit of their own to end by.
        run_service(
            partial(supervise, processes=processes, command=lambda member: own_command("--member", str(member))), closing_s=None
        )
    else:
        try:
            run_service(run, hung=_begin_anew)
        except OwnershipError as error:
            get_logger().warning("shut out, beginning anew", reason=str(error), pause_s=_ANEW_AFTER_S)
            _begin_anew()


def _begin_anew() -> NoReturn:
    """Become a fresh process of the same id: a worker that was paused comes back by itself, with nothing of what it knew."""
    time.sleep(_ANEW_AFTER_S)
    os.execv(sys.executable, own_command())
