"""`inkling train` on logs that cannot teach much: an honest version that says what it lacks, or one clear line."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.unit.training.shop import HOUR, MINUTE, T0, random_log
from training.architecture import Architecture
from training.evaluate import Doubles, predict
from training.examples import examples_of
from training.history import fold_log
from training.make_version import describe, doubts, learn, make_version
from training.read import EventFiles, logged
from training.score_file import score_file
from training.serving import ServingModel
from training.train import Recipe
from training.version import LoadedVersion, TrainingData
from worker.contract.features import FeatureSpec
from worker.contract.session import SessionPolicy
from worker.errors import ConfigurationError

pytestmark = pytest.mark.slow

SPEC = FeatureSpec(window=8, item_buckets=32, category_buckets=8, brand_buckets=8)
RECIPE = Recipe(epochs=1, min_steps=5)
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


class Trained(NamedTuple):
    """What `inkling train` makes of a log, but for the files."""

    model: ServingModel
    data: TrainingData
    not_learned: list[str]


def trained(folder: Path, events: Events, until_ms: int | None = None, newest: int | None = None) -> Trained:
    files = EventFiles([written(folder / "events.jsonl", events)])
    history = fold_log(logged(files.events(newest, until_ms), 2), SPEC, SessionPolicy(), until_ms)
    examples = examples_of(history)
    data = describe(examples, "events.jsonl", until_ms)
    model = learn(examples, architecture=SMALL, recipe=RECIPE).model
    return Trained(model, data, data.not_learned + doubts(history))


def version_of(folder: Path, events: Events, until_ms: int | None = None) -> LoadedVersion:
    files = EventFiles([written(folder / "events.jsonl", events)])
    return make_version(
        lambda: logged(files.events(None, until_ms), 2), folder / "version", source="events.jsonl",
        spec=SPEC, policy=SessionPolicy(), partitions=2, until_ms=until_ms, architecture=SMALL, recipe=RECIPE,
    )  # fmt: skip


def scores(folder: Path, made: Trained, events: Events) -> Doubles:
    """Purchase within the session, of each event that is in a session."""
    files = EventFiles([written(folder / "to-score.jsonl", events)])
    return predict(made.model, examples_of(fold_log(logged(files.events(), 2), SPEC, SessionPolicy()))).within[:, 0, 2]


def weights(made: Trained) -> bytes:
    return b"".join(tensor.numpy().tobytes() for tensor in made.model.state_dict().values())


def without(events: Events, *fields: str) -> Events:
    return [{name: value for name, value in event.items() if name not in fields} for event in events]


def of_type(events: Events, *kinds: str) -> Events:
    return [event for event in events if event["event_type"] in kinds]


CASES: dict[str, tuple[Events, str]] = {
    "no purchases": (of_type(shop(), "view", "cart"), "purchase: none follows any event"),
    "a single event type": (of_type(shop(), "view"), "next_type: every event is a view"),
    "no items": (without(shop(), "item_id", "category", "brand"), "item: no event has one"),
    "no prices": (without(shop(), "price", "currency"), "price: no event has one"),
    "mixed currencies": ([{**e, "currency": "EUR" if k % 2 else "JPY"} for k, e in enumerate(shop())], "several currencies"),
    "sessions of one event": ([e for e in shop() if e["event_id"].endswith("-0")], "no session has a second event"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_could_not_be_learned_is_said(name: str, tmp_path: Path) -> None:
    """Scores are probabilities all the same, and what the log did not hold is named."""
    events, says = CASES[name]
    made = trained(tmp_path, events)
    assert any(says in told for told in made.not_learned), made.not_learned
    said = scores(tmp_path, made, events)
    assert len(said) == len(events)
    assert ((said >= 0) & (said <= 1)).all()
    if name == "no purchases":
        assert said.max() < 0.05, "nothing suggests that anybody buys"


def test_a_whole_log_is_doubted_nowhere_it_should_not_be(tmp_path: Path) -> None:
    """The shop that all these cases are cut from."""
    assert not [told for told in trained(tmp_path, shop()).not_learned if not told.startswith(("purchase within", "cart within"))]


def test_where_everybody_buys_the_scores_say_so(tmp_path: Path) -> None:
    """One class only: before the purchase every label is yes."""
    events = [event for event in shop(120)[:-1] if int(event["visitor_id"][1:]) % 6 == 0]
    events.append({**shop()[-1], "event_time": T0 + 900 * HOUR})
    views = [event for event in events if event["event_type"] == "view"]
    assert scores(tmp_path, trained(tmp_path, events), views).mean() > 0.5


def test_unsorted_events_train_the_same_weights(tmp_path: Path) -> None:
    """Order in the file is no information."""
    events = shop(30)
    mixed = [events[k] for k in np.random.default_rng(1).permutation(len(events))]
    assert weights(trained(tmp_path, events)) == weights(trained(tmp_path, mixed))


def test_duplicates_count_once(tmp_path: Path) -> None:
    """An event that was written twice happened once."""
    events = shop(30)
    once, twice = trained(tmp_path, events), trained(tmp_path, [copy for event in events for copy in (event, event)])
    assert once.data == twice.data
    assert weights(once) == weights(twice)


def test_a_handful_of_sessions_gives_cautious_scores(tmp_path: Path) -> None:
    """They stay near the share that was seen."""
    made = trained(tmp_path, shop(50))
    assert np.abs(scores(tmp_path, made, shop(40, seed=5)) - made.data.priors["purchase"][2]).mean() < 0.2


def test_one_session_that_buys_is_not_believed(tmp_path: Path) -> None:
    """All that was seen was a purchase; that is no reason to expect one of everybody."""
    made = trained(tmp_path, shop(1))
    assert made.data.priors["purchase"][2] > 0.5
    assert scores(tmp_path, made, shop(40, seed=5)).max() < 0.5


def test_the_newest_events_are_taken_where_there_are_too_many(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of those before `until`; the warning says how many were left out."""
    events = shop(60)
    made = trained(tmp_path, events, until_ms=T0 + 50 * HOUR, newest=40)
    assert made.data.events == 40
    assert "newest 40 of" in caplog.text


def test_what_was_left_out_as_older_is_said_in_manifest_and_report(tmp_path: Path) -> None:
    """Not only on the screen of whoever trained it."""
    files = EventFiles([written(tmp_path / "events.jsonl", shop(60))])
    made = make_version(
        lambda: logged(files.events(40), 2), tmp_path / "version", source="events.jsonl", spec=SPEC, policy=SessionPolicy(),
        partitions=2, architecture=SMALL, recipe=RECIPE, report=tmp_path / "report.html", left_out=files.left_out(40),
    )  # fmt: skip
    says = f"{files.lines - 40:,} events that are older than these"
    assert says in made.data.not_learned[0]
    assert says in (tmp_path / "report.html").read_text()


def test_nothing_before_until_is_refused(tmp_path: Path) -> None:
    """With the remedy, and before anything is learned."""
    with pytest.raises(ConfigurationError, match="no event before"):
        version_of(tmp_path, shop(), until_ms=T0 - 1)


def test_training_takes_no_event_at_or_after_until(tmp_path: Path) -> None:
    """To the millisecond: the weights are those of the log that ends there."""
    events = shop(40)
    cut = events[80]["event_time"]
    made = trained(tmp_path, events, until_ms=cut)
    assert weights(made) == weights(trained(tmp_path, [event for event in events if event["event_time"] < cut], until_ms=cut))
    assert weights(made) != weights(trained(tmp_path, events, until_ms=cut + 1))


def test_a_version_says_in_its_manifest_what_it_lacks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And scores events of every kind, though it knew views only."""
    version = version_of(tmp_path, of_type(shop(), "view"))
    assert "next_type: every event is a view" in version.data.not_learned
    assert "too few" in caplog.text
    events = [{"event_id": e.event_id, "event_time": e.event_time, "visitor_id": e.visitor_id, "event_type": e.event_type}
              for e in random_log(1, 60)]  # fmt: skip
    scored = score_file(EventFiles([written(tmp_path / "x.jsonl", events)]), version, tmp_path / "scores.jsonl")
    assert scored.written == 60
