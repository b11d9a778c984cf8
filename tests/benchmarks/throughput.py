"""Events a second of each contestant: same clicks, own process, own group, own topics; rounds in rotating order."""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.broker import committed, drop_topics, ends, fresh_topics, last_append, make_append_timed
from tests.benchmarks.process import PEER_PYTHON, module, running
from worker.settings import KafkaSettings, Settings, WorkerSettings

HERE = Path(__file__).parent
_TIMEOUT_S = 300.0
_POLL_S = 0.2


@dataclass(frozen=True)
class Contestant:
    """`share` is the part of the events it gets: a slow one needs fewer for a rate as sure."""

    name: str
    what: str
    command: tuple[str, ...]
    changelog: str | None  # its name, from the group's; None: the contestant only counts
    share: float = 1.0
    max_batch: int = WorkerSettings().max_batch
    delivery: str = "at_least_once"


Watch = Callable[[int], None]


def contestants() -> list[Contestant]:
    """All of them, ours first."""
    ours = tuple(module("tests.benchmarks.contestants.inkling"))
    count = "counts by visitor, commits; no state kept, no output"
    light = "last 64 events and their number by visitor in a table with changelog, a small score record, commit"
    full = "decode and check, session fold, hash, encode, constant score, 566-byte score record, changelog, commit"
    return [
        Contestant("inkling", full + f"; batches of up to {WorkerSettings().max_batch} (default)", ours, "{group}-state"),
        Contestant("inkling, batches of 256", "the same", ours, "{group}-state", max_batch=256),
        Contestant(
            "inkling, exactly once",
            "the same, scores and state in one transaction",
            ours,
            "{group}-state",
            delivery="exactly_once",
        ),
        Contestant("stock Faust", light, (sys.executable, _script("stock_faust")), "{group}-sessions-changelog", share=0.05),
        Contestant("Quix Streams", light, (str(PEER_PYTHON), _script("quix")), "changelog__{group}--{clicks}--default"),
        Contestant("bare confluent-kafka", count, (str(PEER_PYTHON), _script("confluent_count")), None),
        Contestant("bare aiokafka", count, (sys.executable, _script("aiokafka_count")), None),
    ]


def run_rounds(
    bootstrap: str,
    topics: dict[float, tuple[str, int]],
    entered: Sequence[Contestant],
    rounds: int,
    work: Path,
    say: Callable[[str], None],
) -> dict[str, list[float]]:
    """Events a second by contestant, a figure a round. `topics` has a clicks topic and how many events it holds, by share.

    One round before that does not count: a broker that has just started compiles itself, at the cost of whoever is first.
    """
    rates: dict[str, list[float]] = {one.name: [] for one in entered}
    for number in range(rounds + 1):
        turn = number % len(entered)
        for one in (*entered[turn:], *entered[:turn]):
            clicks, events = topics[one.share]
            rate = run(bootstrap, clicks, events, one, work)
            say(f"round {number or 'of warm-up'}: {one.name}: {rate:,.0f} events/s (load {os.getloadavg()[0]:.1f})")
            if number:
                rates[one.name].append(rate)
    return rates


def summary(rates: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": round(statistics.median(rates)), "min": round(min(rates)), "max": round(max(rates))}


def run(bootstrap: str, clicks: str, events: int, one: Contestant, work: Path, watch: Watch | None = None) -> float:
    """One contestant's events a second. `watch` is called with its process id when it has begun."""
    names = fresh_topics(bootstrap, clicks)
    group = names.scores.replace("scores", "group")
    outputs = [names.scores]
    if one.changelog is not None:
        outputs.append(one.changelog.format(group=group, clicks=clicks))
        make_append_timed(bootstrap, outputs[1:], names.partitions)
    report, state_dir = work / f"{group}.txt", work / group
    state_dir.mkdir()
    job = {
        "bootstrap": bootstrap, "group": group, "events": events, "partitions": names.partitions, "max_batch": one.max_batch,
        "delivery": one.delivery,
        "clicks": clicks, "output": names.scores, "changelog": outputs[-1], "dead": names.dead,
        "report": str(report), "state_dir": str(state_dir),
    }  # fmt: skip
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=bootstrap), topics=names, worker=WorkerSettings(group=group))
    log = work / f"{group}.log"
    try:
        with running([*one.command, json.dumps(job)], log) as process:
            asyncio.run(_until_done(settings, events, one, process, report, watch))
    except (RuntimeError, TimeoutError) as error:
        raise SystemExit(f"error: {one.name}: {error}\n{log.read_text()[-2000:]}") from None
    times = [float(line) for line in report.read_text().split()]
    ended = times[1] if one.changelog is None else asyncio.run(last_append(bootstrap, outputs))
    drop_topics(bootstrap, outputs)
    return events / (ended - times[0])


async def _until_done(
    settings: Settings, events: int, one: Contestant, process: "subprocess.Popen[Any]", report: Path, watch: Watch | None
) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while (at := await committed(settings)) < events:
        if process.poll() is not None and one.changelog is not None:
            raise RuntimeError(f"ended by itself with {at} of {events} committed")
        if time.monotonic() > deadline:
            raise TimeoutError(f"{at} of {events} committed after {_TIMEOUT_S:g} s")
        if watch is not None and report.exists():
            watch(process.pid)
            watch = None
        await asyncio.sleep(_POLL_S)
    if one.changelog is not None:
        written = sum((await ends(settings.kafka.bootstrap_servers, settings.topics.scores)).values())
        # A transaction's end takes an offset, too.
        if written < events or (written > events and one.delivery != "exactly_once"):
            raise RuntimeError(f"{written} scores for {events} events")


def _script(name: str) -> str:
    return str(HERE / "contestants" / f"{name}.py")
