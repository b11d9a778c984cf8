"""`inkling simulate` from the outside: files, truth, and errors that say what to do."""

import gzip
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from training.simulate import load_shop, simulate
from worker.cli_simulate import app
from worker.contract.codec import decode
from worker.contract.events import ClickEvent
from worker.errors import ConfigurationError

pytestmark = pytest.mark.slow


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def _lines(path: Path) -> list[dict[str, object]]:
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in raw.splitlines()]


def test_writes_events_and_their_truth(tmp_path: Path) -> None:
    """One line a line: the truth file has id and p of each event, as the library gives them, and every event is valid."""
    events, truth = tmp_path / "events.jsonl", tmp_path / "truth.jsonl"
    assert _run("--sessions", 50, "--seed", 4, "--out", events, "--truth", truth, "--sessions-per-hour", 60).exit_code == 0
    library = simulate(load_shop(), 50, 4, 1_767_571_200_000, sessions_per_hour=60)
    assert {line["event_id"]: line["p"] for line in _lines(truth)} == pytest.approx(library.truth_by_id(), rel=1e-8)
    decoded = [decode(line, json.loads(line)["visitor_id"].encode(), 2**53, 0) for line in events.read_bytes().splitlines()]
    assert all(isinstance(event, ClickEvent) for event in decoded)
    assert decoded == list(library.events())


def test_same_seed_same_file(tmp_path: Path) -> None:
    """Two runs write the same bytes, packed or not, whatever the file is called; another seed writes others."""
    for name, seed in (("a.jsonl.gz", 1), ("b.jsonl.gz", 1), ("c.jsonl.gz", 2), ("d.jsonl", 1)):
        assert _run("--sessions", 30, "--seed", seed, "--out", tmp_path / name).exit_code == 0
    a, b, c, d = ((tmp_path / name).read_bytes() for name in ("a.jsonl.gz", "b.jsonl.gz", "c.jsonl.gz", "d.jsonl"))
    assert a == b != c
    assert gzip.decompress(a) == d
    assert not list(tmp_path.glob("*.tmp"))


def test_stdout_carries_events_only() -> None:
    """Without --out the events go to stdout, and nothing else does."""
    result = _run("--sessions", 5)
    assert result.exit_code == 0
    assert all("event_id" in json.loads(line) for line in result.stdout.splitlines())


def test_drift_begins_where_it_is_told(tmp_path: Path) -> None:
    """With --drift-at the events before are those of a run without, and later ones differ."""
    plain, drifted = tmp_path / "plain.jsonl", tmp_path / "drifted.jsonl"
    arguments = ("--sessions", 12_000, "--sessions-per-hour", 300)
    assert _run(*arguments, "--out", plain).exit_code == 0
    assert _run(*arguments, "--out", drifted, "--drift", "new_items", "--drift-at", 0.9).exit_code == 0
    before, after = plain.read_bytes().splitlines(), drifted.read_bytes().splitlines()
    assert before[:20_000] == after[:20_000]
    assert before != after


def test_start_takes_iso_and_milliseconds(tmp_path: Path) -> None:
    """Both ways to name the first moment mean the same."""
    iso, ms = tmp_path / "iso.jsonl", tmp_path / "ms.jsonl"
    assert _run("--sessions", 5, "--start", "2026-03-01T00:00:00Z", "--out", iso).exit_code == 0
    assert _run("--sessions", 5, "--start", 1_772_323_200_000, "--out", ms).exit_code == 0
    assert iso.read_bytes() == ms.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--drift", "sideways"), "give one of"),
        (("--start", "yesterday"), "give a time like"),
        (("--out", "x.jsonl", "--topic", "clicks"), "not both"),
        (("--sessions", 0), "--sessions"),
    ],
)
def test_usage_errors_have_status_2(arguments: tuple[object, ...], said: str) -> None:
    """What cannot be meant is refused with status 2 and a word on what can."""
    result = _run(*arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.output.replace("│", " ").split())


def test_unknown_shop_and_unwritable_file_are_one_line_errors(tmp_path: Path) -> None:
    """Both end as errors of configuration, with the names to choose from and the file."""
    assert "electronics" in str(_run("--shop", "nowhere").exception)
    result = _run("--sessions", 5, "--out", tmp_path / "missing" / "x.jsonl")
    assert isinstance(result.exception, ConfigurationError)
    assert "cannot write" in str(result.exception)


def test_fit_writes_a_shop_that_simulates(tmp_path: Path) -> None:
    """From a file of events to parameters, with a report in JSON, and from those to events again."""
    events, shop, again = tmp_path / "events.jsonl.gz", tmp_path / "mine.json", tmp_path / "again.jsonl"
    assert _run("--sessions", 800, "--out", events).exit_code == 0
    result = _run("fit", events, "--out", shop, "--states", "2", "--restarts", 1, "--source", "a test", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["real"]["mean_length"] == pytest.approx(6.6, abs=0.8)
    assert (load_shop(shop).name, load_shop(shop).source, len(load_shop(shop).states)) == ("mine", "a test", 2)
    assert _run("--shop", shop, "--sessions", 20, "--out", again).exit_code == 0
    assert len(_lines(again)) > 20


def test_fit_can_leave_purchases_out(tmp_path: Path) -> None:
    """With --browse-only the purchases are the assumed ones."""
    events, shop = tmp_path / "events.jsonl", tmp_path / "shop.json"
    assert _run("--sessions", 500, "--out", events).exit_code == 0
    result = _run("fit", events, "--out", shop, "--states", "2-2", "--restarts", 1, "--browse-only", 0.04)
    assert result.exit_code == 0, result.output
    assert "mean length" in result.stdout
    stream = simulate(load_shop(shop), 5_000, 1, 0, hours=24)
    assert len(set(stream.clicks.session[stream.clicks.type == 5].tolist())) / 5_000 == pytest.approx(0.04, abs=0.012)
