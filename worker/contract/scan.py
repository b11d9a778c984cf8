"""ClickEvents out of JSON, compiled: what `codec.decode` says of records that are as nearly all are, a batch at a time.

A record is plain if it is one flat object whose texts need no unescaping, whose ids are printable ASCII and whose numbers have at
most 15 digits and no exponent. Of any other record nothing is said here, not even that it is wrong: `codec.decode` is asked.
A test holds the two equal on whatever is called plain.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from worker.contract.blake2b import Words, hash_text, initial_state
from worker.contract.codec import MAX_EVENT_TIME_MS, MAX_RECORD_BYTES, MIN_EVENT_TIME_MS
from worker.contract.compiled import compiled
from worker.contract.events import EVENT_TYPES, MAX_AMOUNT, MAX_ID, MAX_TEXT, ClickEvent

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]

#: Stands behind each text of a batch: no JSON goes on over it, so that nobody has to look for an end.
END = b"\x00"


class Texts(NamedTuple):
    """Texts in one. One that is missing ends before it starts. What is to be scanned has `END` behind each."""

    text: Bytes
    starts: Longs  # [B]
    ends: Longs  # [B]

    def at(self, row: int) -> bytes | None:
        """One of them."""
        start, end = self.starts[row], self.ends[row]
        return None if end < start else self.text[start:end].tobytes()


class Buckets(NamedTuple):
    """How many buckets each of these has."""

    item: int
    category: int
    brand: int
    device: int
    country: int
    referrer: int


class Scanned(NamedTuple):
    """What was read of B records; of those that are not `plain`, nothing that counts. Spans lie in the texts, without quotes."""

    plain: npt.NDArray[np.bool_]  # [B]
    time_ms: Longs  # [B]
    codes: npt.NDArray[np.int32]  # [B, len(CODES)] of which all but hour and weekday are filled in
    price: npt.NDArray[np.float64]  # [B] NaN where there is none
    event_hash: Words  # [B]
    event_id: Longs  # [B, 2]
    visitor_id: Longs  # [B, 2]


_NAMES = ClickEvent.__struct_fields__
_NAME_TEXT = np.frombuffer("".join(_NAMES).encode(), np.uint8)
_NAME_ENDS = np.cumsum([len(name) for name in _NAMES])
_TYPE_TEXT = np.frombuffer("".join(EVENT_TYPES).encode(), np.uint8)
_TYPE_ENDS = np.cumsum([len(name) for name in EVENT_TYPES])
_EVENT_ID, _TIME, _VISITOR, _TYPE, _ITEM, _CATEGORY, _BRAND, _PRICE, _QUANTITY, _USER, _DEVICE, _COUNTRY, _REFERRER = (
    _NAMES.index(name)
    for name in (
        "event_id", "event_time", "visitor_id", "event_type", "item_id", "category", "brand", "price", "quantity", "user_id",
        "device", "country", "referrer",
    )
)  # fmt: skip
_UNKNOWN = -1
#: Texts whose buckets are remembered while a batch is read.
_KNOWN = 1024
_REQUIRED = 1 << _EVENT_ID | 1 << _TIME | 1 << _VISITOR | 1 << _TYPE
#: So many digits are exact as a double, and so is the power of ten below: the quotient then is the nearest double.
_MOST_DIGITS = 15
_POWERS = 10.0 ** np.arange(_MOST_DIGITS + 1)
_QUOTE, _BACKSLASH, _COLON, _COMMA, _OPEN, _CLOSE, _ZERO, _NINE, _POINT, _SLASH, _QUERY, _HASH = (
    ord(char) for char in '"\\:,{}09./?#'
)
_SPACE, _TAB, _LINE, _RETURN, _LAST_PRINTABLE = 0x20, 0x09, 0x0A, 0x0D, 0x7E
_NULL, _TRUE, _FALSE = (np.frombuffer(word, np.uint8) for word in (b"null", b"true", b"false"))
_EVENT_KEY, _ITEM_KEY, _CATEGORY_KEY, _BRAND_KEY, _DEVICE_KEY, _COUNTRY_KEY, _REFERRER_KEY = (
    initial_state(key) for key in (b"event", b"item", b"category", b"brand", b"device", b"country", b"referrer")
)
#: The bytes that a text may hold and still need no unescaping: of any text in UTF-8, and of one in ASCII.
UTF8 = np.array([byte >= _SPACE and byte not in (_QUOTE, _BACKSLASH) for byte in range(256)])
ASCII = UTF8 & (np.arange(256) < 0x80)


@compiled()
def scan(values: Texts, keys: Texts, newest_ms: Longs, simple: npt.NDArray[np.bool_], buckets: Buckets, scanned: Scanned) -> None:
    """Read records into `scanned`. `newest_ms` [B] is the latest time that each may have; `simple` is `UTF8` or `ASCII`:
    the texts must be in UTF-8 as a whole for the first.
    """
    state, message = np.empty(8, np.uint64), np.empty(16, np.uint64)
    spans = np.empty((len(_NAME_ENDS), 2), np.int64)
    known = np.zeros((6, _KNOWN, 3), np.int64)
    for i in range(len(values.starts)):
        scanned.plain[i] = False
        if values.ends[i] - values.starts[i] > MAX_RECORD_BYTES:
            continue
        spans[:] = 0
        time_ms, price = _read(values.text, values.starts[i], values.ends[i], simple, spans)
        if not MIN_EVENT_TIME_MS <= time_ms < MAX_EVENT_TIME_MS or time_ms > newest_ms[i]:
            continue
        event, visitor = spans[_EVENT_ID], spans[_VISITOR]
        if not (_is_id(values.text, event) and _is_id(values.text, visitor)):
            continue
        size = keys.ends[i] - keys.starts[i]
        if not _same(values.text, visitor[0], visitor[1], keys.text, keys.starts[i], size):
            continue
        kind = _index(values.text, spans[_TYPE, 0], spans[_TYPE, 1], _TYPE_TEXT, _TYPE_ENDS, 0)
        if kind == _UNKNOWN:
            continue
        scanned.plain[i] = True
        scanned.time_ms[i], scanned.price[i] = time_ms, price
        scanned.codes[i, 0] = kind + 1
        text = values.text
        _to_site(text, spans[_REFERRER])
        scanned.codes[i, 1] = _bucket(text, spans[_ITEM], _ITEM_KEY, buckets.item, known[0], state, message)
        scanned.codes[i, 2] = _bucket(text, spans[_CATEGORY], _CATEGORY_KEY, buckets.category, known[1], state, message)
        scanned.codes[i, 3] = _bucket(text, spans[_BRAND], _BRAND_KEY, buckets.brand, known[2], state, message)
        scanned.codes[i, 6] = _bucket(text, spans[_DEVICE], _DEVICE_KEY, buckets.device, known[3], state, message)
        scanned.codes[i, 7] = _bucket(text, spans[_COUNTRY], _COUNTRY_KEY, buckets.country, known[4], state, message)
        scanned.codes[i, 8] = _bucket(text, spans[_REFERRER], _REFERRER_KEY, buckets.referrer, known[5], state, message)
        scanned.codes[i, 9] = spans[_USER, 0] != spans[_USER, 1]
        scanned.event_hash[i] = hash_text(values.text, event[0], event[1], _EVENT_KEY, state, message)
        scanned.event_id[i] = event
        scanned.visitor_id[i] = visitor


@compiled()
def _read(text: Bytes, at: int, end: int, simple: npt.NDArray[np.bool_], spans: Longs) -> tuple[int, float]:
    """The event's time and price, and into `spans` where its texts are. The time is -1 if the object is not plain."""
    nothing = -1, np.nan
    time_ms, price, seen, expected = -1, np.nan, 0, 0
    at = _skip_space(text, at)
    if text[at] != _OPEN:
        return nothing
    while True:
        at = _skip_space(text, at + 1)
        if text[at] != _QUOTE:
            return nothing
        close = text_end(text, at + 1, simple)
        field = _index(text, at + 1, close, _NAME_TEXT, _NAME_ENDS, expected)
        if close < 0 or (field >= 0 and seen >> field & 1):
            return nothing
        if field >= 0:
            seen |= 1 << field
            expected = field + 1
        at = _skip_space(text, close + 1)
        if text[at] != _COLON:
            return nothing
        at = _skip_space(text, at + 1)
        is_number = field in (_TIME, _PRICE, _QUANTITY)
        if text[at] == _QUOTE:
            start, at = at + 1, text_end(text, at + 1, simple)
            # In bytes, of which there are at least as many as characters.
            most = MAX_ID if field in (_EVENT_ID, _VISITOR) else MAX_TEXT
            if at < 0 or is_number or (field >= 0 and at - start > most):
                return nothing
            if field >= 0:
                spans[field] = start, at
            at += 1
        elif _ZERO <= text[at] <= _NINE:
            at, digits, decimals = _number(text, at)
            if at < 0 or not (is_number or field == _UNKNOWN):
                return nothing
            amount = digits / _POWERS[decimals]
            if field == _TIME:
                if decimals:
                    return nothing
                time_ms = digits
            elif field == _PRICE:
                price = amount
            if is_number and field != _TIME and amount > MAX_AMOUNT:
                return nothing
        elif _same(text, at, at + 4, _NULL, 0, 4):
            if field in (_EVENT_ID, _TIME, _VISITOR, _TYPE):
                return nothing
            at += 4
        elif field == _UNKNOWN and _same(text, at, at + 4, _TRUE, 0, 4):
            at += 4
        elif field == _UNKNOWN and _same(text, at, at + 5, _FALSE, 0, 5):
            at += 5
        else:
            return nothing
        at = _skip_space(text, at)
        if text[at] == _CLOSE:
            break
        if text[at] != _COMMA:
            return nothing
    if _skip_space(text, at + 1) != end or seen & _REQUIRED != _REQUIRED:
        return nothing
    return time_ms, price


@compiled(inline="always")
def _skip_space(text: Bytes, at: int) -> int:
    while text[at] == _SPACE or text[at] == _LINE or text[at] == _TAB or text[at] == _RETURN:
        at += 1
    return at


@compiled(inline="always")
def text_end(text: Bytes, at: int, simple: npt.NDArray[np.bool_]) -> int:
    """Where the quote is that ends a text, or -1 if what comes first needs more than a look."""
    while simple[text[at]]:
        at += 1
    return at if text[at] == _QUOTE else -1


@compiled()
def _number(text: Bytes, at: int) -> tuple[int, int, int]:
    """Where a number ends (-1 if it is not plain), its digits as a whole number, and how many of them are decimals."""
    digits, count, decimals, point = 0, 0, 0, False
    begins_with_zero = text[at] == _ZERO
    while True:
        if _ZERO <= text[at] <= _NINE:
            digits = 10 * digits + (text[at] - _ZERO)
            count += 1
            decimals += point
            if count > _MOST_DIGITS or (begins_with_zero and not point and count > 1):
                return -1, 0, 0
        elif text[at] == _POINT and not point:
            point = True
        else:
            break
        at += 1
    if (point and not decimals) or text[at] in (ord("e"), ord("E"), _POINT):
        return -1, 0, 0
    return at, digits, decimals


@compiled()
def _index(text: Bytes, start: int, end: int, names: Bytes, ends: Longs, expected: int) -> int:
    """Which of the names the text is, -1 for none. The expected one is looked at first."""
    for k in range(len(ends)):
        name = expected + k
        if name >= len(ends):
            name -= len(ends)
        name_start = ends[name - 1] if name else 0
        if _same(text, start, end, names, name_start, ends[name] - name_start):
            return name
    return _UNKNOWN


@compiled(inline="always")
def _same(text: Bytes, start: int, end: int, other: Bytes, other_start: int, size: int) -> bool:
    if end - start != size:
        return False
    for k in range(size):  # noqa: SIM110  # numba knows no `all`
        if text[start + k] != other[other_start + k]:
            return False
    return True


@compiled()
def _is_id(text: Bytes, span: Longs) -> bool:
    """Whether a text is printable ASCII and neither empty nor begins with a blank."""
    if span[0] == span[1] or text[span[0]] == _SPACE:
        return False
    for at in range(span[0], span[1]):  # noqa: SIM110  # as above
        if text[at] > _LAST_PRINTABLE:
            return False
    return True


@compiled()
def _to_site(text: Bytes, span: Longs) -> None:
    """Narrow a referrer to its site (`features.site_of`)."""
    at, end = span
    while at < end and not _ends_site(text[at]) and text[at] != _COLON:
        at += 1
    if end - at < 3 or text[at] != _COLON or text[at + 1] != _SLASH or text[at + 2] != _SLASH:
        return
    at += 3
    span[0] = at
    while at < end and not _ends_site(text[at]):
        at += 1
    span[1] = at


@compiled(inline="always")
def _ends_site(byte: int) -> bool:
    return byte in (_SLASH, _QUERY, _HASH)


@compiled()
def _bucket(text: Bytes, span: Longs, key: Words, buckets: int, known: Longs, state: Words, message: Words) -> int:
    """`features.bucket` of a text. `known` has of some texts where they were and their buckets: most of a batch's come again."""
    start, end = span
    if start == end:
        return 0
    place = np.uint64(0)
    for at in range(start, end):
        place = place * np.uint64(31) + np.uint64(text[at])
    before = known[place % np.uint64(_KNOWN)]
    if not _same(text, start, end, text, before[0], before[1] - before[0]):
        hashed = hash_text(text, start, end, key, state, message)
        before[:] = start, end, np.int64(hashed % np.uint64(buckets - 1)) + 1
    bucket: int = before[2]
    return bucket
