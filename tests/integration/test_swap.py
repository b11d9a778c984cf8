"""Publishing, refusing and rolling back on genuine Kafka and Triton while scores are asked for without a pause."""

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from deploy.local.stack import LocalStack
from tests.conformance.laws import random_inputs
from tests.support.model_stack import model_folder, model_stack, settings_for
from tests.support.model_versions import seal, vary
from training.graph import Graph
from training.publish import configured_versions, promote, publish, rollback
from training.repository import staging
from worker.contract.features import ModelInputs
from worker.control import ControlFollower, Pointer, read_pointer
from worker.errors import ModelError
from worker.scoring.base import Scores
from worker.scoring.breaker import Breaker
from worker.scoring.guarded import GuardedScorer
from worker.scoring.triton import TritonScorer
from worker.settings import Settings
from worker.versions import list_versions

BATCHES = [random_inputs(8, seed=seed, longest=24) for seed in range(4)]
#: Short, as no other worker follows here; what it guards against has a test of its own.
QUIET_S = 1.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """This module's own: its versions change."""
    with model_stack(tmp_path_factory.mktemp("stack")) as started:
        yield started


@pytest.fixture
def settings(stack: LocalStack) -> Settings:
    return settings_for(stack)


@pytest.fixture(autouse=True)
async def version_1_serves(settings: Settings) -> None:
    """Alone, and pointed at, whatever the test before left."""
    await promote(settings, "1", "test", "start", QUIET_S)
    folder = model_folder(settings)
    for version in list_versions(folder):
        if version != "1":
            shutil.rmtree(folder / version)


class Load:
    """Scores without a pause, as a worker's pipeline does, and keeps every answer."""

    def __init__(self, scorer: GuardedScorer) -> None:
        self.answers: list[tuple[int, Scores]] = []
        self._scorer = scorer
        self._answered = asyncio.Event()
        self._stop = False

    async def run(self) -> None:
        number = 0
        while not self._stop:
            number = (number + 1) % len(BATCHES)
            self.answers.append((number, await self._scorer.score(BATCHES[number])))
            self._answered.set()

    async def until(self, happened: Callable[[Scores], bool], timeout_s: float = 30) -> None:
        async with asyncio.timeout(timeout_s):
            while not self.answers or not happened(self.answers[-1][1]):
                self._answered.clear()
                await self._answered.wait()

    def stop(self) -> None:
        self._stop = True

    @property
    def versions(self) -> Counter[str]:
        return Counter(scores.version for _, scores in self.answers)

    @property
    def paths(self) -> Counter[str]:
        return Counter(scores.path for _, scores in self.answers)


@asynccontextmanager
async def under_load(settings: Settings) -> AsyncIterator[Load]:
    """A follower and four scoring tasks on it, from the first good score to the end of the block."""
    scorer = await TritonScorer.connect(settings.triton.url, settings.model.name, 5.0, 16)
    follower = ControlFollower(settings, scorer)
    follower.start()
    try:
        await follower.wait_first(30)
        load = Load(GuardedScorer(scorer, Breaker(3, 0.5), follower.pin, deadline_s=5.0))
        async with asyncio.TaskGroup() as tasks:
            for _ in range(4):
                tasks.create_task(load.run())
            await load.until(lambda scores: scores.path == "model")
            load.answers.clear()
            try:
                yield load
            finally:
                load.stop()
    finally:
        await follower.stop()
        await scorer.close()


async def publish_varied(settings: Settings, by: float, quiet_s: float = QUIET_S) -> Pointer:
    """A second version, ready to be told from the first by its scores."""
    with staging(model_folder(settings)) as staged:
        await asyncio.to_thread(vary, model_folder(settings) / "1", staged, by)
        return await publish(settings, staged, "1", "test", "swap", quiet_s)


def expected(folder: Path, version: str) -> list[Scores]:
    graph = Graph(folder / version / "model.onnx")
    return [graph.score(batch, version) for batch in BATCHES]


def far_apart(first: list[Scores], second: list[Scores]) -> bool:
    return all(np.abs(a.purchase - b.purchase).max() > 1e-3 for a, b in zip(first, second, strict=True))


async def test_swap_under_load_costs_nothing(settings: Settings) -> None:
    """No failed score, no fallback; every answer is wholly of one of the two versions, and right for that one."""
    async with under_load(settings) as load:
        pointer = await publish_varied(settings, 0.7)
        await load.until(lambda scores: scores.version == "2")
    assert (pointer.champion, pointer.previous) == ("2", "1")
    assert set(load.paths) == {"model"}
    assert set(load.versions) == {"1", "2"}
    right = {version: expected(model_folder(settings), version) for version in ("1", "2")}
    assert far_apart(right["1"], right["2"]), "or the test proves nothing"
    for number, scores in load.answers:
        want = right[scores.version][number]
        for head in ("purchase", "cart", "churn", "next_type"):
            np.testing.assert_allclose(getattr(scores, head), getattr(want, head), rtol=0, atol=1e-5, err_msg=head)
    swapped = [scores.version for _, scores in load.answers].index("2")
    assert "1" not in [scores.version for _, scores in load.answers[swapped + 4 :]], "no way back but by another record"
    assert configured_versions(model_folder(settings)) == ["2"], "the old one was let go"


async def test_rollback_under_load_goes_back_and_forth(settings: Settings) -> None:
    """One command; the version before scores again. Again, and it is the newer one."""
    await publish_varied(settings, 0.7)
    async with under_load(settings) as load:
        pointer = await rollback(settings, "test", "it was worse", QUIET_S)
        await load.until(lambda scores: scores.version == "1")
        assert (pointer.champion, pointer.previous, pointer.why) == ("1", "2", "it was worse")
        assert (await rollback(settings, "test", "no", QUIET_S)).champion == "2"
        await load.until(lambda scores: scores.version == "2")
    assert set(load.paths) == {"model"}


async def test_nothing_to_roll_back_to_is_said(settings: Settings) -> None:
    """The first champion has none before it."""
    with pytest.raises(ModelError, match="no earlier champion"):
        await rollback(settings, "test", "why not")


def flip_a_byte(folder: Path) -> None:
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").write_bytes(data)


def truncate(folder: Path) -> None:
    """And vouch for it: only loading can find out."""
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:5000])
    seal(folder)


def foreign_graph(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"not a graph at all")
    seal(folder)


def add_a_pickle(folder: Path) -> None:
    (folder / "weights.pkl").write_bytes(b"\x80\x04N.")


def wrong_sum(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    digest = text.split('"model.onnx": "')[1][:64]
    (folder / "manifest.json").write_text(text.replace(digest, "0" * 64))


def poison_with_nan(folder: Path) -> None:
    """Weights that are no numbers, in a graph that loads."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(folder / "model.onnx")
    (bias,) = (tensor for tensor in model.graph.initializer if tensor.name == "network.churn.bias")
    bias.CopyFrom(numpy_helper.from_array(np.full(numpy_helper.to_array(bias).shape, np.nan, np.float32), bias.name))
    onnx.save(model, folder / "model.onnx")
    seal(folder)


@pytest.mark.parametrize(
    "damage", [flip_a_byte, truncate, foreign_graph, add_a_pickle, wrong_sum, poison_with_nan], ids=lambda damage: damage.__name__
)
async def test_a_damaged_version_is_refused_while_the_old_one_serves(settings: Settings, damage: Callable[[Path], None]) -> None:
    """Nothing of it stays, the pointer does not move, and no score is lost."""
    folder = model_folder(settings)
    before = await read_pointer(settings)
    async with under_load(settings) as load:
        with staging(folder) as staged:
            await asyncio.to_thread(vary, folder / "1", staged, 0.7)
            damage(staged)
            with pytest.raises(ModelError):
                await publish(settings, staged, "1", "test", "damaged", QUIET_S)
        await asyncio.sleep(0.3)
    assert set(load.paths) == {"model"}
    assert set(load.versions) == {"1"}
    assert await read_pointer(settings) == before
    assert list_versions(folder) == ["1"]
    assert configured_versions(folder) == ["1"]
    assert [entry.name for entry in folder.glob(".staged*")] == []


async def test_a_version_that_does_not_say_what_it_should_is_refused(settings: Settings) -> None:
    """Sound files, a graph that loads, and other scores than its golden batch: never pointed at, and unloaded again."""
    folder = model_folder(settings)
    with staging(folder) as staged:
        await asyncio.to_thread(lambda: vary(folder / "1", staged, 0.7, golden_by=1.0))
        with pytest.raises(ModelError, match="test inference"):
            await publish(settings, staged, "1", "test", "liar", QUIET_S)
    assert list_versions(folder) == ["1"]
    assert configured_versions(folder) == ["1"]
    async with under_load(settings) as load:
        await asyncio.sleep(0.2)
    assert set(load.versions) == {"1"}


async def test_of_two_publishers_one_wins(settings: Settings) -> None:
    """Both trained from version 1; the second learns that the champion moved, and leaves nothing behind."""
    results = await asyncio.gather(publish_varied(settings, 0.5), publish_varied(settings, 0.9), return_exceptions=True)
    won = [result for result in results if isinstance(result, Pointer)]
    lost = [result for result in results if isinstance(result, ModelError)]
    assert len(won) == len(lost) == 1, results
    assert "another publisher won" in str(lost[0])
    pointer = await read_pointer(settings)
    assert pointer == won[0]
    assert list_versions(model_folder(settings)) == ["1", "2"]


async def test_a_version_that_is_still_asked_for_stays_loaded(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that does not follow, cut off from Kafka say, keeps its version; the log tells."""
    monkeypatch.setattr("training.publish.MAX_DRAIN_S", 3.0)
    laggard = await TritonScorer.connect(settings.triton.url, settings.model.name, 5.0, 16)

    async def keep_asking(inputs: ModelInputs) -> None:
        while True:
            await laggard.score(inputs, "1")
            await asyncio.sleep(0.1)

    asking = asyncio.create_task(keep_asking(BATCHES[0]))
    try:
        await publish_varied(settings, 0.5)
        assert configured_versions(model_folder(settings)) == ["1", "2"]
        assert not asking.done()
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await laggard.close()


async def test_a_killed_publisher_leaves_what_serves_as_it_was(settings: Settings) -> None:
    """Killed between loading and pointing: the champion scores on, and the next publisher clears up."""
    folder = model_folder(settings)
    with staging(folder) as staged:
        await asyncio.to_thread(vary, folder / "1", staged, 0.5)
        # As far as a publisher comes before it is killed: taken in, and served beside the champion.
        shutil.copytree(staged, folder / "2")
        text = (folder / "2" / "manifest.json").read_text().replace('"version": "1"', '"version": "2"')
        (folder / "2" / "manifest.json").write_text(text)
        config = (folder / "config.pbtxt").read_text()
        (folder / "config.pbtxt").write_text(config.replace("versions: 1", "versions: 1 versions: 2"))
    async with under_load(settings) as load:
        pointer = await publish_varied(settings, 0.9)
        await load.until(lambda scores: scores.version == "3")
    assert pointer.champion == "3"
    assert set(load.paths) == {"model"}
    assert set(load.versions) == {"1", "3"}
    assert configured_versions(folder) == ["3"]
