"""The shipped version in genuine Triton: right answers, clear refusals, and what happens when the server dies."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest

from deploy.local.stack import LocalStack
from tests.conformance.laws import check_laws, random_inputs
from tests.support.model_stack import kill_triton, model_folder, model_processes, model_stack, settings_for, start_triton_again
from training.graph import Graph
from training.train import tensors
from training.version import load_version
from worker.control import ControlFollower, point_at
from worker.errors import DeadlineExceeded, ScorerRejected, ScorerUnavailable, ScoringError
from worker.scoring.breaker import Breaker
from worker.scoring.golden import check
from worker.scoring.guarded import GuardedScorer
from worker.scoring.triton import TritonScorer
from worker.settings import Settings
from worker.versions import open_version

INPUTS = random_inputs(40, seed=5)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """This module's own: its Triton is killed."""
    with model_stack(tmp_path_factory.mktemp("stack")) as started:
        yield started


@pytest.fixture
def settings(stack: LocalStack) -> Settings:
    return settings_for(stack)


@pytest.fixture
async def scorer(settings: Settings) -> AsyncIterator[TritonScorer]:
    connected = await TritonScorer.connect(settings.triton.url, settings.model.name, 5.0, max_batch=16)
    yield connected
    await connected.close()


async def test_keeps_the_laws_of_a_scorer(scorer: TritonScorer) -> None:
    """Those that the other scorers keep; batches larger than one request among them."""
    scores = await check_laws(scorer, random_inputs(70, seed=1), version="1")
    assert scores.path == "model"
    assert scores.next_items is not None


async def test_training_graph_and_server_say_the_same(scorer: TritonScorer, settings: Settings) -> None:
    """PyTorch, ONNX Runtime in this process, and Triton, to 1e-5, next items included."""
    import torch

    folder = model_folder(settings) / "1"
    served = await scorer.score(INPUTS, "1")
    graph = Graph(folder / "model.onnx").score(INPUTS, "1")
    with torch.no_grad():
        network = load_version(folder).serving_model()(*tensors(INPUTS), torch.from_numpy(INPUTS.length))
    for head in ("purchase", "cart", "churn", "next_type"):
        np.testing.assert_allclose(getattr(served, head), getattr(graph, head), rtol=0, atol=1e-5, err_msg=head)
        np.testing.assert_allclose(
            getattr(graph, head), getattr(network, head).numpy().reshape(getattr(graph, head).shape), rtol=0, atol=1e-5
        )
    assert served.next_items is not None
    assert graph.next_items is not None
    np.testing.assert_allclose(served.next_items.chances, graph.next_items.chances, rtol=0, atol=1e-5)


async def test_gives_the_scores_it_was_published_with(scorer: TritonScorer, settings: Settings) -> None:
    """The golden batch of the version folder."""
    await check(scorer, "1", open_version(model_folder(settings), "1").golden)


async def test_a_version_that_is_not_there_is_refused(scorer: TritonScorer) -> None:
    """Not answered by another one."""
    with pytest.raises(ScorerRejected):
        await scorer.score(INPUTS, "77")
    assert await scorer.is_ready("1")
    assert not await scorer.is_ready("77")


async def test_inputs_that_cannot_be_are_refused(scorer: TritonScorer) -> None:
    """A code beyond its table: the request fails, and the server goes on."""
    bad = INPUTS._replace(codes=np.full_like(INPUTS.codes, 1_000_000))
    with pytest.raises(ScoringError):
        await scorer.score(bad, "1")
    await scorer.score(INPUTS, "1")


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    """At once, not after the deadline."""
    scorer = await TritonScorer.connect("127.0.0.1:1", "intent", 5.0, 16)
    started = time.monotonic()
    with pytest.raises(ScorerUnavailable):
        await scorer.score(INPUTS, "1")
    assert time.monotonic() - started < 4
    assert not await scorer.is_live()
    assert not await scorer.is_ready("1")
    await scorer.close()


async def test_a_server_that_hangs_exceeds_the_deadline(stack: LocalStack, settings: Settings) -> None:
    """Stopped, not dead: the connection stands, no answer comes."""
    scorer = await TritonScorer.connect(settings.triton.url, "intent", 0.3, 16)
    await scorer.score(random_inputs(1, seed=1), "1")
    assert stack.triton is not None
    assert stack.triton.child is not None
    assert stack.triton.child.id is not None
    os.kill(stack.triton.child.id.pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            await scorer.score(INPUTS, "1")
        assert time.monotonic() - started < 3
    finally:
        os.kill(stack.triton.child.id.pid, signal.SIGCONT)
        await scorer.close()


async def test_triton_killed_under_load_costs_no_score_and_is_found_again(stack: LocalStack, settings: Settings) -> None:
    """Every batch is answered: by the fallback while Triton is away, by the model again within 5 s of it being ready."""
    await point_at(settings, "1", "test", "start")
    scorer = await TritonScorer.connect(settings.triton.url, "intent", 2.0, 16)
    follower = ControlFollower(settings, scorer)
    follower.start()
    try:
        await follower.wait_first(20)
        guarded = GuardedScorer(scorer, Breaker(3, 0.5), follower.pin, deadline_s=2.0)
        assert (await guarded.score(INPUTS)).path == "model"
        kill_triton(stack)
        paths = [(await guarded.score(INPUTS)).path for _ in range(10)]
        assert set(paths) == {"fallback"}
        await asyncio.to_thread(start_triton_again, stack)
        while not await scorer.is_ready("1"):
            assert (await guarded.score(INPUTS)).path in ("fallback", "model")
            await asyncio.sleep(0.05)
        ready = time.monotonic()
        while (scores := await guarded.score(INPUTS)).path == "fallback":
            assert time.monotonic() - ready < 5
            await asyncio.sleep(0.05)
        assert scores.version == "1"
    finally:
        await follower.stop()
        await scorer.close()


async def test_a_killed_model_process_is_brought_back_by_the_follower(stack: LocalStack, settings: Settings) -> None:
    """Triton says ready and hangs; nobody but the worker notices, and it has the model loaded anew."""
    await point_at(settings, "1", "test", "start")
    scorer = await TritonScorer.connect(settings.triton.url, "intent", 0.5, 16)
    follower = ControlFollower(settings, scorer)
    follower.start()
    few = random_inputs(2, seed=1)
    try:
        await follower.wait_first(20)
        guarded = GuardedScorer(scorer, Breaker(3, 0.5), follower.pin, deadline_s=0.5)
        for pid in model_processes(stack):
            os.kill(pid, signal.SIGKILL)
        assert (await guarded.score(few)).path == "fallback"
        assert await scorer.is_ready("1"), "what makes this fault so quiet"
        killed = time.monotonic()
        while (await guarded.score(few)).path == "fallback":
            assert time.monotonic() - killed < 45
            await asyncio.sleep(0.1)
    finally:
        await follower.stop()
        await scorer.close()
