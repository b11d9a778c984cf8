"""A Transformer that fills in masked items from both sides (Sun 2019, "BERT4Rec"), asked for the item behind the last one."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.baselines.batches import prefix_tables
from training.baselines.multi_task import (
    Heads,
    Outputs,
    Schedule,
    gathered,
    item_numbers,
    loss_of,
    optimise,
    sizes_of,
    steps_of,
    targets_of,
)  # fmt: skip
from training.forecast import Forecast
from training.history import Ints
from training.session_log import SessionLog
from training.train import reproducible
from worker.contract.events import EVENT_TYPES

_WIDTH, _LAYERS, _ATTENTION_HEADS = 48, 2, 4
_DROPOUT = 0.2
#: The last events of a session that are looked at; sessions are rarely longer, and attention costs their square.
_LAST = 15
#: The share of a session's items that are hidden and have to be filled in, beside the one that comes next.
_MASKED = 0.2
_MASKED_WEIGHT = 0.3
_PREDICT_EVENTS = 2048


class MaskedItems:
    """Items and types of a session's last events, then a mask whose hidden state says everything of what is ahead."""

    def __init__(self, schedule: Schedule | None = None) -> None:
        self._schedule = schedule or Schedule(epochs=4, min_steps_an_epoch=30)

    def fit(self, log: SessionLog, seed: int) -> None:
        """See `Baseline`."""
        reproducible(seed)
        self._sizes = sizes_of(log)
        self._model = model = _Network(log)
        inputs, targets = self._inputs(log), targets_of(log, self._sizes)
        batch = self._schedule.batch_for(len(log))

        def epoch(rng: np.random.Generator) -> Iterable[Tensor]:
            for table, events in prefix_tables(log, _LAST, batch, rng):
                masked = (rng.random(table.shape) < _MASKED) & (table >= 0)
                outputs, filled_in = model(table, *inputs, masked)
                ahead = loss_of(outputs, model.known_items, model.heads.item_bias, targets, events)
                yield ahead + _MASKED_WEIGHT * filled_in

        optimise(model, epoch, steps_of(len(log), self._schedule), self._schedule, seed)

    @torch.no_grad()
    def predict(self, log: SessionLog) -> Forecast:
        """See `Baseline`."""
        inputs, model = self._inputs(log), self._model

        def parts() -> Iterator[tuple[Ints, Outputs]]:
            for table, events in prefix_tables(log, _LAST, _PREDICT_EVENTS):
                yield events, model(table, *inputs, np.zeros(table.shape, bool))[0]

        return gathered(parts(), model.known_items, model.heads.item_bias, len(log), self._sizes)

    def _inputs(self, log: SessionLog) -> tuple[Tensor, Tensor]:
        return item_numbers(log, self._sizes.items), torch.from_numpy(log.type)


class _Network(nn.Module):
    def __init__(self, log: SessionLog) -> None:
        super().__init__()
        sizes = sizes_of(log)
        self.unknown, self.mask = 0, sizes.items + 1
        self.items = nn.Embedding(sizes.items + 2, _WIDTH)  # unknown, the items, the mask
        self.types = nn.Embedding(len(EVENT_TYPES) + 1, _WIDTH)  # the last is the mask's
        self.places = nn.Embedding(_LAST + 1, _WIDTH)
        for table in (self.items, self.types, self.places):
            nn.init.normal_(table.weight, std=0.15)
        layer = nn.TransformerEncoderLayer(
            _WIDTH, _ATTENTION_HEADS, 2 * _WIDTH, _DROPOUT, F.gelu, batch_first=True, norm_first=True
        )
        self.trunk = nn.TransformerEncoder(layer, _LAYERS, nn.LayerNorm(_WIDTH), enable_nested_tensor=False)
        self.dropout = nn.Dropout(_DROPOUT)
        self.heads = Heads(_WIDTH, _WIDTH, log, sizes)
        self.link = nn.Linear(_WIDTH, _WIDTH, bias=False)

    @property
    def known_items(self) -> Tensor:
        """[items, width]: vectors of the items alone."""
        return self.items.weight[1:-1]

    def forward(self, table: Ints, item: Tensor, kind: Tensor, masked: np.ndarray) -> tuple[Outputs, Tensor]:  # type: ignore[type-arg]
        """table, masked [B, T] -> what is said of the B newest events, and the mean loss of the items that were masked."""
        inside = torch.from_numpy(table >= 0)
        at = torch.from_numpy(np.maximum(table, 0))
        truth = torch.where(inside, item[at], self.unknown)  # [B, T]
        hidden_ones = torch.from_numpy(masked)
        shown = torch.where(hidden_ones, self.mask, truth)
        # The mask stands behind the newest event; padding stands behind the mask and is not looked at.
        length = inside.sum(dim=1)
        rows = torch.arange(len(table))
        shown, types = F.pad(shown, (0, 1)), F.pad(torch.where(inside, kind[at], 0), (0, 1))
        shown[rows, length], types[rows, length] = self.mask, len(EVENT_TYPES)
        # Places count backwards from the mask, so that the newest event has the same one in any session.
        steps = torch.arange(shown.shape[1])
        place = (length[:, None] - steps).clamp(min=0)
        x = self.items(shown) + self.types(types) + self.places(place)
        padding = steps > length[:, None]
        hidden = self.trunk(self.dropout(x), src_key_padding_mask=padding)
        outputs: Outputs = self.heads(self.dropout(hidden[rows, length]))
        newest = torch.where(hidden_ones[rows, length - 1], self.unknown, truth[rows, length - 1])
        outputs = outputs._replace(query=outputs.query + self.link(self.items(newest)))
        wanted = F.pad(hidden_ones & (truth > 0), (0, 1))
        if not bool(wanted.any()):
            return outputs, torch.zeros(())
        logits = self.heads.query(hidden[wanted]) @ self.known_items.T + self.heads.item_bias
        return outputs, F.cross_entropy(logits, truth[wanted[:, :-1]] - 1)
