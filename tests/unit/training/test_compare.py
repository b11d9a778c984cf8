"""`inkling evaluate`: a version's figures on a file, against others."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score, top_k_accuracy_score
from typer.testing import CliRunner

from tests.unit.training.shop import on_one_partition, random_log
from training.architecture import Architecture
from training.candidates import Candidates
from training.compare import Judgement, compare_versions
from training.evaluate import evaluate, predict
from training.examples import examples_of
from training.history import fold_log
from training.labels import UNKNOWN
from training.make_version import make_version
from training.model import IntentModel
from training.next_items import NextItems, count
from training.read import EventFiles, logged, partition_of
from training.score_file import score_file
from training.serving import Calibration, ServingModel
from training.simulate import load_shop, simulate
from training.train import Recipe
from training.version import LoadedVersion
from worker.cli import app
from worker.contract.codec import encode
from worker.contract.features import FeatureSpec
from worker.contract.session import SessionPolicy
from worker.errors import ConfigurationError

pytestmark = pytest.mark.slow

SPEC = FeatureSpec(window=32)
SMALL = Architecture(width=16, layers=1, heads=2, feed_forward=16, item_width=8, category_width=4)
START_MS = 1_767_571_200_000
UNTIL_MS = START_MS + 48 * 3_600_000
PARTITIONS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated log of three days, and its truth."""
    path = tmp_path_factory.mktemp("log")
    stream = simulate(load_shop(), 600, 3, START_MS, hours=72)
    (path / "log.jsonl").write_bytes(b"".join(encode(event) + b"\n" for event in stream.events()))
    (path / "truth.jsonl").write_text(
        "".join(json.dumps({"event_id": e, "p": p}) + "\n" for e, p in stream.truth_by_id().items())
    )
    return path


@pytest.fixture(scope="module")
def version(folder: Path) -> LoadedVersion:
    """A small version that learned from the first two days."""
    files = EventFiles([folder / "log.jsonl"])
    return make_version(
        lambda: logged(files.events(), PARTITIONS), folder / "1", source="log", spec=SPEC, policy=SessionPolicy(),
        partitions=PARTITIONS, until_ms=UNTIL_MS, architecture=SMALL, recipe=Recipe(epochs=1, min_steps=60),
    )  # fmt: skip


@pytest.fixture(scope="module")
def document(folder: Path, version: LoadedVersion) -> dict[str, Any]:
    """The figures of the third day's sessions."""
    files = EventFiles([folder / "log.jsonl"])
    return compare_versions(files, version, None, Judgement(since_ms=UNTIL_MS), folder / "truth.jsonl")


def test_figures_are_those_of_the_scores_that_the_file_gets(
    folder: Path, version: LoadedVersion, document: dict[str, Any]
) -> None:
    """Of the graph's scores, with labels read off the lines of the file, cut by pause."""
    score_file(EventFiles([folder / "log.jsonl"]), version, folder / "scores.jsonl")
    score = {row["event_id"]: row["score"] for row in map(json.loads, (folder / "scores.jsonl").read_text().splitlines())}
    truth = {row["event_id"]: row["p"] for row in map(json.loads, (folder / "truth.jsonl").read_text().splitlines())}
    sessions: list[list[dict[str, Any]]] = []
    last: dict[str, list[dict[str, Any]]] = {}
    events = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    for event in events:
        before = last.get(event["visitor_id"])
        if before is None or event["event_time"] - before[-1]["event_time"] >= SessionPolicy().gap_ms:
            before = last[event["visitor_id"]] = []
            sessions.append(before)
        before.append(event)
    # A session is over when its partition has moved on by its gap and the grace for late events.
    newest: dict[int, int] = {}
    for event in events:
        newest[partition_of(event["visitor_id"], PARTITIONS)] = event["event_time"]
    wait_ms = SessionPolicy().gap_ms + SessionPolicy().grace_ms
    known = [
        s
        for s in sessions
        if s[0]["event_time"] >= UNTIL_MS
        and s[-1]["event_time"] + wait_ms <= newest[partition_of(s[0]["visitor_id"], PARTITIONS)]
    ]
    judged = []
    for session in known:
        bought = next((k for k, event in enumerate(session) if event["event_type"] == "purchase"), len(session))
        judged += [(int(bought < len(session)), score[e["event_id"]], truth[e["event_id"]]) for e in session[:bought]]
    label, p, exact = (np.array(column) for column in zip(*judged, strict=True))
    part = document["metrics"]["all"]
    assert part["events"] == len(label)
    assert part["roc_auc"][0] == pytest.approx(roc_auc_score(label, p), abs=1e-4)
    assert part["log_loss"][0] == pytest.approx(log_loss(label, p), abs=1e-5)
    assert part["bayes"]["log_loss"][0] == pytest.approx(log_loss(label, exact), abs=1e-6)


def test_the_next_category_is_judged_by_the_shops_sessions(
    folder: Path, version: LoadedVersion, document: dict[str, Any]
) -> None:
    """The log-loss of what the version's counts say, session by session as the file's lines name them."""
    counts = version.next_categories()
    assert counts is not None
    sessions: dict[str, list[dict[str, Any]]] = {}
    for event in map(json.loads, (folder / "log.jsonl").read_text().splitlines()):
        sessions.setdefault(event["session_id"], []).append(event)
    names = list(dict.fromkeys(e["category"] for s in sessions.values() for e in s if e.get("category")))
    losses = []
    for session in sessions.values():
        if session[0]["event_time"] < UNTIL_MS:
            continue
        category = np.array([names.index(e["category"]) if e.get("category") else UNKNOWN for e in session])
        p = counts(category, np.arange(1, len(session) + 1), names)
        assert p is not None
        follows = category[1:] != UNKNOWN
        losses += (-np.log(p[:-1][follows, category[1:][follows]])).tolist()
    part = document["next"]["category"]
    assert part["log_loss"][0] == pytest.approx(np.mean(losses), abs=0.01)
    assert part["events"] == pytest.approx(len(losses), rel=0.02)


def test_kinds_share_the_events_out(document: dict[str, Any]) -> None:
    """New and returning visitors make up all; seen and unseen items all that name one."""
    parts = {name: part["events"] for name, part in document["metrics"].items()}
    assert parts["new_visitors"] + parts["returning_visitors"] == parts["all"]
    assert 0 < parts["seen_items"] + parts["unseen_items"] <= parts["all"]
    assert parts["returning_visitors"] > 0
    json.dumps(document, allow_nan=False)


def test_against_itself_there_is_no_difference(folder: Path, version: LoadedVersion) -> None:
    """Every paired difference is 0, and so is its interval."""
    document = compare_versions(EventFiles([folder / "log.jsonl"]), version, version, Judgement(since_ms=UNTIL_MS))
    differences = [document["metrics"]["all"], document["earliness"], *document["next"].values()]
    for part in differences:
        assert all(value == [0, 0, 0] for value in part["minus_baseline"].values() if value is not None)
    assert document["next"]["item"]["minus_baseline"]["mrr@20"] == [0, 0, 0]


def test_against_a_baseline_that_learns_from_the_same_file(folder: Path, version: LoadedVersion) -> None:
    """It learns from what lies before the version's training ended; the shares of that time are what it says here."""
    from training.baselines.line_up import learner

    files = EventFiles([folder / "log.jsonl"])
    document = compare_versions(files, version, ("prevalence", learner("prevalence", 0)), Judgement(since_ms=UNTIL_MS))
    assert document["baseline"] == "prevalence"
    # A constant ranks nothing: the difference to its AUC is the distance from one half.
    part = document["metrics"]["all"]
    assert part["minus_baseline"]["roc_auc"][0] == pytest.approx(part["roc_auc"][0] - 0.5)
    assert "minus_baseline" in document["next"]["type_or_end"]
    with pytest.raises(ConfigurationError, match="speak of a purchase within the session only"):
        compare_versions(files, version, ("prevalence", learner("prevalence", 0)), Judgement(head="cart"))


def test_listed_items_by_a_library() -> None:
    """How often the first three hold what followed is what scikit-learn counts; a version's figures tell of its ten."""
    history = fold_log(on_one_partition(random_log(0)), SPEC, SessionPolicy())
    examples = examples_of(history)
    candidates = Candidates.most_frequent(history.items)
    lists = NextItems(SPEC.category_buckets).fitted_to(count(examples, candidates), candidates)
    model = ServingModel(IntentModel(SPEC, SMALL).eval(), Calibration(), candidates, lists).eval()
    said = predict(model, examples, 10)
    assert said.named.shape == (len(said.row), 10)
    assert predict(model, examples).named.shape == (len(said.row), 0)
    target = candidates.next_numbers_of(examples)[said.row]
    rows = target != UNKNOWN
    assert 0 < rows.sum() < len(rows)
    assert [candidates.ids[k] for k in target[rows]] == [list(history.items)[examples.item[row + 1]] for row in said.row[rows]]
    scores = np.zeros((int(rows.sum()), len(candidates.ids) + 1))
    for place in range(3):
        scores[np.arange(len(scores)), said.named[rows, place]] = 3 - place
    expected = top_k_accuracy_score(target[rows], scores, k=3, labels=np.arange(scores.shape[1]))
    assert (said.named[rows, :3] == target[rows, None]).any(axis=1).mean() == pytest.approx(expected)
    among_ten = (said.named[rows] == target[rows, None]).any(axis=1).mean()
    assert evaluate(model, examples)["next_item"] == {"events": int(rows.sum()), "recall@10": pytest.approx(among_ten)}
    np.testing.assert_allclose(said.next_type.sum(axis=1), 1, atol=1e-5)


def test_a_truth_file_has_to_be_one(folder: Path, version: LoadedVersion, tmp_path: Path) -> None:
    """One that says nothing of an event, and one that is none, are clear errors."""
    files, wrong = EventFiles([folder / "log.jsonl"]), tmp_path / "truth.jsonl"
    for text, message in (("{}\n", "no truth file"), ('{"event_id": "x", "p": 0.5}\n', "says nothing of event")):
        wrong.write_text(text)
        with pytest.raises(ConfigurationError, match=message):
            compare_versions(files, version, None, Judgement(), wrong)


def test_the_command(folder: Path, version: LoadedVersion) -> None:
    """Tables, JSON, and one line where the baseline is none."""
    chosen = ["evaluate", str(folder / "log.jsonl"), "--model", str(version.path), "--since", str(UNTIL_MS)]
    result = CliRunner().invoke(app, [*chosen, "--truth", str(folder / "truth.jsonl"), "--baseline", "markov"])
    assert result.exit_code == 0, result.exception
    for text in (
        "returning_visitors",
        "log-loss less markov",
        "share of the exact probabilities' log-loss skill",
        "recognised_by_2",
    ):
        assert text in result.stdout
    result = CliRunner().invoke(app, [*chosen, "--json"])
    assert json.loads(result.stdout)["metrics"]["all"]["brier"]
    result = CliRunner().invoke(app, [*chosen, "--baseline", "nix"])
    assert "neither a version folder nor one of prevalence," in str(result.exception)
