"""BLAKE2b (RFC 7693) with 8 byte digests, compiled: the hashes of `features` without a call into Python for each event."""

import numpy as np
import numpy.typing as npt

from worker.contract.compiled import compiled

_BLOCK_BYTES, _DIGEST_BYTES = 128, 8
_IV = np.array(
    [
        0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
        0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
    ],
    np.uint64,
)  # fmt: skip
#: Which message word goes where in each of the 12 rounds. Unsigned, as a place that may be negative costs a look each time.
_SIGMA = np.array(
    [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
        [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
        [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
        [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
        [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
        [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
        [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
        [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
        [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    ],
    np.uint64,
)  # fmt: skip
Words = npt.NDArray[np.uint64]


def initial_state(key: bytes) -> Words:
    """What a keyed hash begins from, 8 words: the key is a block of its own, hashed before the data. Without a key none is."""
    state = _IV.copy()
    state[0] ^= np.uint64(0x01010000 ^ (len(key) << 8) ^ _DIGEST_BYTES)
    if key:
        compress(state, np.frombuffer(key.ljust(_BLOCK_BYTES, b"\0"), np.uint64), _BLOCK_BYTES, False)
    return state


@compiled(inline="always")
def _right(word: np.uint64, bits: int) -> np.uint64:
    return (word >> np.uint64(bits)) | (word << np.uint64(64 - bits))


@compiled(inline="always")
def _mix(a: np.uint64, b: np.uint64, c: np.uint64, d: np.uint64, x: np.uint64, y: np.uint64):  # type: ignore[no-untyped-def]
    a = a + b + x
    d = _right(d ^ a, 32)
    c = c + d
    b = _right(b ^ c, 24)
    a = a + b + y
    d = _right(d ^ a, 16)
    c = c + d
    b = _right(b ^ c, 63)
    return a, b, c, d


@compiled()
def compress(state: Words, message: Words, hashed: int, last: bool) -> None:
    """Take one block of 16 words into `state` [8]; `hashed` counts all bytes so far."""
    v0, v1, v2, v3, v4, v5, v6, v7 = state[0], state[1], state[2], state[3], state[4], state[5], state[6], state[7]
    v8, v9, v10, v11, v12, v13, v14, v15 = _IV[0], _IV[1], _IV[2], _IV[3], _IV[4], _IV[5], _IV[6], _IV[7]
    v12 ^= np.uint64(hashed)
    if last:
        v14 = ~v14
    for r in range(12):
        s = _SIGMA[r]
        v0, v4, v8, v12 = _mix(v0, v4, v8, v12, message[s[0]], message[s[1]])
        v1, v5, v9, v13 = _mix(v1, v5, v9, v13, message[s[2]], message[s[3]])
        v2, v6, v10, v14 = _mix(v2, v6, v10, v14, message[s[4]], message[s[5]])
        v3, v7, v11, v15 = _mix(v3, v7, v11, v15, message[s[6]], message[s[7]])
        v0, v5, v10, v15 = _mix(v0, v5, v10, v15, message[s[8]], message[s[9]])
        v1, v6, v11, v12 = _mix(v1, v6, v11, v12, message[s[10]], message[s[11]])
        v2, v7, v8, v13 = _mix(v2, v7, v8, v13, message[s[12]], message[s[13]])
        v3, v4, v9, v14 = _mix(v3, v4, v9, v14, message[s[14]], message[s[15]])
    state[0] ^= v0 ^ v8
    state[1] ^= v1 ^ v9
    state[2] ^= v2 ^ v10
    state[3] ^= v3 ^ v11
    state[4] ^= v4 ^ v12
    state[5] ^= v5 ^ v13
    state[6] ^= v6 ^ v14
    state[7] ^= v7 ^ v15


@compiled()
def hash_text(text: npt.NDArray[np.uint8], start: int, end: int, initial: Words, state: Words, message: Words) -> np.uint64:
    """The hash of a part of a text, as a number. `state` [8] and `message` [16] are room to work in."""
    state[:] = initial
    at = start
    while True:
        size = min(end - at, _BLOCK_BYTES)
        message[:] = 0
        for k in range(size):
            message[k >> 3] |= np.uint64(text[at + k]) << np.uint64(8 * (k & 7))
        at += size
        compress(state, message, _BLOCK_BYTES + at - start, at == end)
        if at == end:
            break
    hashed: np.uint64 = state[0]
    return hashed
