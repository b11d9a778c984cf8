"""Rows, buckets, hashes and model inputs."""

import math
import subprocess
import sys
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.logs import SPEC, START_MS, click, folded, logs
from worker.contract import features
from worker.contract.events import EVENT_TYPES, ClickEvent
from worker.contract.features import (
    CODES,
    NUMBERS,
    ROW,
    ROW_STRUCT,
    VISIBLE,
    FeatureSpec,
    ModelInputs,
    bucket,
    chain_hash,
    encode,
    encode_rows,
    event_codes,
    hash64,
    price_or_nan,
    site_of,
)
from worker.contract.session import Session


def test_row_layout_is_the_same_for_struct_and_numpy() -> None:
    """Both ways of reading a row agree on every field, little-endian whatever the machine."""
    numbers = [float(n) + 0.5 for n in range(len(NUMBERS))]
    row = np.frombuffer(ROW_STRUCT.pack(-1, 2**64 - 1, 3, 2**63, *range(len(CODES)), *numbers), ROW)[0]
    assert (row["event_time"], row["event_hash"], row["offset"], row["chain"]) == (-1, 2**64 - 1, 3, 2**63)
    assert row["codes"].tolist() == list(range(len(CODES)))
    assert row["numbers"].tolist() == numbers
    assert ROW_STRUCT.pack(1, 0, 0, 0, *[0] * len(CODES), *[0.0] * len(NUMBERS))[:2] == b"\x01\x00"
    assert ROW.fields is not None
    assert ROW.fields["codes"][1] == VISIBLE
    assert all(ROW[name].base.byteorder in "<=" for name in ROW.names or ())


def test_codes_of_an_event() -> None:
    """Type from 1 in the order of the contract, hour 1..24 and weekday 1..7 in UTC, buckets from 1."""
    monday_midnight = ClickEvent("e", 1_704_067_200_000, "v", "view")  # 2024-01-01 00:00 UTC
    assert event_codes(monday_midnight, SPEC) == (1, 0, 0, 0, 1, 1, 0, 0, 0, 0)
    sunday_late = ClickEvent("e", 1_704_067_200_000 - 1, "v", "other", item_id="a", category="b", brand="c")
    kind, item, category, brand, hour, weekday, *visitor = event_codes(sunday_late, SPEC)
    assert (kind, hour, weekday) == (len(EVENT_TYPES), 24, 7)
    assert 1 <= item < SPEC.item_buckets
    assert 1 <= category < SPEC.category_buckets
    assert 1 <= brand < SPEC.brand_buckets
    assert visitor == [0, 0, 0, 0]


def test_codes_of_who_visits() -> None:
    """Buckets of the device, the country and the referring site, and 1 for a user who is known; empty is missing."""
    event = ClickEvent("e", START_MS, "v", "view", device="phone", country="NL", referrer="https://a.b/?c=d", user_id="u")
    device, country, referrer, member = event_codes(event, FeatureSpec())[6:]
    assert device == bucket("device", "phone", FeatureSpec().device_buckets) > 0
    assert country == bucket("country", "NL", FeatureSpec().country_buckets) > 0
    assert referrer == bucket("referrer", "a.b", FeatureSpec().referrer_buckets) > 0
    assert member == 1
    nobody = ClickEvent("e", START_MS, "v", "view", device="", country="", referrer="", user_id="")
    assert event_codes(nobody, FeatureSpec())[6:] == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("referrer", "site"),
    [
        ("https://shop.example/search?q=lamp#top", "shop.example"),
        ("https://a.b", "a.b"),
        ("http://a.b:8080?x=/y", "a.b:8080"),
        ("android-app://com.example.mail/", "com.example.mail"),
        ("newsletter", "newsletter"),
        ("google / cpc", "google / cpc"),
        ("mail?from=https://a.b/", "mail?from=https://a.b/"),
        ("a.b/https://c.d", "a.b/https://c.d"),
        ("://a/b", "a"),
        ("a:/b://c", "a:/b://c"),
        ("file:///home", ""),
        ("", ""),
        (None, None),
    ],
)
def test_of_a_referrer_its_site_counts(referrer: str | None, site: str | None) -> None:
    """An address is cut to what lies behind its scheme and before its path; what is no address stays as it is."""
    assert site_of(referrer) == site


def test_a_size_for_each_code() -> None:
    """In the order of the codes, whose values lie below."""
    assert tuple(FeatureSpec().code_sizes) == CODES


@given(st.text(max_size=80), st.integers(2, 5_000))
def test_bucket_is_within_range(value: str, buckets: int) -> None:
    """0 for a missing id and no other; every other id from 1 to buckets - 1, cached or not."""
    number = bucket("item", value, buckets)
    assert (number == 0) == (value == "")
    assert 0 <= number < buckets
    assert number == bucket("item", value, buckets)


def test_missing_and_empty_ids_are_the_same() -> None:
    """Both are the bucket of nothing."""
    assert bucket("item", None, 10) == bucket("item", "", 10) == 0


def test_hash_is_keyed_by_kind_and_stable() -> None:
    """The same text as item, category or brand hashes differently; the values are fixed for good."""
    assert hash64("item", "lamp") == 0x6CEC53D0CA501307
    assert len({hash64(kind, "lamp") for kind in ("item", "category", "brand", "event", "session")}) == 5
    assert hash64("item", "\ud800") != hash64("item", "\ud801")


def test_buckets_are_spread_evenly() -> None:
    """No bucket of 100 gets more than twice its share of 20,000 ids."""
    counts = np.bincount([bucket("item", f"item-{n}", 101) for n in range(20_000)], minlength=101)
    assert counts[0] == 0
    assert counts[1:].min() > 100
    assert counts[1:].max() < 400


def test_cache_of_buckets_holds_no_long_ids() -> None:
    """Memory is bounded: ids up to 64 characters are remembered, longer ones are hashed each time."""
    cached = features._cached_bucket.cache_info
    short, long = "s" * 64, "l" * 65
    before = cached().currsize
    assert bucket("item", long + "once", 997) == bucket("item", long + "once", 997)
    assert cached().currsize == before
    bucket("item", short, 997)
    assert cached().currsize == before + 1
    assert cached().maxsize == 100_000


def test_price_in_its_own_currency_or_missing() -> None:
    """No price is NaN, which is not free."""
    assert math.isnan(price_or_nan(click("a", START_MS)))
    assert price_or_nan(click("a", START_MS, price=0.0)) == 0.0
    assert price_or_nan(click("a", START_MS, price=1e12)) == 1e12


def sessions_of(log: list[ClickEvent]) -> list[Session]:
    return [step.session for step in folded(log)[1] if step.session.position]


@settings(max_examples=60)
@given(logs(), st.randoms(use_true_random=False))
def test_encoding_does_not_depend_on_the_batch(log: list[ClickEvent], random: Random) -> None:
    """A session's rows are the same alone, in any company and in any order; the rest is zeros on the right."""
    sessions = sessions_of(log)
    random.shuffle(sessions)
    together = encode(sessions)
    for index, session in enumerate(sessions):
        alone = encode([session])
        length = int(alone.length[0, 0])
        assert together.length[index, 0] == length == len(session.rows) // ROW.itemsize
        assert together.codes[index, :length].tobytes() == alone.codes[0, :length].tobytes()
        assert together.numbers[index, :length].tobytes() == alone.numbers[0, :length].tobytes()
        assert not together.codes[index, length:].any()
        assert not together.numbers[index, length:].any()


@settings(max_examples=30)
@given(logs())
def test_inputs_are_what_the_rows_say(log: list[ClickEvent]) -> None:
    """The bytes of codes and numbers are the visible bytes of each row, in order."""
    for session in sessions_of(log):
        codes, numbers, length = encode([session])
        rows = [session.rows[start : start + ROW.itemsize] for start in range(0, len(session.rows), ROW.itemsize)]
        for place in range(int(length[0, 0])):
            assert codes[0, place].tobytes() + numbers[0, place].tobytes() == rows[place][VISIBLE:]


@pytest.mark.parametrize(("rows", "steps"), [(1, 8), (7, 8), (8, 8), (9, 16), (64, 64)])
def test_shapes_and_types(rows: int, steps: int) -> None:
    """T is the next multiple of eight, so that the model server sees few shapes; types are the graph's."""
    spec = FeatureSpec(window=64)
    fold, _ = folded([click(f"e{n}", START_MS + n) for n in range(rows)], spec)
    inputs = encode([fold.sessions["v"]] * 3)
    assert isinstance(inputs, ModelInputs)
    assert inputs.codes.shape == (3, steps, len(CODES))
    assert inputs.codes.dtype == np.int32
    assert inputs.numbers.shape == (3, steps, len(NUMBERS))
    assert inputs.numbers.dtype == np.float32
    assert inputs.length.shape == (3, 1)
    assert inputs.length.dtype == np.int32
    assert inputs.codes.flags.c_contiguous
    assert inputs.numbers.flags.c_contiguous


def test_no_sessions_make_an_empty_batch() -> None:
    """B of zero is a batch, too."""
    assert [part.shape[0] for part in encode_rows([])] == [0, 0, 0]


def test_half_a_row_is_refused() -> None:
    """Rows that were cut are an error, never a shorter session."""
    with pytest.raises(ValueError, match="buffer size"):
        encode_rows([b"x" * (ROW.itemsize + 1)])


def recomputed_hash(session: Session) -> str:
    """The input hash by its definition: from the visible bytes of the window's rows alone."""
    chain = 0
    for start in range(0, len(session.rows), ROW.itemsize):
        chain = chain_hash(chain, session.rows[start + VISIBLE : start + ROW.itemsize])
    return f"{chain:016x}"


@settings(max_examples=60)
@given(logs(max_size=40))
def test_input_hash_is_that_of_the_visible_bytes(log: list[ClickEvent]) -> None:
    """The hash can be computed again from what the model sees, after late repairs and cut windows as well."""
    for session in sessions_of(log):
        assert session.input_hash == recomputed_hash(session)


@settings(max_examples=60)
@given(logs(max_size=25))
def test_input_hash_tells_inputs_apart(log: list[ClickEvent]) -> None:
    """Two sessions have the same hash if and only if the model sees the same bytes."""
    seen: dict[bytes, str] = {}
    for session in sessions_of(log):
        rows = np.frombuffer(session.rows, ROW)
        visible = rows["codes"].tobytes() + b"|" + rows["numbers"].tobytes()
        assert seen.setdefault(visible, session.input_hash) == session.input_hash
    assert len(set(seen.values())) == len(seen)


def test_each_visible_byte_counts_and_no_other() -> None:
    """Changing any byte that the model sees changes the hash; who the event was and where it stood does not."""
    log = [click("a", START_MS, item="lamp"), click("b", START_MS + 1, item="chair", price=1.0)]
    session = folded(log)[0].sessions["v"]
    for at in range(len(session.rows)):
        changed = bytearray(session.rows)
        changed[at] ^= 1
        other = Session("v", rows=bytes(changed))
        assert (recomputed_hash(other) != session.input_hash) == (at % ROW.itemsize >= VISIBLE)
    renamed = [click("x", START_MS, "w", item="lamp"), click("y", START_MS + 1, "w", item="chair", price=1.0)]
    assert folded(renamed)[0].sessions["w"].input_hash == session.input_hash


def test_values_do_not_depend_on_the_hash_seed() -> None:
    """Another process with another PYTHONHASHSEED computes the same buckets."""
    code = "from worker.contract.features import bucket; print(bucket('item', 'lamp', 4096), bucket('brand', 'é' * 99, 512))"
    outputs = {
        subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, check=True, capture_output=True).stdout
        for seed in ("1", "2")
    }
    assert outputs == {f"{bucket('item', 'lamp', 4096)} {bucket('brand', 'é' * 99, 512)}\n".encode()}
