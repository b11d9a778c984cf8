"""Tests for worker/pin.py."""

from typing import Any

import pytest
from prometheus_client import REGISTRY

from tests.unit.test_fallback import flat
from tests.unit.version_folder import golden_of
from worker.contract.features import FeatureSpec, ModelInputs
from worker.errors import DeadlineExceeded, ScorerRejected, ScorerUnavailable, ScoringError
from worker.pin import CHECK_S, PinKeeper
from worker.pointer import Pointer
from worker.scoring.base import Scores
from worker.scoring.fake import ConstantScorer


class Server:
    """A model server whose versions say what the test wants: a probability, or an error."""

    def __init__(self, **versions: float | ScoringError) -> None:
        self.versions: dict[str, float | ScoringError] = {name.lstrip("v"): says for name, says in versions.items()}
        self.live = True
        self.reloads = 0
        self.served = 0
        self.after_reload: dict[str, float | ScoringError] = {}

    async def score(self, inputs: ModelInputs, version: str) -> Scores:
        says = self.versions.get(version, ScorerRejected("not loaded"))
        if isinstance(says, ScoringError):
            raise says
        return await ConstantScorer(says).score(inputs, version)

    async def is_live(self) -> bool:
        return self.live

    async def requests_served(self) -> dict[str, int]:
        return {"1": self.served}

    async def reload(self) -> None:
        self.reloads += 1
        self.versions |= self.after_reload


class ManualClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def pointer(version: str, p: float = 0.5, **changes: Any) -> Pointer:
    fields: dict[str, Any] = {
        "model": "intent",
        "champion": version,
        "by": "test",
        "why": "test",
        "at": 0,
        "spec": FeatureSpec(),
        "manifest_sha256": "",
        "trained_until": 5000,
        "fallback": flat(),
        "golden": (golden_of(p)).to_json(),
    }
    return Pointer(**fields | changes)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def pinned(server: Server, clock: ManualClock, seen: list[Pointer] | None = None) -> PinKeeper:
    """A keeper with version 1 pinned and proved."""
    keeper = PinKeeper(server, (seen if seen is not None else []).append, clock)
    keeper.want(pointer("1"))
    await keeper.step()
    assert keeper.pin is not None
    assert keeper.pin.verified
    return keeper


def where(keeper: PinKeeper) -> tuple[str, bool]:
    assert keeper.pin is not None
    return keeper.pin.version, keeper.pin.verified


async def later(keeper: PinKeeper, clock: ManualClock, seconds: float, every: float = 0.5) -> None:
    for _ in range(round(seconds / every)):
        clock.now += every
        await keeper.step()


async def test_the_first_pointer_is_pinned_at_once_but_not_believed(clock: ManualClock) -> None:
    """A worker that starts while the model server is away scores by the fallback, and by the model as soon as it is back."""
    server = Server(v1=ScorerUnavailable("away"))
    keeper = PinKeeper(server, clock=clock)
    keeper.want(pointer("1"))
    await keeper.step()
    assert where(keeper) == ("1", False)
    server.versions["1"] = 0.5
    await later(keeper, clock, 1)
    assert where(keeper) == ("1", True)


async def test_a_version_that_answers_right_is_switched_to(clock: ManualClock) -> None:
    """Once, with the callback, and counted."""
    seen: list[Pointer] = []
    keeper = await pinned(Server(v1=0.5, v2=0.7), clock, seen)
    swaps = REGISTRY.get_sample_value("inkling_model_swaps_total") or 0
    keeper.want(pointer("2", 0.7))
    await keeper.step()
    assert where(keeper) == ("2", True)
    assert [record.champion for record in seen] == ["1", "2"]
    assert REGISTRY.get_sample_value("inkling_model_swaps_total") == swaps + 1


@pytest.mark.parametrize("says", [ScorerRejected("not loaded"), ScorerUnavailable("away"), 0.9], ids=["absent", "away", "wrong"])
async def test_the_old_version_stays_until_the_new_one_answers_right(clock: ManualClock, says: float | ScoringError) -> None:
    """And it is tried again without another record."""
    server = Server(v1=0.5, v2=says)
    keeper = await pinned(server, clock)
    keeper.want(pointer("2", 0.7))
    await later(keeper, clock, 20)
    assert where(keeper) == ("1", True)
    server.versions["2"] = 0.7
    await later(keeper, clock, 1)
    assert where(keeper) == ("2", True)


async def test_a_newer_pointer_replaces_one_that_never_came_true(clock: ManualClock) -> None:
    """Rolled back before it was followed: nothing moves any more."""
    server = Server(v1=0.5)
    keeper = await pinned(server, clock)
    keeper.want(pointer("2"))
    await later(keeper, clock, 2)
    keeper.want(pointer("1"))
    server.versions["2"] = 0.5
    await later(keeper, clock, 20)
    assert where(keeper) == ("1", True)


@pytest.mark.parametrize(
    "change",
    [{"fallback": {}}, {"golden": {}}, {"spec": FeatureSpec(window=32)}, {"spec": FeatureSpec(version=1)}],
    ids=["fallback", "golden", "spec", "layout"],
)
async def test_a_pointer_that_cannot_be_followed_changes_nothing(clock: ManualClock, change: dict[str, Any]) -> None:
    """Sessions in memory are of the spec that the worker began with; a fallback must be usable before it is needed."""
    keeper = await pinned(Server(v1=0.5, v2=0.5), clock)
    keeper.want(pointer("2", **change))
    await later(keeper, clock, 20)
    assert where(keeper) == ("1", True)


def test_a_pointer_at_a_version_of_an_earlier_layout_says_so(clock: ManualClock) -> None:
    """Not that its golden batch was damaged: nobody finds the mistake by that."""
    keeper = PinKeeper(Server(v1=0.5), clock=clock)
    keeper.want(pointer("1", spec=FeatureSpec(version=1), golden={}))
    assert keeper.pin is None
    assert "version 1 of intent wants rows by feature spec 1" in keeper.refused
    keeper.want(pointer("2"))
    assert keeper.pin is not None
    assert not keeper.refused


async def test_a_version_that_begins_to_answer_wrong_is_no_longer_asked(clock: ManualClock) -> None:
    """The fallback is better than wrong scores; loading the same files anew would not help."""
    server = Server(v1=0.5)
    keeper = await pinned(server, clock)
    server.versions["1"] = 0.9
    await later(keeper, clock, 60)
    assert where(keeper) == ("1", False)
    assert server.reloads == 0
    server.versions["1"] = 0.5
    await later(keeper, clock, 2)
    assert where(keeper) == ("1", True)


async def test_a_dead_model_in_a_live_server_is_loaded_anew(clock: ManualClock) -> None:
    """Within seconds, and it serves again."""
    server = Server(v1=0.5)
    keeper = await pinned(server, clock)
    server.versions["1"] = DeadlineExceeded("the process is dead")
    server.after_reload = {"1": 0.5}
    await later(keeper, clock, CHECK_S + 6)
    assert server.reloads == 1
    assert where(keeper) == ("1", True)


async def test_a_slow_model_is_not_loaded_anew(clock: ManualClock) -> None:
    """It misses our deadline, but it finishes requests: loading would take the rest of its time."""
    server = Server(v1=0.5)
    keeper = await pinned(server, clock)
    server.versions["1"] = DeadlineExceeded("too slow")
    for _ in range(60):
        server.served += 1
        await later(keeper, clock, 1)
    assert server.reloads == 0
    assert where(keeper) == ("1", True)


async def test_loading_anew_is_not_repeated_at_once(clock: ManualClock) -> None:
    """It would keep everybody from scoring."""
    server = Server(v1=0.5)
    keeper = await pinned(server, clock)
    server.versions["1"] = ScorerUnavailable("dead for good")
    await later(keeper, clock, 30)
    assert server.reloads == 1
    await later(keeper, clock, 60)
    assert server.reloads == 3


async def test_a_server_that_is_away_is_not_told_to_load(clock: ManualClock) -> None:
    """There is nobody to tell; the pin stays, and the breaker keeps the requests back."""
    server = Server(v1=0.5)
    keeper = await pinned(server, clock)
    server.versions["1"], server.live = ScorerUnavailable("away"), False
    await later(keeper, clock, 60)
    assert server.reloads == 0
    assert where(keeper) == ("1", True)
