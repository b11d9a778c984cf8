"""`inkling console`: the live page."""

from typing import Annotated

import typer

from worker.settings import Settings


def console(
    host: Annotated[str | None, typer.Option(help="Address to listen on [default: INKLING_CONSOLE__HOST].")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port [default: INKLING_CONSOLE__PORT]; 0: a free one.")
    ] = None,
) -> None:
    """Show what goes through Inkling right now, in the browser, until Ctrl-C."""
    import asyncio
    import logging
    import signal

    from worker.console.server import run_console

    # The page says when Kafka is away; aiokafka would say so ten times a second.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    settings = Settings()
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = settings.model_copy(update={"console": settings.console.model_copy(update=given)})

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await run_console(settings, typer.echo, stop)

    asyncio.run(run())
