"""The demo, step by step: start, score, drift, fine-tune, swap, measure."""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from deploy.demo.plan import Plan
from deploy.demo.results import Quality, Results, read_results
from deploy.demo.services import Services
from deploy.demo.traffic import Traffic
from deploy.local.errors import StackError
from deploy.local.stack import LocalStack
from deploy.local.topics import standard_topics
from worker.control import point_at, read_pointer
from worker.errors import GateRefused, InklingError
from worker.settings import Settings, TopicSettings
from worker.topic import whole_topic

_FIRST_SCORE_S = 60.0
#: A slow machine takes three minutes.
_FINETUNE_S = 600.0
#: How often a version may be refused until it is said that none will do, and how long more labels are gathered in between.
_ATTEMPTS, _MORE_S = 3, 25.0
_PLAIN_WIDTH = 140
_AUDIT_WAIT_S = 60
_AUDIT_S = 180.0


class DemoError(InklingError):
    """The demo did not reach its end."""


@dataclass
class Summary:
    """What is printed at the end. `audit` is the audit's own report."""

    results: Results
    versions: list[str]
    first_score_s: float
    finetune_s: float
    sent: int
    bad: int
    audit_passed: bool
    audit: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Demo:
    """What is running. `live` is the task that sends the live traffic."""

    stack: LocalStack
    services: Services
    traffic: Traffic
    live: "asyncio.Task[None]"
    say: "Narrator"


async def keep_running(demo: Demo) -> None:
    """Let the shoppers in again, until cancelled."""
    demo.traffic.resume()
    demo.say(f"traffic goes on; the live page is at [bold]{demo.services.console_url}[/bold]. Ctrl-C ends everything")
    await demo.live


async def run_demo(directory: Path, plan: Plan, out: Console, then: Callable[[Demo], Awaitable[None]] | None = None) -> Summary:
    """Close the loop once, print what was measured and return it. `then` runs after that, before everything is ended.

    Raises StackError, DemoError, and what a command of the loop failed with. Leaves no process behind.
    """
    say = Narrator(out)
    async with contextlib.AsyncExitStack() as parts:
        say("starting Kafka, Triton and Prometheus")
        stack = LocalStack(directory / "stack", require_model=True, topics=standard_topics(TopicSettings()))
        parts.callback(stack.stop)
        await asyncio.to_thread(stack.start, say.detail)
        services = Services(stack, directory)
        settings = services.settings
        first = await point_at(settings, "1", by="demo", why="the default version")
        say("starting the worker, the outcome join and the console")
        parts.callback(services.stop)
        await asyncio.to_thread(services.start)
        say(f"the live page: [bold]{services.console_url}[/bold]")
        if stack.addresses.prometheus:
            say(f"Prometheus: {stack.addresses.prometheus}")
        traffic = Traffic(settings, plan, time.time_ns() // 1_000_000)
        await traffic.start()
        parts.push_async_callback(traffic.stop)
        say("shoppers of the last week arrive at once")
        await traffic.send_history()
        first_score_s = await _wait_for_scores(say, settings, traffic)
        live = asyncio.create_task(traffic.run_live())
        parts.push_async_callback(_cancel, live)
        demo = Demo(stack, services, traffic, live, say)
        summary = await _close_the_loop(demo, plan, settings, first.champion, first_score_s)
        print_summary(summary)
        if not summary.audit_passed:
            raise DemoError(f"the audit did not pass: {summary.audit.get('error')}")
        if then is not None:
            await then(demo)
        return summary


async def _close_the_loop(demo: Demo, plan: Plan, settings: Settings, first: str, first_score_s: float) -> Summary:
    say, traffic = demo.say, demo.traffic
    live_from_ms = time.time_ns() // 1_000_000
    say(f"live traffic; an hour of the shop passes in {3600 / plan.speedup:.0f} s")
    await _watch(demo.live, plan.steady_s)
    say("[yellow]the shop drifts[/yellow]: shoppers now buy more often than the model learned")
    await _watch(demo.live, plan.drifted_s)
    finetune_s = await _fine_tune(demo, say)
    second = await _champion(settings)
    say(f"[green]version {second} passed the gate and serves[/green] after {finetune_s:.0f} s; version {first} is unloaded")
    await _watch(demo.live, plan.after_s + plan.maturing_s)
    traffic.pause()
    say("auditing every record of the run")
    audit_passed, audit = await _audit(demo.services)
    results = await read_results(settings, traffic.truth, live_from_ms, traffic.drift.at_ms, first)
    return Summary(results, [first, second], first_score_s, finetune_s, traffic.sent, traffic.bad, audit_passed, audit)


async def _fine_tune(demo: "Demo", say: "Narrator") -> float:
    """Seconds that fine-tuning took until a version passed the gate. Raises GateRefused when none does.

    A version that is not better for sure is refused; with more labels from after the drift the next one has a better chance.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        say("fine-tuning on the newest labels")
        started = time.monotonic()
        try:
            await demo.services.run(_FINETUNE_S, "finetune", "--once")
        except GateRefused as refusal:
            if attempt == _ATTEMPTS:
                raise
            say(f"{refusal}; trying again with the labels of the next {_MORE_S:.0f} s")
            await _watch(demo.live, _MORE_S)
        else:
            return time.monotonic() - started
    raise AssertionError("unreachable")


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _champion(settings: Settings) -> str:
    pointer = await read_pointer(settings)
    assert pointer is not None, "the demo wrote one at its start"
    return pointer.champion


async def _wait_for_scores(say: "Narrator", settings: Settings, traffic: Traffic) -> float:
    """Wait until the history is scored; seconds from the start of the demo to the first score."""
    first_s = None
    async with whole_topic(settings.kafka, settings.topics.scores) as consumer:
        deadline = time.monotonic() + _FIRST_SCORE_S * 2
        while time.monotonic() < deadline:
            scored = sum((await consumer.end_offsets(consumer.assignment())).values())
            if scored and first_s is None:
                first_s = say.elapsed_s
                say(f"the first scores are there after {first_s:.0f} s")
            if scored >= traffic.sent - traffic.bad:
                say(f"{scored:,} events scored")
                return first_s or say.elapsed_s
            await asyncio.sleep(0.25)
    raise DemoError("the history was not scored in time: see the worker's log under the demo's folder")


async def _watch(live: "asyncio.Task[None]", seconds: float) -> None:
    """Let the traffic run; its failure is ours."""
    done, _ = await asyncio.wait([live], timeout=seconds)
    if done:
        live.result()
        raise DemoError("the traffic ended before the demo did")


async def _audit(services: Services) -> tuple[bool, dict[str, object]]:
    try:
        printed = await services.run(_AUDIT_S, "audit", "--json", "--wait", str(_AUDIT_WAIT_S))
    except StackError as error:
        return False, {"error": str(error)}
    report: dict[str, object] = json.loads(printed)
    return True, report


def print_summary(summary: Summary) -> None:
    """The table at the end of the demo, on stdout."""
    out = Console() if sys.stdout.isatty() else Console(width=_PLAIN_WIDTH)
    results = summary.results
    table = Table(title="What happened", show_header=False, title_justify="left")
    table.add_row("events sent", f"{summary.sent:,}")
    table.add_row("scores", ", ".join(f"{count:,} by the {path}" for path, count in sorted(results.scores.items(), reverse=True)))
    table.add_row("dead letters", f"{results.dead_letters:,} ({summary.bad:,} broken records were sent)")
    table.add_row("outcomes joined", f"{results.outcomes:,}")
    table.add_row("event to score, live", f"p50 {results.p50_ms:.0f} ms, p99 {results.p99_ms:.0f} ms")
    table.add_row("first score", f"{summary.first_score_s:.0f} s after the start")
    table.add_row("versions", ", ".join(f"{version}: {results.versions[version]:,} scores" for version in summary.versions))
    table.add_row("fine-tune, gate, swap", f"{summary.finetune_s:.0f} s")
    names = {"steady": "as trained", "drifted": "after the drift", "swapped": "after the swap"}
    for phase, name in names.items():
        if phase in results.quality:
            table.add_row(f"log-loss {name}", _quality_line(results.quality[phase]))
    table.add_row("audit", _audit_line(summary))
    out.print(table)


def _quality_line(quality: Quality) -> str:
    return (
        f"{quality.log_loss:.4f}, true probabilities {quality.bayes:.4f}, excess {quality.excess:+.4f} "
        f"({quality.n:,} matured labels, {quality.purchases:,} purchases)"
    )


def _audit_line(summary: Summary) -> str:
    return "[green]passed[/green]" if summary.audit_passed else f"[red]failed[/red]: {summary.audit.get('error')}"


class Narrator:
    """Says what happens, with the seconds since it was made."""

    def __init__(self, out: Console) -> None:
        self.out = out
        self._started = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started

    def __call__(self, text: str) -> None:
        self.out.print(f"[dim]{self.elapsed_s:6.1f} s[/dim]  {text}")

    def detail(self, text: str) -> None:
        self.out.print(f"[dim]{self.elapsed_s:6.1f} s  {text}[/dim]", highlight=False)
