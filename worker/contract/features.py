"""What the model sees of an event: one fixed row, and how rows become `ModelInputs`.

A row holds raw values; scaling, logarithms and treatment of missing values live inside the model graph.
"""

import functools
import hashlib
import math
import re
import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from worker.contract.events import EVENT_TYPES, ClickEvent

if TYPE_CHECKING:
    from worker.contract.session import Session

#: Integer features of a row. 0 is padding or missing; hour is 1..24 and weekday 1..7 (Monday 1), both UTC. The last four tell
#: who visits: the referrer is its site alone (`site_of`), and member is 1 where the event names a user.
CODES: tuple[str, ...] = (
    "type", "item", "category", "brand", "hour", "weekday", "device", "country", "referrer", "member",
)  # fmt: skip

#: Real features of a row, in raw units: currency, seconds, counts. NaN is missing (price, since_visit_s).
#: Counts decay by the spec's half-life and leave out the event itself.
NUMBERS: tuple[str, ...] = (
    "price", "gap_s", "elapsed_s", "position", "repeats",
    "visitor_views", "visitor_carts", "visitor_purchases", "since_visit_s",
    "item_views", "item_carts", "item_purchases",
    "category_views", "category_carts", "category_purchases",
    "brand_views", "brand_carts", "brand_purchases",
)  # fmt: skip

_IDENTITY = "qQqQ"  # event_time, event_hash, offset, chain
ROW_STRUCT = struct.Struct(f"<{_IDENTITY}{len(CODES)}i{len(NUMBERS)}f")
ROW = np.dtype(
    [
        ("event_time", "<i8"),
        ("event_hash", "<u8"),
        ("offset", "<i8"),
        ("chain", "<u8"),
        ("codes", "<i4", (len(CODES),)),
        ("numbers", "<f4", (len(NUMBERS),)),
    ]
)
#: Where the bytes that the model sees begin in a row; what lies before only says which event it is.
VISIBLE = struct.calcsize(f"<{_IDENTITY}")
assert ROW.itemsize == ROW_STRUCT.size

#: Lengths are padded to a multiple of this, so that the model server sees few shapes.
_LENGTH_STEP = 8

TYPE_CODE: dict[str, int] = {name: code for code, name in enumerate(EVENT_TYPES, start=1)}


class FeatureSpec(msgspec.Struct, frozen=True):
    """Everything that decides a row's content. A version of the model names the spec that it was trained with.

    `version` is that of the row's layout: 1 had no codes of who visits. Raises ValueError for a window or bucket number below 2,
    or a half-life that is not positive.
    """

    version: int = 2
    window: int = 64
    item_buckets: int = 2**16
    category_buckets: int = 512
    brand_buckets: int = 512
    device_buckets: int = 64
    country_buckets: int = 256
    referrer_buckets: int = 512
    half_life_s: float = 86_400.0

    @property
    def code_sizes(self) -> dict[str, int]:
        """How many values each of `CODES` can have, 0 among them."""
        return {
            "type": len(EVENT_TYPES) + 1,
            "item": self.item_buckets,
            "category": self.category_buckets,
            "brand": self.brand_buckets,
            "hour": 25,
            "weekday": 8,
            "device": self.device_buckets,
            "country": self.country_buckets,
            "referrer": self.referrer_buckets,
            "member": 2,
        }

    def __post_init__(self) -> None:
        if min(self.window, *self.code_sizes.values()) < 2:
            raise ValueError("a feature spec's window and bucket numbers must be at least 2")
        if not self.half_life_s > 0:
            raise ValueError(f"a feature spec's half-life must be positive, not {self.half_life_s}")


class ModelInputs(NamedTuple):
    """One batch for the model. Sessions of different length are padded on the right with zeros.

    codes   int32   [B, T, len(CODES)]
    numbers float32 [B, T, len(NUMBERS)]
    length  int32   [B, 1]   rows of each session, 1..T
    """

    codes: npt.NDArray[np.int32]
    numbers: npt.NDArray[np.float32]
    length: npt.NDArray[np.int32]

    def part(self, rows: slice) -> "ModelInputs":
        """Some of the sessions, padded no further than the longest of them needs."""
        length = self.length[rows]
        steps = padded_steps(int(length.max(initial=1)))
        return ModelInputs(self.codes[rows, :steps], self.numbers[rows, :steps], length)


def encode(sessions: "Sequence[Session]") -> ModelInputs:
    """The sessions' windows as model inputs. A session's own part never depends on the rest of the batch."""
    return encode_rows([session.rows for session in sessions])


def encode_rows(windows: Sequence[bytes | memoryview]) -> ModelInputs:
    """Windows of packed rows (each a multiple of `ROW.itemsize` bytes) as model inputs."""
    lengths = np.array([len(window) // ROW.itemsize for window in windows], np.int32)
    steps = padded_steps(int(lengths.max(initial=1)))
    rows = np.frombuffer(b"".join(windows), ROW)  # [sum of lengths]
    inside = np.arange(steps) < lengths[:, None]  # [B, T]
    codes = np.zeros((len(windows), steps, len(CODES)), np.int32)
    numbers = np.zeros((len(windows), steps, len(NUMBERS)), np.float32)
    codes[inside] = rows["codes"]
    numbers[inside] = rows["numbers"]
    return ModelInputs(codes, numbers, lengths[:, None])


def stacked(parts: Sequence[ModelInputs]) -> ModelInputs:
    """Sessions of several batches as one batch, padded to the longest of all."""
    if len(parts) == 1:
        return parts[0]
    lengths = np.concatenate([part.length for part in parts])
    steps = padded_steps(int(lengths.max(initial=1)))
    codes = np.zeros((len(lengths), steps, len(CODES)), np.int32)
    numbers = np.zeros((len(lengths), steps, len(NUMBERS)), np.float32)
    start = 0
    for part in parts:
        rows, some = slice(start, start + len(part.length)), min(part.codes.shape[1], steps)
        codes[rows, :some], numbers[rows, :some] = part.codes[:, :some], part.numbers[:, :some]
        start = rows.stop
    return ModelInputs(codes, numbers, lengths)


def padded_steps(longest: int) -> int:
    """The length that windows of up to `longest` rows are padded to."""
    return -(-max(longest, 1) // _LENGTH_STEP) * _LENGTH_STEP


def event_codes(event: ClickEvent, spec: FeatureSpec) -> tuple[int, ...]:
    """The integer features of an event, in the order of `CODES`."""
    hour, weekday = _clock(event.event_time // 3_600_000)
    return (
        TYPE_CODE[event.event_type],
        bucket("item", event.item_id, spec.item_buckets),
        bucket("category", event.category, spec.category_buckets),
        bucket("brand", event.brand, spec.brand_buckets),
        hour,
        weekday,
        bucket("device", event.device, spec.device_buckets),
        bucket("country", event.country, spec.country_buckets),
        bucket("referrer", site_of(event.referrer), spec.referrer_buckets),
        int(bool(event.user_id)),
    )


def site_of(referrer: str | None) -> str | None:
    """The site that a referrer names: what lies between "scheme://" and the next "/", "?" or "#". Other texts stay."""
    url = _SITE.match(referrer) if referrer else None
    return url[1] if url else referrer


_SITE = re.compile("[^:/?#]*://([^/?#]*)")


def bucket(kind: str, value: str | None, buckets: int) -> int:
    """A stable bucket 1..buckets-1 for an id, keyed by its kind; 0 when it is missing."""
    if not value:
        return 0
    # A cache of long ids would be bounded in number, not in memory.
    return _cached_bucket(kind, value, buckets) if len(value) <= _CACHED_CHARS else _bucket(kind, value, buckets)


def _bucket(kind: str, value: str, buckets: int) -> int:
    return 1 + hash64(kind, value) % (buckets - 1)


_CACHED_CHARS = 64
_cached_bucket = functools.lru_cache(maxsize=100_000)(_bucket)


def hash64(kind: str, value: str) -> int:
    """A stable 64-bit hash of a text, keyed by what kind of text it is."""
    # Lone surrogates cannot come from JSON that was decoded, but ids made in code may hold them.
    data = value.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, key=kind.encode()).digest(), "little")


def chain_hash(before: int, visible: bytes) -> int:
    """The window's hash after one more row: 64 bits over the hash before and the bytes that the model sees."""
    return int.from_bytes(hashlib.blake2b(before.to_bytes(8, "little") + visible, digest_size=8).digest(), "little")


def price_or_nan(event: ClickEvent) -> float:
    """The event's price in its own currency, NaN when it is missing."""
    return math.nan if event.price is None else event.price


@functools.lru_cache(maxsize=4096)
def _clock(hours: int) -> tuple[int, int]:
    at = datetime.fromtimestamp(hours * 3600, UTC)
    return at.hour + 1, at.weekday() + 1
