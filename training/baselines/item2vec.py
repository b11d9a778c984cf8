"""Items as vectors by what they are looked at with (Barkan, Koenigstein 2016, "Item2vec"), and logistic heads on these."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.baselines.batches import last_events
from training.baselines.features import Floats, Standard
from training.baselines.heads import BinaryHead, ClassHead, in_chunks
from training.baselines.multi_task import Schedule, item_numbers, optimise, steps_of
from training.forecast import LISTED, Forecast
from training.history import Ints
from training.labels import UNKNOWN
from training.session_log import NEXT_TYPES, SessionLog
from training.train import reproducible

_WIDTH = 32
#: Items on either side that belong together, and items drawn at random that do not, for each pair.
_REACH, _NEGATIVES = 5, 5
#: How strongly frequent items are preferred as negatives (Mikolov 2013, 2.2).
_FLATTENING = 0.75
_SCHEDULE = Schedule(epochs=10, batch=4096, learning_rate=0.02, weight_decay=0.0)
#: The last items whose vectors stand for a session.
_LAST = 5
_STRENGTH = 20.0
_CHUNK = 2048


class Item2Vec:
    """Skip-gram with negative sampling over sessions; the purchase and the next type by logistic regression on the vectors of the
    last item and of the last few; the next item by what goes with these.
    """

    def fit(self, log: SessionLog, seed: int) -> None:
        """See `Baseline`."""
        reproducible(seed)
        self._items = log.items
        vectors = _SkipGram(log.items)
        pairs = _pairs(log)
        counts = np.bincount(log.item[log.item != UNKNOWN], minlength=log.items) + 1.0
        if len(pairs):
            drawn = counts**_FLATTENING / (counts**_FLATTENING).sum()

            def epoch(rng: np.random.Generator):  # type: ignore[no-untyped-def]
                size = _SCHEDULE.batch_for(len(pairs))
                order = rng.permutation(len(pairs))
                for begin in range(0, len(pairs), size):
                    some = torch.from_numpy(pairs[order[begin : begin + size]])
                    negative = torch.from_numpy(rng.choice(log.items, (len(some), _NEGATIVES), p=drawn))
                    yield vectors.loss(some[:, 0], some[:, 1], negative)

            optimise(vectors, epoch, steps_of(len(pairs), _SCHEDULE), _SCHEDULE, seed)
        # What pairs say is relative to how often negatives are drawn: the frequency makes it absolute.
        self._bias = torch.from_numpy(_FLATTENING * np.log(counts / counts.sum())).float()
        with torch.no_grad():
            # Row 0 is for "no item" and for items that training did not see.
            self._inner = F.pad(vectors.inner.weight, (0, 0, 1, 0))
            self._outer = vectors.outer.weight.clone()
        values = self._values(log)
        self._standard = Standard(values)
        values = self._standard(values)
        self._purchase = BinaryHead(values, log.purchase, _STRENGTH, seed)
        self._next_type = ClassHead(values, log.next_type, NEXT_TYPES, _STRENGTH, seed)

    @torch.no_grad()
    def predict(self, log: SessionLog) -> Forecast:
        """See `Baseline`."""
        values = self._standard(self._values(log))
        last, mean = self._session_vectors(log)
        depth = min(LISTED, self._items)

        def lists(part: slice) -> Ints:
            scores = (0.5 * (last[part] + mean[part])) @ self._outer.T + self._bias
            best = torch.topk(scores, depth, dim=-1).indices
            return np.asarray(F.pad(best, (0, LISTED - depth), value=-1).numpy(), np.int64)

        listed = in_chunks(len(log), _CHUNK, lists) if depth else None
        return Forecast(self._purchase(values), self._next_type(values), next_items=listed)

    @torch.no_grad()
    def _values(self, log: SessionLog) -> Floats:
        """[N, 2 * width + 1]"""
        last, mean = self._session_vectors(log)
        place = np.log(log.position)[:, None].astype(np.float32)
        return np.concatenate([last.numpy(), mean.numpy(), place], axis=1, dtype=np.float32)

    def _session_vectors(self, log: SessionLog) -> tuple[Tensor, Tensor]:
        """[N, width] each: of the event's item, and the mean of the session's last items."""
        number = item_numbers(log, self._items)
        recent = last_events(log, _LAST)
        shown = torch.where(torch.from_numpy(recent >= 0), number[torch.from_numpy(np.maximum(recent, 0))], 0)  # [N, _LAST]
        known = (shown > 0).sum(dim=1, keepdim=True).clamp(min=1)
        return self._inner[number], self._inner[shown].sum(dim=1) / known


class _SkipGram(nn.Module):
    def __init__(self, items: int) -> None:
        super().__init__()
        # A log without items has one that never comes up.
        self.inner, self.outer = (nn.Embedding(max(items, 1), _WIDTH) for _ in range(2))
        nn.init.normal_(self.inner.weight, std=0.1)
        nn.init.zeros_(self.outer.weight)

    def loss(self, item: Tensor, other: Tensor, negative: Tensor) -> Tensor:
        """item, other [n] belong together; item and each of negative [n, k] do not."""
        here = self.inner(item)
        together = (here * self.outer(other)).sum(dim=-1)
        apart = torch.einsum("nd,nkd->nk", here, self.outer(negative))
        return -(F.logsigmoid(together).sum() + F.logsigmoid(-apart).sum()) / len(item)


def _pairs(log: SessionLog) -> Ints:
    """[n, 2]: items of one session no further apart than the reach, either way round."""
    parts = []
    session = log.session
    for apart in range(1, min(_REACH, len(log) - 1) + 1):
        inside = (session[apart:] == session[:-apart]) & (log.item[apart:] >= 0) & (log.item[:-apart] >= 0)
        parts.append(np.stack([log.item[:-apart][inside], log.item[apart:][inside]], axis=1))
    pairs = np.concatenate(parts) if parts else np.zeros((0, 2), np.int64)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    return np.concatenate([pairs, pairs[:, ::-1]])
