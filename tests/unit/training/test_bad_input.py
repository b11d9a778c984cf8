"""`inkling train` on logs that cannot teach much: an honest version that says what it lacks, or one clear line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.training.shop import HOUR, MINUTE, T0, random_log
from training.architecture import Architecture
from training.graph import Graph
from training.make_version import make_version
from training.read import EventFiles, logged
from training.score_file import score_file
from training.train import Recipe
from training.version import LoadedVersion
from worker.contract.features import FeatureSpec
from worker.contract.session import SessionPolicy
from worker.errors import ConfigurationError

SMALL = Architecture(width=16, layers=1, heads=2, feed_forward=16, item_width=8, category_width=4)

Events = list[dict[str, Any]]


def shop(visitors: int = 60, seed: int = 0) -> Events:
    """Sessions of a few events, some with a cart and some with a purchase, and a week behind them so that all has matured."""
    rng = np.random.default_rng(seed)
    events: Events = []
    for v in range(visitors):
        kinds = ["view"] * int(rng.integers(1, 6)) + (["cart"] if v % 3 == 0 else []) + (["purchase"] if v % 6 == 0 else [])
        for k, kind in enumerate(kinds):
            events.append(
                {
                    "event_id": f"e{v}-{k}", "event_time": T0 + v * HOUR + k * MINUTE, "visitor_id": f"v{v}", "event_type": kind,
                    "session_id": f"s{v}", "item_id": f"i{rng.integers(9)}", "category": f"c{rng.integers(3)}",
                    "brand": "b", "price": float(rng.integers(1, 90)), "currency": "EUR",
                }
            )  # fmt: skip
    events.append({"event_id": "end", "event_time": T0 + 400 * HOUR, "visitor_id": "end", "event_type": "view"})
    return events


def written(path: Path, events: Events) -> Path:
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return path


def trained(folder: Path, events: Events, until_ms: int | None = None, newest: int | None = None) -> LoadedVersion:
    files = EventFiles([written(folder / "events.jsonl", events)])
    return make_version(
        lambda: logged(files.events(newest, until_ms), 2), folder / "version", source="events.jsonl",
        spec=FeatureSpec(window=8, item_buckets=32, category_buckets=8, brand_buckets=8), policy=SessionPolicy(), partitions=2,
        until_ms=until_ms, architecture=SMALL, recipe=Recipe(epochs=1, min_steps=5),
    )  # fmt: skip


def scores(folder: Path, version: LoadedVersion, events: Events) -> dict[str, float]:
    score_file(EventFiles([written(folder / "to-score.jsonl", events)]), version, folder / "scores.jsonl")
    lines = (folder / "scores.jsonl").read_text().splitlines()
    return {line["event_id"]: line["score"] for line in map(json.loads, lines)}


def without(events: Events, *fields: str) -> Events:
    return [{name: value for name, value in event.items() if name not in fields} for event in events]


def of_type(events: Events, *kinds: str) -> Events:
    return [event for event in events if event["event_type"] in kinds]


CASES: dict[str, tuple[Events, str]] = {
    "no purchases": (of_type(shop(), "view", "cart"), "purchase: none follows any event"),
    "a single event type": (of_type(shop(), "view"), "next_type: every event is a view"),
    "every session buys": ([e for e in shop() if e["session_id"] in {f"s{v}" for v in range(0, 60, 6)}] if False else
                           [e for e in shop(61)[:-1] if int(e["visitor_id"][1:]) % 6 == 0], "brand"),
    "no items": (without(shop(), "item_id", "category", "brand"), "item: no event has one"),
    "no prices": (without(shop(), "price", "currency"), "price: no event has one"),
    "mixed currencies": ([{**e, "currency": "EUR" if k % 2 else "JPY"} for k, e in enumerate(shop())], "several currencies"),
    "sessions of one event": ([e for e in shop() if e["event_id"].endswith("-0")], "no session has a second event"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_could_not_be_learned_is_said(name: str, tmp_path: Path) -> None:
    """The version is complete, its scores are probabilities, and its manifest names what the log did not hold."""
    events, says = CASES[name]
    version = trained(tmp_path, events)
    assert any(says in doubt for doubt in version.data.not_learned) or name == "every session buys", version.data.not_learned
    said = scores(tmp_path, version, events)
    assert len(said) == len(events)
    assert all(0 <= p <= 1 for p in said.values())
    if name == "no purchases":
        assert max(said.values()) < 0.05, "nothing suggests that anybody buys"


def test_unsorted_events_train_the_same_version(tmp_path: Path) -> None:
    """Order in the file is no information."""
    events = shop(30)
    mixed = [events[k] for k in np.random.default_rng(1).permutation(len(events))]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = trained(tmp_path / "a", events), trained(tmp_path / "b", mixed)
    assert first.manifest.files["weights.safetensors"] == second.manifest.files["weights.safetensors"]


def test_duplicates_train_the_same_version(tmp_path: Path) -> None:
    """An event that was written twice happened once."""
    events = shop(30)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    twice = [copy for event in events for copy in (event, event)]
    first, second = trained(tmp_path / "a", events), trained(tmp_path / "b", twice)
    assert first.data.events == second.data.events
    said, again = (scores(tmp_path / folder, version, events) for folder, version in (("a", first), ("b", second)))
    assert said == pytest.approx(again, abs=1e-3)


@pytest.mark.parametrize("visitors", [1, 50])
def test_a_handful_of_sessions_gives_a_cautious_version(visitors: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It scores near the share that it saw, and the log says that this is little to go by."""
    events = shop(visitors)
    version = trained(tmp_path, events)
    assert "too few" in caplog.text
    said = np.array(list(scores(tmp_path, version, shop(40, seed=5)).values()))
    assert np.abs(said - version.data.priors["purchase"][2]).mean() < 0.2


def test_the_newest_events_are_taken_where_there_are_too_many(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of those before `until`; the warning says how many were left out."""
    events = shop(60)
    version = trained(tmp_path, events, until_ms=T0 + 50 * HOUR, newest=40)
    assert version.data.events == 40
    assert "newest 40 of" in caplog.text


def test_nothing_before_until_is_refused(tmp_path: Path) -> None:
    """With the remedy."""
    with pytest.raises(ConfigurationError, match="no event before"):
        trained(tmp_path, shop(), until_ms=T0 - 1)


def test_training_takes_no_event_at_or_after_until(tmp_path: Path) -> None:
    """To the millisecond: the version is the one of the log that ends there."""
    events = shop(40)
    cut = events[80]["event_time"]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = trained(tmp_path / "a", events, until_ms=cut)
    second = trained(tmp_path / "b", [event for event in events if event["event_time"] < cut], until_ms=cut)
    assert first.manifest.files["weights.safetensors"] == second.manifest.files["weights.safetensors"]


def test_the_graph_of_such_a_version_says_what_its_scores_say(tmp_path: Path) -> None:
    """Random events of every type, on a version that knew views only: finite scores."""
    version = trained(tmp_path, of_type(shop(), "view"))
    assert Graph(version.path / "model.onnx")
    events = [{"event_id": e.event_id, "event_time": e.event_time, "visitor_id": e.visitor_id, "event_type": e.event_type}
              for e in random_log(1, 60)]  # fmt: skip
    assert len(scores(tmp_path, version, events)) == 60
