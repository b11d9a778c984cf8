"""Values of senders who speak something else: other encodings, other formats, JSON wrapped in something."""

import base64
import bz2
import gzip
import json
import pickle
import struct
import zlib
from collections.abc import Iterator

import msgspec

from tests.corpus.record import BadClass, Record
from worker.contract.events import Reason

_BLANKS = {"no-break": "\u00a0", "ideographic": "\u3000", "line separator": "\u2028", "zero width": "\u200b", "mark": "\ufeff"}


def formats(record: Record) -> Iterator[BadClass]:
    """Encodings, formats and wrappings."""
    yield from _encodings(record)
    yield from _formats(record)
    yield from _wrappings(record)


def _encodings(record: Record) -> Iterator[BadClass]:
    text = record.with_().decode()
    yield (
        "UTF-32 with mark",
        Reason.BAD_ENCODING,
        {
            "little": b"\xff\xfe\0\0" + text.encode("utf-32-le"),
            "big": b"\0\0\xfe\xff" + text.encode("utf-32-be"),
        },
    )
    plain = record.without().decode()  # ASCII only
    yield (
        "UTF-32 without mark",
        Reason.NOT_JSON,
        {"little": plain.encode("utf-32-le"), "big": plain.encode("utf-32-be")},
    )
    yield (
        "code pages",
        Reason.BAD_ENCODING,
        {
            name: record.literal("item_id", b'"' + "зонт 傘".encode(name, "ignore") + b'"')
            for name in ("cp1251", "koi8-r", "shift_jis", "gb18030", "euc-jp")
        },
    )
    whole = record.with_(title="日本語 é 😀").rstrip(b'"}')
    marks = [at for at in range(len(whole)) if whole[at] >= 0xC0]
    cut = record.dice.choice(marks) + 1
    yield "cut inside a character", Reason.BAD_ENCODING, {"last": whole[: marks[-1] + 1], "drawn": whole[:cut]}


def _formats(record: Record) -> Iterator[BadClass]:
    sound = record.with_()
    fields = json.loads(sound)
    yield (
        "compressed",
        Reason.BAD_ENCODING,
        {"gzip": gzip.compress(sound, mtime=0), "zlib": zlib.compress(sound), "bzip2": bz2.compress(sound)},
    )
    time = struct.pack("<q", fields["event_time"])
    yield (
        "binary formats",
        Reason.BAD_ENCODING,
        {
            "MessagePack": msgspec.msgpack.encode(fields),
            "CBOR": b"\xa2\x68event_id\x61e\x6aevent_time\x1b" + time[::-1],
            "pickle": pickle.dumps(fields),
            "Protocol Buffers": b"\x0a\x01e\x10\xff\xaf\xd0\xe5\xe4\x31\x1a\x01v",
            "BSON": struct.pack("<i", 200) + b"\x09event_time\0" + time + b"\xff\0",
        },
    )
    yield (
        "text formats",
        Reason.NOT_JSON,
        {
            "form": b"event_id=e&event_type=view",
            "YAML": b"event_id: e\nevent_type: view\n",
            "XML": b'<?xml version="1.0"?><event id="e"/>',
            "log line": b"INFO view by v",
            "base64": base64.b64encode(sound),
            "hex": b"x" + sound.hex().encode(),
        },
    )
    broken = [at for at in range(1, len(sound)) if sound[at : at + 1] in b",:}" and sound[at - 1 : at] in b'"]'] or [
        len(sound) - 1
    ]
    drawn = record.dice.choice(broken)
    yield (
        "JSON of humans",
        Reason.NOT_JSON,
        {
            "block comment": b"/* an event */" + sound,
            "comment inside": sound[:-1] + b" /* end */}",
            "hexadecimal": record.literal("price", "0x10"),
            "no quotes": record.literal("item_id", "lamp"),
            "single quotes": record.literal("item_id", "'lamp'"),
            "trailing comma": sound[:-1] + b",}",
            "semicolon": sound[:-1] + b";}",
            "drawn sign left out": sound[:drawn] + sound[drawn + 1 :],
        },
    )
    yield (
        "foreign blanks",
        Reason.NOT_JSON,
        {name: sound[:-1] + blank.encode() + b"}" for name, blank in _BLANKS.items()}
        | {"vertical tab": sound[:-1] + b"\x0b}", "form feed": sound[:-1] + b"\x0c}"},
    )


def _wrappings(record: Record) -> Iterator[BadClass]:
    sound = record.with_().decode()
    yield (
        "encoded twice",
        Reason.WRONG_TYPE,
        {
            "as text": json.dumps(sound).encode(),
            "three times": json.dumps(json.dumps(sound)).encode(),
            "base64": json.dumps(base64.b64encode(sound.encode()).decode()).encode(),
        },
    )
    event = json.loads(sound)
    yield (
        "envelope",
        Reason.MISSING_FIELD,
        {
            "payload": json.dumps({"schema": None, "payload": event}).encode(),
            "change": json.dumps({"before": None, "after": event, "op": "c"}).encode(),
            "cloud event": json.dumps({"specversion": "1.0", "id": "e", "type": "view", "data": event}).encode(),
            "list": json.dumps({"events": [event] * record.dice.randint(0, 5)}).encode(),
        },
    )
