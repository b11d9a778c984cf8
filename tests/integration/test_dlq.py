"""Dead letters on genuine Kafka: listed, shown safely, put back once."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.reference import Written, reference, write
from tests.support.topics import Sent, read, send, shop_records
from worker.dead import REPLAYED_FROM, DeadLetter, Origin, dead_letter, parse_dead, parse_dropped
from worker.dlq import drop_dead, droppable, find_dead, list_dead, replay_dead
from worker.errors import ConfigurationError, InklingError
from worker.settings import KafkaSettings, Settings, TopicSettings

_BAD: list[Sent] = [(b"v", b"{"), (b"v", b""), (b"w", b"nonsense"), (None, shop_records(1)[0][1]), (b"x", None)]


@pytest.fixture
def settings(kafka: str, topics: TopicSettings) -> Settings:
    return Settings(kafka=KafkaSettings(bootstrap_servers=kafka), topics=topics)


async def _bury(settings: Settings, records: list[Sent]) -> dict[tuple[int, int], Written]:
    """Send clicks, and the dead letters that a worker writes for them."""
    await send(settings, records)
    made = await reference(settings)
    await write(settings, made.dead.values())
    return made.dead


def _all(letter: DeadLetter) -> bool:
    return True


async def _put_back(settings: Settings) -> list[tuple[bytes | None, bytes | None, int]]:
    return [
        (record.key, record.value, record.partition)
        for record in await read(settings, settings.topics.clicks)
        if any(name == REPLAYED_FROM for name, _ in record.headers)
    ]


async def test_dead_letters_are_counted_by_reason(settings: Settings) -> None:
    """Copies after a crash count once, foreign records apart, the newest come first."""
    dead = await _bury(settings, [*shop_records(20), *_BAD])
    await write(settings, [*list(dead.values())[:2], Written(settings.topics.dead, 0, b"k", b"something else")])
    listing = await list_dead(settings, 3)
    assert listing.reasons == {"not_json": 2, "empty": 1, "null_key": 1, "tombstone": 1}
    assert listing.foreign == 1
    times = [letter.timestamp_ms for letter in listing.newest]
    assert len(times) == 3
    assert times == sorted(times, reverse=True)


async def test_one_is_found_by_its_origin(settings: Settings) -> None:
    """With its bytes; one that is not there is an error in one line."""
    dead = await _bury(settings, _BAD)
    for partition, offset in dead:
        letter = await find_dead(settings, Origin(settings.topics.clicks, partition, offset))
        (record,) = [r for r in await read(settings, settings.topics.clicks) if (r.partition, r.offset) == (partition, offset)]
        assert (letter.key, letter.value) == (record.key, record.value)
    with pytest.raises(InklingError, match="no dead letter of"):
        await find_dead(settings, Origin(settings.topics.clicks, 0, 999))


async def test_records_are_put_back_once(settings: Settings) -> None:
    """Key, value and partition as they were; a second time nothing happens."""
    dead = await _bury(settings, [*shop_records(10), *_BAD])
    originals = [
        (record.key, record.value, record.partition)
        for record in await read(settings, settings.topics.clicks)
        if (record.partition, record.offset) in dead
    ]
    first = await replay_dead(settings, _all)
    assert (first.put_back, first.again) == (len(_BAD), 0)
    assert sorted(await _put_back(settings), key=str) == sorted(originals, key=str)
    second = await replay_dead(settings, _all)
    assert (second.put_back, second.again) == (0, len(_BAD))
    assert len(await _put_back(settings)) == len(_BAD)


async def test_only_one_reason_is_put_back(settings: Settings) -> None:
    """The others stay for later."""
    await _bury(settings, _BAD)
    assert (await replay_dead(settings, lambda letter: letter.reason == "not_json")).put_back == 2
    assert {value for _, value, _ in await _put_back(settings)} == {b"{", b"nonsense"}
    rest = await replay_dead(settings, _all)
    assert (rest.put_back, rest.again) == (len(_BAD) - 2, 2)


async def test_what_died_again_is_left_unless_named(settings: Settings) -> None:
    """Or a record that nothing can mend would go round for ever."""
    await _bury(settings, _BAD[:1])
    await replay_dead(settings, _all)
    made = await reference(settings)
    again = max(made.dead)
    await write(settings, [made.dead[again]])
    result = await replay_dead(settings, _all)
    assert (result.put_back, result.again, result.died_again) == (0, 1, 1)
    origin = Origin(settings.topics.clicks, *again)
    named = await replay_dead(settings, lambda letter: letter.origin == origin, named=True)
    assert named.put_back == 1


async def test_what_is_cut_cannot_be_put_back(settings: Settings) -> None:
    """Half a record must not come back as a whole one."""
    key, value, headers = dead_letter(
        b"x" * 1_200_000, b"v", (), topic=settings.topics.clicks, partition=0, offset=5, timestamp_ms=0,
        reason="too_large", detail="", stage="decode", worker_version="0",
    )  # fmt: skip
    await write(settings, [Written(settings.topics.dead, 0, key, value, tuple(headers))])
    result = await replay_dead(settings, _all)
    assert (result.put_back, result.cut) == (0, 1)


async def test_dropped_ones_are_neither_listed_nor_put_back(settings: Settings) -> None:
    """Only the wanted ones; they stay to be looked at, also as later copies."""
    dead = await _bury(settings, [*shop_records(10), *_BAD])
    found = await droppable(settings, lambda letter: letter.reason == "not_json")
    assert sum(map(len, found.values())) == 2
    await drop_dead(settings, found)
    await write(settings, dead.values())  # copies, as after a crash
    listing = await list_dead(settings, 10)
    assert listing.reasons == {"empty": 1, "null_key": 1, "tombstone": 1}
    assert {letter.reason for letter in listing.newest} == listing.reasons.keys()
    assert (listing.dropped, listing.foreign) == (2, 0)
    assert await droppable(settings, lambda letter: letter.reason == "not_json") == {}
    result = await replay_dead(settings, _all)
    assert (result.put_back, result.dropped) == (len(_BAD) - 2, 2)
    dropped = next(origin for origins in found.values() for origin in origins)
    assert (await replay_dead(settings, lambda letter: letter.origin == dropped, named=True)).dropped == 1
    assert (await find_dead(settings, dropped)).reason == "not_json"


async def test_many_are_dropped_at_once(settings: Settings) -> None:
    """More than one record of drops holds."""
    await _bury(settings, [(b"v%d" % number, b"{") for number in range(1300)])
    await drop_dead(settings, await droppable(settings, _all))
    listing = await list_dead(settings, 1)
    assert (listing.reasons, listing.dropped, listing.foreign) == ({}, 1300, 0)


async def test_drops_lie_behind_their_letters(settings: Settings) -> None:
    """On the same partition, so that retention takes the letter first and none comes back."""
    await _bury(settings, [(b"v%d" % number, b"{") for number in range(50)])
    await drop_dead(settings, await droppable(settings, _all))
    left: set[tuple[int, str]] = set()
    for record in await read(settings, settings.topics.dead):
        letter = parse_dead(record.value, record.key, record.headers)
        if letter is not None:
            left.add((record.partition, str(letter.origin)))
        left -= {(record.partition, str(origin)) for origin in parse_dropped(record.headers)}
    assert left == set()


async def test_forged_marks_do_not_stop_it(settings: Settings) -> None:
    """A header of our name with nonsense in it, on any click, is passed over."""
    await _bury(settings, _BAD[:1])
    (letter,) = (await list_dead(settings, 1)).newest
    forged = Written(
        settings.topics.clicks, letter.origin.partition, b"v", b"x", ((REPLAYED_FROM, b"\xff:x"), (REPLAYED_FROM, None))
    )
    await write(settings, [forged])
    assert (await replay_dead(settings, _all)).put_back == 1


async def test_a_missing_topic_is_one_line(settings: Settings) -> None:
    """It names the topic and the servers."""
    nowhere = settings.model_copy(update={"topics": settings.topics.model_copy(update={"dead": "not-there"})})
    with pytest.raises(ConfigurationError, match="not-there"):
        await list_dead(nowhere, 1)


async def test_the_commands_show_hostile_bytes_safely(settings: Settings) -> None:
    """Escape sequences of a record do not reach the terminal; scripts get JSON."""
    await _bury(settings, [(b"v\x1b[2J", b'{"a": "\x1b]0;owned\x07\xff\xe2\x80\xae"')])

    environment = {
        "INKLING_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "INKLING_TOPICS__DEAD": settings.topics.dead,
        "INKLING_TOPICS__CLICKS": settings.topics.clicks,
    }
    program = "from worker.cli_dlq import dlq_app; dlq_app()"

    def run(*arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        assert done.returncode == status
        return (done.stderr if status else done.stdout).decode()

    listed = json.loads(run("list", "--json"))
    assert listed["reasons"] == {"bad_encoding": 1}
    origin = listed["newest"][0]["origin"]
    for shown in (run("show", origin), run("list"), run("show", origin, "--json")):
        assert not any(char in shown for char in "\x1b\x07\u202e")
    assert "owned" in run("show", origin)
    assert json.loads(run("replay", origin, "--json"))["put_back"] == 1
    assert run("replay", "--all").startswith("0 records put back\n1 had been put back before")
    assert "--yes" in run("drop", "--all", status=2)
    assert json.loads(run("list", "--json"))["dropped"] == 0
    assert run("drop", "--all", "--yes") == "1 dead letters dropped\n"
    assert json.loads(run("drop", "--all", "--yes", "--json")) == {"dropped": 0}
    assert json.loads(run("list", "--json"))["dropped"] == 1
