"""`inkling demo`: what `make demo` runs."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def demo(
    directory: Annotated[Path, typer.Option("--dir", help="Where the demo keeps its files; emptied first.")] = Path(
        ".inkling/demo"
    ),
    keep: Annotated[
        bool | None, typer.Option("--keep/--no-keep", help="Go on until Ctrl-C after the summary [default: with a terminal].")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the simulated shoppers.")] = 11,
) -> None:
    """Start everything here, let simulated shoppers in, close the loop once, and print a summary."""
    import asyncio
    import logging
    from contextlib import suppress

    from rich.console import Console

    from worker.errors import ConfigurationError

    try:
        from deploy.demo.plan import Plan
        from deploy.demo.run import keep_running, run_demo
        from deploy.local.stack import wipe
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"the demo needs a clone with all extras, {error.name} is missing: run make install") from error

    # Brokers that have just started make clients try twice, which is not worth a line here; the services have logs of their own.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    out = Console(file=sys.stderr, highlight=False)
    if directory.exists():
        wipe(directory / "stack")
    stay = sys.stdout.isatty() if keep is None else keep
    with suppress(KeyboardInterrupt):
        asyncio.run(run_demo(directory, Plan(seed=seed), out, keep_running if stay else None))
