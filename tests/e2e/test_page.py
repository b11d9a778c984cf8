"""The console's page in a real browser: numbers move, sessions render, nothing is asked of anybody else."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright

from tests.support.console_traffic import Shop
from worker.console.server import Console
from worker.console.state import Aggregator
from worker.contract.events import ClickEvent, ScoreEvent

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SIZES = [(1280, 900), (390, 844)]
EVIL = "<img src=x onerror=\"document.title='owned'\">"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Watched:
    """A page, with everything that went wrong on it."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.errors: list[str] = []
        self.elsewhere: list[str] = []
        self._url = url
        page.on("console", self._message)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self._request)

    def _message(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def _request(self, request: Request) -> None:
        if not request.url.startswith(self._url):
            self.elsewhere.append(request.url)


class Site:
    """A console that a small shop feeds, and a browser to look at it."""

    def __init__(self, browser: Browser) -> None:
        self.aggregator = Aggregator()
        self.shop = Shop(self.aggregator)
        self.console = Console(self.aggregator, now_ms)
        self._browser = browser

    async def open(self, width: int = 1280, height: int = 900, theme: str = "light") -> Watched:
        context = await self._browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)  # type: ignore[arg-type]
        watched = Watched(await context.new_page(), self.console.url)
        await watched.page.goto(self.console.url)
        return watched

    def run(self, seconds: int, swap_at: int | None = None) -> None:
        """The last seconds of traffic, all at once."""
        self.aggregator.connection("live", "Kafka at test")
        for ago in range(seconds, -1, -1):
            if ago == swap_at:
                self.shop.point("8", now_ms() - ago * 1000, "log-loss 0.231 against 0.238")
            self.shop.second(now_ms() - ago * 1000)


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    if CHROMIUM is None:
        message = "no browser: install chromium to test the page"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    async with async_playwright() as playwright:
        # A container's root has no sandbox and a small /dev/shm.
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        made = Site(browser)
        await made.console.start("127.0.0.1", 0)
        try:
            yield made
        finally:
            await browser.close()
            await made.console.close()


async def eventually(check: Callable[[], object], page: Page, expression: str, within_s: float = 10) -> None:
    """Waits until the JavaScript expression is true, feeding the page meanwhile."""
    deadline = time.monotonic() + within_s
    while not await page.evaluate(expression):
        assert time.monotonic() < deadline, f"never true: {expression}"
        check()
        await asyncio.sleep(0.2)


def nothing() -> None:
    return None


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), SIZES)
async def test_the_page_shows_what_goes_on(site: Site, width: int, height: int, theme: str, tmp_path: Path) -> None:
    """At both sizes and in both themes all parts are filled, nothing overflows, and the browser has nothing to complain of."""
    site.run(200, swap_at=60)
    watched = await site.open(width, height, theme)
    page = watched.page
    await eventually(nothing, page, "document.querySelectorAll('#sessions .session').length === 8")
    await page.screenshot(path=tmp_path / f"page-{width}-{theme}.png", full_page=True)
    assert await page.text_content("#status") == "Live"
    assert float((await page.text_content("#events") or "").replace(",", "")) > 0
    assert (await page.text_content("#p99") or "").endswith("ms")
    assert (await page.text_content("#model-share") or "").endswith("%")
    assert int(await page.text_content("#dead") or 0) > 0
    assert await page.locator("#loop li:not(.never)").count() == 5
    assert set(await page.locator("#version-legend .chip").all_text_contents()) == {"7", "8", "fallback"}
    assert await page.locator("#versions-chart .edge").count() == 3
    assert await page.locator("#versions-chart .swap").count() == 1
    assert await page.locator("#quality-chart .trace").count() >= 2
    assert await page.locator("#quality tbody tr").count() >= 2
    assert await page.locator("#sessions .steps .icon").count() > 20
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert await page.evaluate(
        "[...document.querySelectorAll('.tile, .panel')].every((box) => box.scrollWidth <= box.clientWidth)"
    )
    # Images are no part of the page; fonts are, and are its own.
    assert await page.evaluate("document.fonts.ready.then(() => document.fonts.check('14px Inter'))")
    assert (watched.errors, watched.elsewhere) == ([], [])


async def test_another_horizon_can_be_chosen(site: Site) -> None:
    """The chart and the table of online quality are about the horizon that was clicked, and stay so."""
    site.run(60)
    watched = await site.open()
    page = watched.page
    await page.click("#horizons button:has-text('30 min')")
    await asyncio.sleep(1.5)
    assert await page.get_attribute("#horizons button:has-text('30 min')", "aria-pressed") == "true"
    assert (await page.text_content("#quality-caption") or "").endswith("30 min")
    assert await page.locator("#quality-chart .trace").count() >= 1
    assert watched.errors == []


async def test_numbers_and_lines_move(site: Site) -> None:
    """With traffic going on, the rate, the sparkline and a session's line change without a reload."""
    site.run(60)
    watched = await site.open()
    page = watched.page
    await eventually(nothing, page, "document.querySelector('#sessions .line')?.getAttribute('d')")
    await page.evaluate(
        "() => { window.drawn = (chart) =>"
        "   [...document.querySelectorAll(chart + ' .line')].map((line) => line.getAttribute('d')).join();"
        " window.before = ['#events-chart', '#sessions'].map(drawn);"
        " window.text = document.querySelector('#sessions').textContent; }"
    )
    await eventually(
        lambda: site.shop.second(now_ms()),
        page,
        "drawn('#events-chart') !== before[0] && drawn('#sessions') !== before[1]"
        " && document.querySelector('#sessions').textContent !== text",
    )
    assert watched.errors == []


async def test_jumps_from_almost_nothing_are_drawn(site: Site) -> None:
    """A probability that leaps from next to zero glides there without a point below the chart."""
    site.aggregator.connection("live", "")
    watched = await site.open()
    for number in range(12):
        send(site.aggregator, "ann", number, "view", p=0.9 if number % 2 else 0.00001)
        await asyncio.sleep(0.55)
    line = await watched.page.locator(".session .line").get_attribute("d")
    assert line
    assert "NaN" not in line
    assert watched.errors == []


async def test_a_purchase_is_celebrated(site: Site) -> None:
    """The row of a visitor who buys turns, and says so."""
    site.aggregator.connection("live", "")
    watched = await site.open()
    for number, kind in enumerate(("view", "cart", "purchase")):
        await asyncio.sleep(0.1)
        send(site.aggregator, "ann", number, kind)
    await eventually(nothing, watched.page, "document.querySelector('.session.bought .note')?.textContent === 'bought'")
    assert await watched.page.locator(".session .step.purchase").count() == 1
    assert watched.errors == []


async def test_ids_from_outside_are_only_text(site: Site) -> None:
    """Markup in a visitor, item, version or reason is shown as the characters it is."""
    site.aggregator.connection("live", EVIL)
    for number in range(3):
        send(site.aggregator, EVIL[:12], number, "view", item=EVIL, version=EVIL)
    site.shop.point(EVIL, now_ms(), EVIL)
    watched = await site.open()
    await eventually(nothing, watched.page, "document.querySelector('.session .visitor')?.textContent.startsWith('<img')")
    await asyncio.sleep(0.5)
    assert await watched.page.title() == "Inkling"
    assert await watched.page.locator("img").count() == 0
    assert EVIL in (await watched.page.text_content("#swaps") or "")
    assert (watched.errors, watched.elsewhere) == ([], [])


async def test_before_anything_arrives_the_page_says_what_to_do(site: Site) -> None:
    """Without topics, events, labels or versions every part says what is missing and which command brings it."""
    site.aggregator.connection("waiting", "Not there yet: clicks.")
    watched = await site.open()
    await eventually(nothing, watched.page, "document.body.dataset.state === 'waiting'")
    assert "clicks" in (await watched.page.text_content("#notice") or "")
    for part, command in (
        ("#sessions-empty", "inkling simulate"),
        ("#swaps-empty", "inkling promote"),
        ("#loop", "inkling finetune"),
    ):
        assert command in (await watched.page.text_content(part) or "")
        assert await watched.page.is_visible(part)
    assert watched.errors == []


async def test_lost_connections_are_visible_and_mend(site: Site) -> None:
    """Without Kafka, and without the console itself, the page says so and keeps what it has; when they are back, so is it."""
    site.run(30)
    watched = await site.open()
    page = watched.page
    await eventually(nothing, page, "document.querySelectorAll('.session').length > 0")
    site.aggregator.connection("lost", "Kafka does not answer at test:9092. Trying again.")
    await eventually(nothing, page, "document.body.dataset.state === 'lost'")
    assert "test:9092" in (await page.text_content("#notice") or "")
    assert await page.locator(".session").count() > 0

    port = int(site.console.url.rsplit(":", 1)[1])
    await site.console.close()
    await eventually(nothing, page, "document.body.dataset.state === 'offline'")
    assert await page.is_visible("#notice")
    site.aggregator.connection("live", "Kafka at test")
    site.console = Console(site.aggregator, now_ms)
    await site.console.start("127.0.0.1", port)
    await eventually(nothing, page, "document.body.dataset.state === 'live'", within_s=15)
    assert not await page.is_visible("#notice")


async def test_the_theme_is_kept(site: Site) -> None:
    """The button turns the page dark, and it stays dark after a reload."""
    watched = await site.open(theme="light")
    page = watched.page
    light = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    await page.click("#theme")
    dark = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    await page.reload()
    assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
    assert dark != light


def send(
    aggregator: Aggregator, visitor: str, number: int, kind: str, item: str = "shoe", version: str = "7", p: float | None = None
) -> None:
    """One event of a visitor and its score."""
    at = now_ms()
    aggregator.click(ClickEvent(f"{visitor}{number}", at, visitor, kind, item_id=item), at)  # type: ignore[arg-type]
    said: dict[str, dict[str, float] | float] = {"purchase": {"session": 0.1 + number / 10 if p is None else p}}
    aggregator.score(
        ScoreEvent(
            f"clicks:0:{number}",
            f"{visitor}{number}",
            visitor,
            "s",
            number + 1,
            at,
            at,
            9,
            True,
            "intent",
            version,
            "model",
            "",
            said,
        ),
        at,
    )
