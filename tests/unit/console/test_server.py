"""The page's server: who may ask, what they get, and that nobody holds it up."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from worker.console import server as server_module
from worker.console.server import Console, Newest
from worker.console.state import Aggregator

NOW = 1_760_000_000_000


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Console, httpx.AsyncClient]]:
    console = Console(Aggregator(), lambda: NOW)
    await console.start("127.0.0.1", 0)
    try:
        async with httpx.AsyncClient(base_url=console.url, trust_env=False) as client:
            yield console, client
    finally:
        await console.close()


async def test_readers_get_the_newest_value_and_miss_those_between() -> None:
    """A reader that is slow sees the newest value, not a queue of old ones."""
    newest = Newest()
    newest.publish(b"1")
    values = newest.values()
    assert await anext(values) == b"1"
    newest.publish(b"2")
    newest.publish(b"3")
    assert await anext(values) == b"3"
    newest.close()
    with pytest.raises(StopAsyncIteration):
        await anext(values)


async def test_snapshots_are_pushed_again_and_again() -> None:
    """The stream holds one JSON snapshot after another, each with the server's time."""
    async with running() as (_, client), client.stream("GET", "/snapshots") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = (line async for line in answer.aiter_lines() if line.startswith("data: "))
        for _ in range(3):
            assert json.loads((await anext(lines)).removeprefix("data: "))["now_ms"] == NOW


async def test_a_client_that_does_not_read_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one client stuck and snapshots larger than its buffers, another still gets one after the other."""
    monkeypatch.setattr(server_module, "PUSH_S", 0.01)
    async with running() as (console, client):
        # A megabyte a snapshot fills every buffer on the way within a few of them.
        console._aggregator.connection("live", "x" * 1_000_000)
        host, port = console.url.removeprefix("http://").split(":")
        _, stuck = await asyncio.open_connection(host, int(port))
        stuck.write(b"GET /snapshots HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        await stuck.drain()
        stuck.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(0.3)
        async with asyncio.timeout(10), client.stream("GET", "/snapshots") as answer:
            lines = (line async for line in answer.aiter_lines() if line.startswith("data: "))
            for _ in range(20):
                await anext(lines)
        stuck.close()


async def test_only_so_many_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the limit a page is refused, and a closed one makes room."""
    monkeypatch.setattr(server_module, "_MAX_PAGES", 1)
    async with running() as (_, client):
        async with client.stream("GET", "/snapshots") as first:
            await anext(first.aiter_lines())
            assert (await client.get("/snapshots")).status_code == 503
        async with asyncio.timeout(5):
            while True:
                async with client.stream("GET", "/snapshots") as again:
                    if again.status_code == 200:
                        break
                await asyncio.sleep(0.05)


async def test_everything_comes_with_the_headers() -> None:
    """Page, scripts, stream and errors forbid whatever is not from here."""
    async with running() as (_, client):
        for path in ("/", "/static/app.js", "/static/missing.js", "/nothing"):
            headers = (await client.get(path)).headers
            assert "default-src 'none'" in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"


async def test_other_names_are_refused() -> None:
    """A page of another site cannot reach a local console by a name that it makes resolve to this machine."""
    async with running() as (_, client):
        assert (await client.get("/", headers={"host": "evil.example"})).status_code == 400
        assert (await client.get("/", headers={"host": "localhost:80"})).status_code == 200


@pytest.mark.parametrize("path", ["/static/../server.py", "/static/..%2fserver.py", "/static//etc/passwd"])
async def test_only_the_page_is_served(path: str) -> None:
    """No path leads out of the page's own folder."""
    async with running() as (_, client):
        assert (await client.get(path)).status_code == 404


def test_the_page_asks_nobody_else() -> None:
    """No file of the page names another host, sets markup from text, or runs inline code."""
    static = Path(server_module.__file__).parent / "static"
    for file in (path for path in static.rglob("*") if path.suffix in {".html", ".css", ".js"}):
        text = file.read_text()
        for forbidden in ("https://", "//cdn", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert forbidden not in text, f"{file.name}: {forbidden}"
        assert text.replace("http://www.w3.org/2000/svg", "").count("http://") == 0, file.name
