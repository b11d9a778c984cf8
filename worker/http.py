"""A small HTTP server inside a running event loop: /metrics, /healthz, /readyz, and the console's page.

The loop belongs to somebody else (Faust, or a command), so no signal handler is installed and no logging is configured.
"""

import asyncio
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from worker.errors import ConfigurationError

#: Says whether the process may be given work, and if not, why.
Ready = Callable[[], tuple[bool, str]]

# How long an open response may go on after close() before it is cut.
_DRAIN_S = 2


class Server:
    """A server that accepts connections. `url` holds the real port, also when port 0 was asked for."""

    def __init__(self, server: uvicorn.Server, task: asyncio.Task[None], url: str) -> None:
        self.url = url
        self._server = server
        self._task = task

    async def close(self) -> None:
        """Stops accepting, gives open responses two seconds, and frees the port. May be called twice."""
        self._server.should_exit = True
        await self._task


async def serve(host: str, port: int, routes: Sequence[BaseRoute], *, setting: str = "INKLING_METRICS__PORT") -> Server:
    """Serves `routes` from the running loop and returns once connections are accepted.

    `setting` is the name that the user would change. Raises ConfigurationError when the address cannot be had.
    """
    listener = _listen(host, port, setting)
    config = uvicorn.Config(
        Starlette(routes=routes),
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=_DRAIN_S,
    )
    server = _EmbeddedServer(config)
    task = asyncio.create_task(server.serve(sockets=[listener]), name=f"http:{setting}")
    started = asyncio.create_task(server.accepting.wait())
    await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        started.cancel()
        listener.close()
        task.result()
    bound_host, bound_port = listener.getsockname()[:2]
    shown = f"[{bound_host}]" if ":" in bound_host else bound_host
    return Server(server, task, f"http://{shown}:{bound_port}")


def process_routes(ready: Ready, registry: CollectorRegistry = REGISTRY) -> list[BaseRoute]:
    """The three pages that every process of ours has.

    `/healthz` answers 200 as long as the event loop turns, `/readyz` 200 or 503 with the reason, and `/metrics` in the
    text format that the scraper asks for (Prometheus or OpenMetrics).
    """

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        is_ready, reason = ready()
        return PlainTextResponse(f"{reason}\n", status_code=200 if is_ready else 503)

    # A plain function: Starlette runs it in a thread, so that a large page does not hold up the loop.
    def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]


class _EmbeddedServer(uvicorn.Server):
    """uvicorn's server without its signal handlers, which says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepting = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.accepting.set()


def _listen(host: str, port: int, setting: str) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise ConfigurationError(f"cannot resolve the host {host!r} beside {setting}: {error}") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"cannot listen on {host}:{port} ({error.strerror}); set {setting} to a free port") from error
    return listener
