"""Reading recorded events: merged by time, kept as they are, shifted where asked."""

import gzip
import json
from pathlib import Path

import pytest

from worker.errors import ConfigurationError
from worker.replay import ReplayNotes, read_lines, shifted

_T = 1_700_000_000_000


def _line(number: int, at: int = 0, visitor: str = "v", **more: object) -> bytes:
    event = {"event_id": f"e{number}", "event_time": _T + at, "visitor_id": visitor, "event_type": "view"}
    return json.dumps(event | more).encode()


def _file(path: Path, *lines: bytes) -> Path:
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def test_files_are_merged_by_time(tmp_path: Path) -> None:
    """Events of several files come in the order of their times; within a file its own order holds."""
    one = _file(tmp_path / "1", _line(0, 0), _line(1, 20), _line(2, 20))
    two = _file(tmp_path / "2", _line(3, 10), _line(4, 30))
    notes = ReplayNotes()
    assert [json.loads(line.value)["event_id"] for line in read_lines([one, two], notes)] == ["e0", "e3", "e1", "e2", "e4"]
    assert notes == ReplayNotes()


def test_bytes_and_keys_stay_as_they_are(tmp_path: Path) -> None:
    """Spaces, unknown fields and the order of fields survive; the key is the visitor."""
    raw = b'{ "visitor_id" : "\xc3\xa4", "event_time":1700000000000, "new": 1e3}'
    (line,) = read_lines([_file(tmp_path / "f", raw, b"", b"  ")], ReplayNotes())
    assert (line.value, line.key) == (raw, "ä".encode())


@pytest.mark.parametrize(
    "bad", [b"{", b"[]", b'{"event_time":1}', b'{"event_time":"1","visitor_id":"v"}', b"\xff\xfe", b"[" * 100_000]
)
def test_lines_that_are_no_events_are_sent_without_key(tmp_path: Path, bad: bytes) -> None:
    """The worker shall see and refuse them; they are counted and the first is named."""
    notes = ReplayNotes()
    lines = list(read_lines([_file(tmp_path / "f", _line(0), bad, _line(1, 5))], notes))
    assert [line.value for line in lines] == [_line(0), bad, _line(1, 5)]
    assert [line.key for line in lines] == [b"v", None, b"v"]
    assert (notes.unreadable, notes.first) == (1, f"{tmp_path / 'f'}:2")


def test_a_time_that_cannot_be_true_takes_the_place_of_the_line_before(tmp_path: Path) -> None:
    """Microseconds among milliseconds neither hold up a replay nor are mended."""
    wrong = _line(1, _T * 999)
    lines = list(shifted(read_lines([_file(tmp_path / "f", _line(0), wrong, _line(2, 5))], ReplayNotes()), 2 * _T))
    assert [line.event_time for line in lines] == [2 * _T, _T, 2 * _T + 5]
    assert lines[1].value == wrong


def test_shifting_moves_all_times_alike(tmp_path: Path) -> None:
    """The first event is at the time asked for, gaps stay, and so does every other field."""
    path = _file(tmp_path / "f", _line(0, 0, title="ä", new=[1]), _line(1, 1500))
    events = [json.loads(line.value) for line in shifted(read_lines([path], ReplayNotes()), _T + 77)]
    assert [event["event_time"] for event in events] == [_T + 77, _T + 1577]
    assert (events[0]["title"], events[0]["new"], events[0]["event_id"]) == ("ä", [1], "e0")


def test_packed_files_are_known_by_their_content(tmp_path: Path) -> None:
    """gzip is read whatever the name."""
    path = tmp_path / "events"
    path.write_bytes(gzip.compress(_line(0) + b"\r\n"))
    (line,) = read_lines([path], ReplayNotes())
    assert line.value == _line(0)


def test_a_file_that_is_not_there_is_said_before_anything_is_sent(tmp_path: Path) -> None:
    """Not after the first million events."""
    with pytest.raises(ConfigurationError, match="no file"):
        read_lines([_file(tmp_path / "f", _line(0)), tmp_path / "other"], ReplayNotes())


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    """A cut gzip file ends in one line, not in a traceback."""
    path = tmp_path / "events.gz"
    path.write_bytes(gzip.compress(b"".join(_line(n) + b"\n" for n in range(1000)))[:-30])
    with pytest.raises(ConfigurationError, match=r"events\.gz"):
        list(read_lines([path], ReplayNotes()))
