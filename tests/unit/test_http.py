"""The embedded server: what it answers, and how it comes and goes."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from worker.errors import ConfigurationError
from worker.http import Ready, Server, process_routes, serve

HOST = "127.0.0.1"


def registry_with_one_counter() -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("inkling_things", "Things.", registry=registry).inc(3)
    return registry


@asynccontextmanager
async def running(ready: Ready) -> AsyncIterator[tuple[Server, httpx.AsyncClient]]:
    server = await serve(HOST, 0, process_routes(ready, registry_with_one_counter()))
    try:
        async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
            yield server, client
    finally:
        await server.close()


async def test_healthz_answers_while_the_loop_turns() -> None:
    """/healthz is 200 even when the process is not ready."""
    async with running(lambda: (False, "starting")) as (_, client):
        assert (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize(("state", "status"), [((True, "ready"), 200), ((False, "no partitions yet"), 503)])
async def test_readyz_says_yes_or_why_not(state: tuple[bool, str], status: int) -> None:
    """/readyz carries the callable's verdict and its reason."""
    async with running(lambda: state) as (_, client):
        answer = await client.get("/readyz")
    assert (answer.status_code, answer.text) == (status, f"{state[1]}\n")


async def test_metrics_speaks_the_format_that_is_asked_for() -> None:
    """/metrics gives the Prometheus text by default and OpenMetrics on request."""
    async with running(lambda: (True, "")) as (_, client):
        plain = await client.get("/metrics")
        open_metrics = await client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert "inkling_things_total 3.0" in plain.text
    assert plain.headers["content-type"].startswith("text/plain")
    assert open_metrics.headers["content-type"].startswith("application/openmetrics-text")
    assert open_metrics.text.endswith("# EOF\n")


async def test_taken_port_is_one_line_that_names_the_setting() -> None:
    """A port in use is a ConfigurationError that says which setting to change."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        with pytest.raises(ConfigurationError, match="set INKLING_METRICS__LABELS_PORT to a free port") as caught:
            await serve(HOST, taken.getsockname()[1], [], setting="INKLING_METRICS__LABELS_PORT")
    assert "\n" not in str(caught.value)


async def test_close_frees_the_port_and_may_be_repeated() -> None:
    """After close() the same port can be served again, and a second close() does nothing."""
    first = await serve(HOST, 0, [])
    port = int(first.url.rsplit(":", 1)[1])
    await first.close()
    await first.close()
    second = await serve(HOST, port, [])
    await second.close()


async def test_close_does_not_wait_for_an_endless_response() -> None:
    """A client that holds a stream open cannot keep the process from ending."""

    async def endless(request: Request) -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            while True:
                yield b"x"
                await asyncio.sleep(0.05)

        return StreamingResponse(body())

    server = await serve(HOST, 0, [Route("/", endless)])
    async with httpx.AsyncClient(trust_env=False) as client, client.stream("GET", server.url) as answer:
        assert await anext(answer.aiter_raw()) == b"x"
        async with asyncio.timeout(5):
            await server.close()


async def test_signals_stay_with_the_owner_of_the_loop() -> None:
    """Serving neither replaces nor restores the process's signal handlers."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    server = await serve(HOST, 0, [])
    during = {number: signal.getsignal(number) for number in before}
    await server.close()
    assert during == before
