"""The likeliest next items of many sessions as columns: no object is made for a name between the model server and a score."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import msgspec
import numpy as np
import numpy.typing as npt

from worker.contract.clicks import in_quotes
from worker.contract.compiled import compiled
from worker.contract.move import copy
from worker.contract.scan import UTF8

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]

#: Triton has the length of a text before it, in so many bytes, the lowest first.
_SIZE_BYTES = 4
#: In UTF-8 a character may have such bytes behind its first.
_INSIDE, _INSIDE_BITS = 0x80, 0xC0


class NextItems(NamedTuple):
    """Up to K next items of each of B sessions, the likeliest first.

    text     uint8   [N]        their ids, in UTF-8, as JSON has them
    spans    int64   [B, K, 2]  where in the text each is, without quotes; an empty one is none
    chances  float32 [B, K]     probability
    """

    text: Bytes
    spans: Longs
    chances: npt.NDArray[np.float32]

    @classmethod
    def read(cls, raw: bytes, chances: npt.NDArray[np.float32]) -> Self:
        """From Triton's tensor of B times K texts. Raises ValueError when it does not hold so many, or one is no UTF-8."""
        text, spans = np.empty(len(raw), np.uint8), np.empty((chances.size, 2), np.int64)
        end = _take_apart(np.frombuffer(raw, np.uint8), spans, text)
        if end < 0:
            raise ValueError(f"the tensor does not hold {chances.size} texts in UTF-8")
        text = text[:end]
        str(text.data, "utf-8")  # raises UnicodeDecodeError, which is a ValueError
        if not UTF8[text].all():
            text, spans = in_quotes([text[start:end].tobytes().decode() for start, end in spans.tolist()])
        return cls(text, spans.reshape(*chances.shape, 2), chances)

    @classmethod
    def of(cls, lists: Sequence[Sequence[tuple[str, float]]]) -> Self:
        """From ids and probabilities by session."""
        most = max(map(len, lists), default=0)
        full = [[*some, *[("", 0.0)] * (most - len(some))] for some in lists]
        text, spans = in_quotes([item for some in full for item, _ in some])
        chances = np.array([[p for _, p in some] for some in full], np.float32).reshape(len(lists), most)
        return cls(text, spans.reshape(len(lists), most, 2), chances)

    @classmethod
    def joined(cls, parts: "Sequence[NextItems]") -> Self:
        """Those of several batches, one after the other, of one K."""
        before = np.cumsum([0, *(len(part.text) for part in parts)])
        spans = [part.spans + start for part, start in zip(parts, before, strict=False)]
        texts, chances = [part.text for part in parts], [part.chances for part in parts]
        return cls(np.concatenate(texts), np.concatenate(spans), np.concatenate(chances))

    def rows(self, rows: "slice | npt.NDArray[np.intp]") -> "NextItems":
        """Those of some of the sessions."""
        return NextItems(self.text, self.spans[rows], self.chances[rows])

    def read_only(self) -> "NextItems":
        """The same, its text not to be written: compiled code is compiled for one or the other."""
        text = self.text.view()
        text.flags.writeable = False
        return self._replace(text=text)

    def named(self) -> list[list[tuple[str, float]]]:
        """Ids and probabilities by session."""
        return [
            [
                (msgspec.json.decode(b'"' + self.text[start:end].tobytes() + b'"', type=str), chance)
                for (start, end), chance in zip(spans, chances, strict=True)
                if end > start
            ]
            for spans, chances in zip(self.spans.tolist(), self.chances.tolist(), strict=True)
        ]


@compiled()
def _take_apart(raw: Bytes, spans: Longs, text: Bytes) -> int:
    """Put texts that have their length before them one after the other; where they end. -1 if they are not as many,
    or one begins inside a character.
    """
    at = end = 0
    for i in range(len(spans)):
        if at + _SIZE_BYTES > len(raw):
            return -1
        size = 0
        for k in range(_SIZE_BYTES):
            size |= np.int64(raw[at + k]) << np.int64(8 * k)  # type: ignore[assignment]  # an integer to the compiler
        at += _SIZE_BYTES
        if size > len(raw) - at or (size and raw[at] & _INSIDE_BITS == _INSIDE):
            return -1
        spans[i, 0] = end
        end = copy(raw, at, at + size, text, end)
        spans[i, 1] = end
        at += size
    return end if at == len(raw) else -1
