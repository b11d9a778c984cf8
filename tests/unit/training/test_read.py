"""Files of events."""

import gzip
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.unit.training.shop import T0, click, write_jsonl
from training.read import EventFiles, _in_order, logged, partition_of
from worker.contract.events import ClickEvent, Reason
from worker.errors import ConfigurationError


def ids(files: EventFiles) -> list[str]:
    return [event.event_id for event in files.events()]


def test_reads_plain_and_gzipped_files_in_the_order_given(tmp_path: Path) -> None:
    """Several files are one log; .gz is told by the suffix."""
    first = write_jsonl(tmp_path / "a.jsonl", [click(0, 0), click(1, 1)])
    second = tmp_path / "b.jsonl.gz"
    second.write_bytes(gzip.compress(write_jsonl(tmp_path / "b.jsonl", [click(2, 2)]).read_bytes()))
    assert ids(EventFiles([first, second])) == ["e0", "e1", "e2"]


def test_sorts_by_time_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Events of the same time keep the order of the file; line numbers stay those of the file."""
    path = write_jsonl(tmp_path / "x.jsonl", [click(0, 500), click(1, 100), click(2, 500), click(3, 100)])
    with caplog.at_level(logging.WARNING):
        files = EventFiles([path])
    assert [(line.number, line.event_id) for line in files] == [(1, "e1"), (3, "e3"), (0, "e0"), (2, "e2")]
    assert "not sorted" in caplog.text


def test_sorted_files_are_read_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Lines that are no events do not make a file unsorted."""
    path = write_jsonl(tmp_path / "x.jsonl", [click(0, 0), click(1, 5)], b"nonsense", b'{"event_time": true}')
    with caplog.at_level(logging.WARNING):
        assert ids(EventFiles([path])) == ["e0", "e1"]
    assert caplog.text == ""


def test_lines_out_of_order_wait_no_longer_than_they_must(tmp_path: Path) -> None:
    """A log that is a little unsorted is not taken into memory whole: it is read no further than the line that comes next."""
    times = [k + 3 * (k % 2) for k in range(1000)]
    read: list[int] = []

    def numbered() -> Iterator[tuple[int, bytes]]:
        for number in range(len(times)):
            read.append(number)
            yield number, b"%d" % number

    order = np.argsort(times, kind="stable")
    for taken, (number, line) in enumerate(_in_order(numbered(), order)):
        assert (number, line) == (order[taken], b"%d" % order[taken])
        assert len(read) <= taken + 4


@pytest.mark.parametrize("unsorted", [False, True])
def test_older_lines_than_the_newest_are_left_out(unsorted: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Before `until_ms`; nor are their faults counted. A line that does not say its time is looked at as ever."""
    events = [click(k, 10 * k) for k in range(20)]
    rest = (b"{", b'{"event_time": %d}' % (T0 + 10), b'{"event_time": %d}' % (T0 + 150))
    files = EventFiles([write_jsonl(tmp_path / "x.jsonl", [*events[10:], *events[:10]] if unsorted else events, *rest)])
    until = T0 + 180  # ahead of it 18 events, a fault of that time and one of long ago, and the line without a time
    assert [event.event_id for event in files.events(6, until) if event.event_time < until] == [f"e{k}" for k in range(13, 18)]
    assert files.left_out(6, until) == 21 - 6
    assert "taking the newest 6 of 21 events" in caplog.text
    assert files.invalid.total() == 2
    assert files.left_out(30, until) == 0


def test_invalid_lines_are_counted_and_keep_their_id(tmp_path: Path) -> None:
    """A line that is no event is told by its reason; what it says of its id is kept."""
    path = write_jsonl(tmp_path / "x.jsonl", [click(0, 0)], b"{", b'{"event_id": "bad"}', b"\xff\xfe", b"[1]")
    files = EventFiles([path])
    lines = list(files)
    assert [line.event_id for line in lines] == ["e0", None, "bad", None, None]
    assert sum(isinstance(line.event, ClickEvent) for line in lines) == 1
    assert files.invalid[Reason.MISSING_FIELD] == 1
    assert files.invalid.total() == 4
    list(files)
    assert files.invalid.total() == 4, "counted anew on each pass"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"\n \n", "empty"),
        (b"a,b,c\n1,2,3\n", "no line is an event"),
        (b"\x89PNG\r\n\x1a\n", "no line is an event"),
    ],
)
def test_a_file_without_events_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    """One line tells what is wrong with it."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=says):
        EventFiles([path])


def test_unreadable_files_are_refused_by_name(tmp_path: Path) -> None:
    """Missing, a folder, and not gzip although it says so."""
    torn = tmp_path / "torn.jsonl.gz"
    torn.write_bytes(gzip.compress(b'{"event_time": 1}\n' * 50)[:-12])
    fake = tmp_path / "fake.jsonl.gz"
    fake.write_bytes(b"{}")
    for path in (tmp_path / "nowhere.jsonl", tmp_path, torn, fake):
        with pytest.raises(ConfigurationError, match=path.name):
            EventFiles([path])


def test_partitions_are_those_of_the_kafka_client() -> None:
    """The client's default partitioner sends a visitor's events to the partition that offline code folds them in."""
    from aiokafka.partitioner import DefaultPartitioner

    visitors = [f"visitor-{k}" for k in range(50)]
    theirs = [DefaultPartitioner()(visitor.encode(), [0, 1, 2, 3], [0, 1, 2, 3]) for visitor in visitors]
    assert [partition_of(visitor, 4) for visitor in visitors] == theirs


def test_offsets_rise_by_one_in_each_partition() -> None:
    """As they would in the topic."""
    placed = list(logged((click(k, k, f"v{k % 7}") for k in range(100)), 4))
    for partition in range(4):
        offsets = [place.offset for place in placed if place.partition == partition]
        assert offsets == list(range(len(offsets)))
