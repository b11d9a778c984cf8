"""The leaderboard's protocol: what is learned from, what judges, and the command that shows it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score
from typer.testing import CliRunner

from tests.unit.training.shop import random_log, write_jsonl
from training.baselines.counting import Markov
from training.baselines.plot import draw
from training.baselines.protocol import Task, leaderboard, make_task
from training.baselines.tables import tables
from training.labels import UNKNOWN
from training.read import EventFiles
from training.simulate import load_shop, simulate
from worker.cli import app
from worker.contract.codec import encode
from worker.contract.features import FeatureSpec
from worker.contract.session import SessionPolicy
from worker.errors import ConfigurationError

SPEC, POLICY = FeatureSpec(), SessionPolicy()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated log, its truth beside it."""
    stream = simulate(load_shop(), 500, 7, 1_767_571_200_000, hours=72)
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    path.write_bytes(b"".join(encode(event) + b"\n" for event in stream.events()))
    truth = path.with_name("truth.jsonl")
    truth.write_text("".join(json.dumps({"event_id": name, "p": p}) + "\n" for name, p in stream.truth_by_id().items()))
    return path


def task_of(path: Path, **options: Any) -> Task:
    return make_task(EventFiles([path]), spec=SPEC, policy=POLICY, partitions=3, **options)


def test_the_last_fifth_judges(file: Path) -> None:
    """By when sessions began; nothing of that time is learned from, and nothing that was not known then."""
    events = [json.loads(line) for line in file.read_text().splitlines()]
    starts: dict[str, int] = {}
    for event in events:
        starts.setdefault(event["session_id"], event["event_time"])
    task = task_of(file)
    assert task.until_ms == sorted(starts.values())[400]
    assert task.test.sessions == 100
    assert task.train.rows["event_time"].max() < task.until_ms
    last_ms = task.train.rows["event_time"][task.train.start[1:] - 1]
    open_still = last_ms > task.until_ms - POLICY.gap_ms - POLICY.grace_ms
    assert open_still.any()
    assert (task.train.purchase[open_still[task.train.session]] == UNKNOWN).all()


def test_figures_are_those_of_a_judge_who_reads_the_file(file: Path) -> None:
    """Labels, the events that count and the figures, made anew from the lines of the file and the exact probabilities."""
    events = [json.loads(line) for line in file.read_text().splitlines()]
    exact = {row["event_id"]: row["p"] for row in map(json.loads, file.with_name("truth.jsonl").read_text().splitlines())}
    task = task_of(file, truth=exact)
    starts, bought = {}, {}
    for event in events:
        starts.setdefault(event["session_id"], event["event_time"])
        if event["event_type"] == "purchase":
            bought.setdefault(event["session_id"], event["event_time"])
    judged = [
        (event["session_id"] in bought, exact[event["event_id"]])
        for event in events
        if starts[event["session_id"]] >= task.until_ms and event["event_time"] < bought.get(event["session_id"], 2**62)
    ]
    label, p = (np.array(column) for column in zip(*judged, strict=True))
    board = leaderboard(task, ["markov"], "prevalence", 0, lambda _: None)
    part = board["entries"]["markov"]["purchase"]["all"]
    assert part["events"] == len(label)
    assert part["positives"] == label.sum()
    assert part["bayes"]["log_loss"][0] == pytest.approx(log_loss(label, p))
    markov = Markov()
    markov.fit(task.train, 0)
    said = markov.predict(task.test).purchase[task.judged]
    order = np.argsort(task.test.event[task.judged])
    assert part["roc_auc"][0] == pytest.approx(roc_auc_score(label, said[order]))


def test_the_same_seed_gives_the_same_board(file: Path) -> None:
    """All but the seconds, whatever else is fitted beside an entry."""
    task = task_of(file)
    one = leaderboard(task, ["markov"], "markov", 0, lambda _: None)
    two = leaderboard(task, ["popularity", "markov"], "markov", 0, lambda _: None)
    for board in (one, two):
        del board["entries"]["markov"]["seconds"]
    assert one["entries"]["markov"] == two["entries"]["markov"]
    assert one["entries"]["markov"]["purchase"]["all"]["minus_baseline"]["log_loss"] == [0, 0, 0]


def test_there_must_be_something_to_learn_from_and_to_judge_by(file: Path) -> None:
    """A time ahead of the log, or behind it, is a clear error."""
    with pytest.raises(ConfigurationError, match="nothing to learn from; give a later --until"):
        task_of(file, until_ms=1)
    with pytest.raises(ConfigurationError, match="nothing is left to judge by; give an earlier --until"):
        task_of(file, until_ms=2**52)
    with pytest.raises(ConfigurationError, match="the truth says nothing of event"):
        task_of(file, truth={})


def test_a_log_without_purchases_has_no_purchase_figures(tmp_path: Path) -> None:
    """What comes next is judged all the same, and the tables leave out what is not there."""
    events = [event for event in random_log(2, 900, 60) if event.event_type != "purchase"]
    board = leaderboard(task_of(write_jsonl(tmp_path / "log.jsonl", events)), ["prevalence"], "prevalence", 0, lambda _: None)
    entry = board["entries"]["prevalence"]
    assert "log_loss" not in entry["purchase"]["all"]
    assert entry["next"]["type_or_end"]["log_loss"][0] > 0
    json.dumps(board, allow_nan=False)
    for _, columns, rows in tables(board):
        assert all(len(row) == len(columns) for row in rows)


@pytest.mark.slow
def test_the_command(file: Path, tmp_path: Path) -> None:
    """JSON on stdout, progress on stderr, a picture; or tables."""
    picture = tmp_path / "board.png"
    chosen = ["baselines", str(file), "--only", "prevalence,markov", "--against", "prevalence"]
    result = CliRunner().invoke(app, [*chosen, "--json", "--plot", str(picture), "--truth", str(file.with_name("truth.jsonl"))])
    assert result.exit_code == 0, result.exception
    document = json.loads(result.stdout)
    assert list(document["entries"]) == ["prevalence", "markov"]
    assert document["entries"]["markov"]["purchase"]["all"]["bayes"]["skill_share"][0] > 0
    assert "markov: learning" in result.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")
    first = picture.read_bytes()
    draw(document, picture)
    assert picture.read_bytes() == first
    result = CliRunner().invoke(app, chosen)
    assert "Is a purchase ahead in the session?" in result.stdout
    assert "share of skill" not in result.stdout


def test_the_command_says_what_is_wrong(file: Path, tmp_path: Path) -> None:
    """A name that is none, and a picture that has no place, before anything is learned."""
    for options, message in (
        (["--only", "lightgbm,nix"], "no baseline is called 'nix'; there are prevalence,"),
        (["--against", "nix"], "no baseline is called 'nix'"),
        (["--plot", str(tmp_path / "no" / "board.png")], "there is no such folder"),
    ):
        result = CliRunner().invoke(app, ["baselines", str(file), *options])
        assert isinstance(result.exception, ConfigurationError)
        assert message in str(result.exception)
