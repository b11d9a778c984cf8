"""The whole turn of the loop on genuine Kafka and Triton: a log, a better model, a swap; and refusals that change nothing."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer

from deploy.local.stack import LocalStack
from tests.conformance.laws import random_inputs
from tests.support.model_stack import model_folder, model_stack, settings_for
from training.finetune import CycleOptions, CycleReport, run_cycle
from training.gate import GatePolicy
from training.graph import Graph
from training.publish import configured_versions, promote
from training.simulate import DEFAULT_SHOP, Drift, load_shop, simulate
from worker.contract.codec import encode
from worker.control import Pointer, read_pointer
from worker.scoring.triton import TritonScorer
from worker.settings import Settings
from worker.versions import list_versions, open_version

SESSIONS, PER_HOUR = 2500, 40.0
QUIET_S = 0.5
OPTIONS = CycleOptions(seed=3, gate=GatePolicy(min_sessions=100), quiet_s=QUIET_S)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """This module's own: its versions change."""
    with model_stack(tmp_path_factory.mktemp("stack")) as started:
        yield started


@pytest.fixture(scope="module")
def settings(stack: LocalStack) -> Settings:
    """Version 1 is the champion, and the log has the sessions of a shop that it was not trained on."""
    settings = settings_for(stack)
    asyncio.run(promote(settings, "1", "test", "start", QUIET_S))
    asyncio.run(send_sessions(settings, SESSIONS, seed=11, hours_ago=SESSIONS / PER_HOUR + 1))
    return settings


@pytest.fixture(scope="module")
def first_cycle(settings: Settings) -> CycleReport:
    return run_cycle(settings, OPTIONS)


async def send_sessions(settings: Settings, sessions: int, seed: int, hours_ago: float) -> None:
    start_ms = round((time.time() - hours_ago * 3600) * 1000)
    # Four times the purchase odds of what the shipped version knows: there is something to learn.
    drift = Drift("hazard", at_ms=0, strength=10.0)
    stream = simulate(load_shop(DEFAULT_SHOP), sessions, seed, start_ms, sessions_per_hour=PER_HOUR, drift=drift)
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers, linger_ms=20) as producer:
        for event in stream.events():
            await producer.send(settings.topics.clicks, encode(event), key=event.visitor_id.encode())
        await producer.flush()


def pointer_of(settings: Settings) -> Pointer:
    pointer = asyncio.run(read_pointer(settings))
    assert pointer is not None
    return pointer


def test_a_better_candidate_becomes_the_champion(settings: Settings, first_cycle: CycleReport) -> None:
    """It was judged on sessions later than all it learned from, and it is the one that scores."""
    assert first_cycle.passed, first_cycle.reason
    assert first_cycle.version == "2"
    assert first_cycle.decision is not None
    assert first_cycle.decision.deciding is not None
    assert first_cycle.decision.deciding.high < 0
    assert first_cycle.sessions["evaluation"] > 100
    pointer = pointer_of(settings)
    assert (pointer.champion, pointer.previous, pointer.by) == ("2", "1", "inkling finetune")
    assert pointer.trained_until == first_cycle.cut_ms
    assert configured_versions(model_folder(settings)) == ["2"]


def test_its_lineage_is_in_its_manifest(settings: Settings, first_cycle: CycleReport) -> None:
    """Parent, data, the gate's numbers."""
    manifest = open_version(model_folder(settings), "2").manifest
    assert manifest.parent == "1"
    assert manifest.data["source"] == f"kafka:{settings.topics.clicks}"
    assert manifest.trained_until_ms == first_cycle.cut_ms
    assert manifest.metrics["gate"]["passed"] is True
    assert manifest.seed == OPTIONS.seed


async def test_what_was_judged_is_what_is_served(settings: Settings, first_cycle: CycleReport) -> None:
    """Triton's answers are those of the published graph."""
    inputs = random_inputs(9, seed=2)
    scorer = await TritonScorer.connect(settings.triton.url, settings.model.name, 10.0, 16)
    try:
        served = await scorer.score(inputs, "2")
    finally:
        await scorer.close()
    graph = Graph(model_folder(settings) / "2" / "model.onnx").score(inputs, "2")
    np.testing.assert_allclose(served.purchase, graph.purchase, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("first_cycle")
def test_nothing_new_is_refused_before_anything_is_learned(settings: Settings) -> None:
    """What the champion was judged by is new to it, but too little to judge the next one by."""
    report = run_cycle(settings, CycleOptions(gate=GatePolicy(min_sessions=100_000)))
    assert not report.passed
    assert "needed to judge" in report.reason
    assert "learn" not in report.seconds


@pytest.mark.usefixtures("first_cycle")
def test_a_candidate_that_learned_nothing_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The champion again: no version, no record, nothing staged."""
    monkeypatch.setattr("training.finetune.fine_tune", lambda champion, *_, **__: champion.serving_model())
    before = pointer_of(settings)
    report = run_cycle(settings, OPTIONS)
    assert not report.passed
    assert report.version is None
    assert "not better for sure" in report.reason
    assert pointer_of(settings) == before
    assert list_versions(model_folder(settings)) == ["1", "2"]


def run(settings: Settings, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {
        "INKLING_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "INKLING_TOPICS__CONTROL": settings.topics.control,
        "INKLING_TOPICS__CLICKS": settings.topics.clicks,
        "INKLING_TRITON__URL": settings.triton.url,
        "INKLING_MODEL__REPOSITORY": str(settings.model.repository),
    }
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments], env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.usefixtures("first_cycle")
def test_the_command_says_so_with_status_3(settings: Settings) -> None:
    """One line on stderr, the numbers on stdout."""
    done = run(settings, "finetune", "--once", "--json", "--min-sessions", "100000")
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["passed"] is False
    assert "needed to judge" in done.stderr.splitlines()[-1]


@pytest.mark.usefixtures("first_cycle")
def test_the_commands_list_show_compare_and_roll_back(settings: Settings) -> None:
    """Roles and lineage as they are; `rollback` moves them."""
    listed = {line["version"]: line for line in json.loads(run(settings, "models", "list", "--json").stdout)}
    assert (listed["1"]["role"], listed["2"]["role"], listed["2"]["parent"]) == ("previous", "champion", "1")
    shown = json.loads(run(settings, "models", "show", "2", "--json").stdout)
    assert shown["role"] == "champion"
    assert shown["metrics"]["gate"]["passed"] is True
    assert json.loads(run(settings, "models", "diff", "1", "2", "--json").stdout)["version"] == ["1", "2"]
    done = run(settings, "rollback", "--why", "test", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["champion"] == "1"
    assert pointer_of(settings).why == "test"
    refused = run(settings, "promote", "99")
    assert refused.returncode == 1
    assert "99" in refused.stderr
