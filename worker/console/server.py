"""The page over HTTP, and snapshots as server-sent events."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.console.feed import Feed
from worker.console.state import Aggregator
from worker.http import Server, serve
from worker.settings import Settings

_STATIC = Path(__file__).parent / "static"

#: Seconds between two snapshots.
PUSH_S = 0.5
# Pages open at once: more than anybody needs, few enough to bound memory.
_MAX_PAGES = 32

# The page needs nothing from elsewhere and may be told to load nothing from elsewhere.
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
# A page of another site must not reach a console on this machine by a name that resolves to it.
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Newest:
    """One value that changes. Every reader gets the newest one; a slow reader misses those in between and holds nobody up."""

    def __init__(self) -> None:
        self._value = b""
        self._changed = asyncio.Event()
        self._closed = False

    def publish(self, value: bytes) -> None:
        """Replaces the value."""
        self._value = value
        self._wake()

    def close(self) -> None:
        """Ends every reader."""
        self._closed = True
        self._wake()

    async def values(self) -> AsyncIterator[bytes]:
        """The value now, and each newer one that the reader is in time for."""
        while not self._closed:
            changed = self._changed
            if self._value:
                yield self._value
            await changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class Console:
    """The page on its address, with whatever the aggregator holds."""

    def __init__(self, aggregator: Aggregator, now_ms: Callable[[], int]) -> None:
        self._aggregator = aggregator
        self._now_ms = now_ms
        self._newest = Newest()
        self._pages = 0
        self._server: Server | None = None
        self._pusher: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where the page is, once started."""
        assert self._server is not None
        return self._server.url

    async def start(self, host: str, port: int) -> None:
        """Serves. Raises ConfigurationError when the address is taken."""
        hosts = list(_LOOPBACK) if host in _LOOPBACK else ["*"]
        routes = [
            Route("/", self._page),
            Route("/snapshots", self._snapshots),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ]
        guarded = Starlette(routes=routes, middleware=[Middleware(_Headers), Middleware(TrustedHostMiddleware, hosts)])
        self._server = await serve(host, port, [Mount("/", guarded)], setting="INKLING_CONSOLE__PORT")
        self._pusher = asyncio.create_task(self._push(), name="console-push")

    async def close(self) -> None:
        """Ends the streams and frees the port."""
        self._newest.close()
        if self._pusher is not None:
            self._pusher.cancel()
            await asyncio.wait([self._pusher])
        if self._server is not None:
            await self._server.close()

    async def _push(self) -> None:
        while True:
            self._newest.publish(msgspec.json.encode(self._aggregator.snapshot(self._now_ms())))
            await asyncio.sleep(PUSH_S)

    async def _page(self, request: Request) -> Response:
        return FileResponse(_STATIC / "index.html")

    async def _snapshots(self, request: Request) -> Response:
        if self._pages >= _MAX_PAGES:
            return PlainTextResponse(f"{_MAX_PAGES} pages are open already\n", status_code=503)
        return StreamingResponse(self._events(), media_type="text/event-stream")

    async def _events(self) -> AsyncIterator[bytes]:
        self._pages += 1
        try:
            yield b"retry: 1000\n\n"
            async for value in self._newest.values():
                yield b"data: " + value + b"\n\n"
        finally:
            self._pages -= 1


async def run_console(settings: Settings, started: Callable[[str], None], stop: asyncio.Event) -> None:
    """Follows Kafka and serves the page until `stop` is set. `started` gets the page's address."""
    aggregator = Aggregator()
    console = Console(aggregator, lambda: time.time_ns() // 1_000_000)
    await console.start(settings.console.host, settings.console.port)
    feed = asyncio.create_task(Feed(settings, aggregator).run(), name="console-feed")
    stopped = asyncio.create_task(stop.wait())
    try:
        started(console.url)
        await asyncio.wait({feed, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if feed.done():
            feed.result()
    finally:
        for task in (feed, stopped):
            task.cancel()
        await asyncio.wait({feed, stopped})
        await console.close()


class _Headers:
    """Adds the security headers to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers)
