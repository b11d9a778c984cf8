"""Networks that read a session event by event: MLP, CNN, GRU, LSTM, one class with four encoders."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.baselines.batches import session_tables
from training.baselines.features import FEATURES, Standard, features
from training.baselines.multi_task import (
    Heads,
    Outputs,
    Schedule,
    category_numbers,
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

_WIDTH, _ITEM_WIDTH, _CATEGORY_WIDTH = 64, 32, 16
_DROPOUT = 0.2
#: The share of items and categories that are hidden in training, so that no score leans on an id alone.
_HIDDEN = 0.2
_PREDICT_EVENTS = 4096

#: [B, T, width] -> [B, T, width]; step t must rest on steps 0..t only.
Encoder = nn.Module


class Rows(nn.Module):
    """MLP: each event by itself. What the session was so far it knows from the features alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(_DROPOUT), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)  # type: ignore[no-any-return]


class Convolutions(nn.Module):
    """CNN: causal convolutions of 3 steps at distances 1, 2 and 4: the last 15 events (van den Oord 2016, "WaveNet", 2.1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reach = (1, 2, 4)
        self.layers = nn.ModuleList(nn.Conv1d(width, width, 3, dilation=distance) for distance in self.reach)
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)  # [B, width, T]
        for layer, distance in zip(self.layers, self.reach, strict=True):
            x = x + self.dropout(F.gelu(layer(F.pad(x, (2 * distance, 0)))))
        return x.transpose(1, 2)


class Recurrent(nn.Module):
    """GRU or LSTM of one layer."""

    def __init__(self, cell: nn.RNNBase) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        return self.cell(x)[0]  # type: ignore[no-any-return]


def mlp() -> Encoder:
    """See `Rows`."""
    return Rows(_WIDTH)


def cnn() -> Encoder:
    """See `Convolutions`."""
    return Convolutions(_WIDTH)


def gru() -> Encoder:
    """GRU (Hidasi 2016, "Session-based recommendations with recurrent neural networks"), with a full softmax over items."""
    return Recurrent(nn.GRU(_WIDTH, _WIDTH, batch_first=True))


def lstm() -> Encoder:
    """LSTM."""
    return Recurrent(nn.LSTM(_WIDTH, _WIDTH, batch_first=True))


class SessionNetwork:
    """An encoder between the table of features, with embeddings of item and category, and heads for all tasks."""

    def __init__(self, encoder: Callable[[], Encoder], schedule: Schedule | None = None) -> None:
        self._encoder, self._schedule = encoder, schedule or Schedule()

    def fit(self, log: SessionLog, seed: int) -> None:
        """See `Baseline`."""
        reproducible(seed)
        self._sizes, self._categories = sizes_of(log), log.categories
        self._standard = Standard(features(log))
        self._model = _Network(self._encoder(), log)
        inputs, targets, model = self._inputs(log), targets_of(log, self._sizes), self._model
        batch = self._schedule.batch_for(len(log))

        def epoch(rng: np.random.Generator) -> Iterable[Tensor]:
            for table in session_tables(log, batch, rng):
                events, outputs = model(table, *inputs)
                yield loss_of(outputs, model.items.weight[1:], model.heads.item_bias, targets, events)

        optimise(model, epoch, steps_of(len(log), self._schedule), self._schedule, seed)

    @torch.no_grad()
    def predict(self, log: SessionLog) -> Forecast:
        """See `Baseline`."""
        inputs, model = self._inputs(log), self._model

        def parts() -> Iterator[tuple[Ints, Outputs]]:
            for table in session_tables(log, _PREDICT_EVENTS):
                yield model(table, *inputs)

        return gathered(parts(), model.items.weight[1:], model.heads.item_bias, len(log), self._sizes)

    def _inputs(self, log: SessionLog) -> tuple[Tensor, Tensor, Tensor]:
        numbers = torch.from_numpy(self._standard(features(log)))
        return numbers, item_numbers(log, self._sizes.items), category_numbers(log, self._categories)


class _Network(nn.Module):
    def __init__(self, encoder: Encoder, log: SessionLog) -> None:
        super().__init__()
        sizes = sizes_of(log)
        self.items = nn.Embedding(sizes.items + 1, _ITEM_WIDTH)
        self.categories = nn.Embedding(log.categories + 1, _CATEGORY_WIDTH)
        for table in (self.items, self.categories):
            nn.init.normal_(table.weight, std=0.15)
        self.enter = nn.Linear(len(FEATURES) + _ITEM_WIDTH + _CATEGORY_WIDTH, _WIDTH)
        self.encoder = encoder
        self.norm = nn.LayerNorm(_WIDTH)
        self.dropout = nn.Dropout(_DROPOUT)
        self.heads = Heads(_WIDTH, _ITEM_WIDTH, log, sizes)
        self.link = nn.Linear(_ITEM_WIDTH, _ITEM_WIDTH, bias=False)

    def forward(self, table: Ints, numbers: Tensor, item: Tensor, category: Tensor) -> tuple[Ints, Outputs]:
        """table [B, T] of event indices -> the n events that it holds, and what is said of each."""
        inside = table >= 0
        at = torch.from_numpy(np.maximum(table, 0))
        items, categories = self.items(self._forgetful(item[at])), self.categories(self._forgetful(category[at]))
        x = self.dropout(F.gelu(self.enter(torch.cat([numbers[at], items, categories], dim=-1))))
        hidden = self.dropout(self.norm(self.encoder(x)))[torch.from_numpy(inside)]  # [n, width]
        outputs: Outputs = self.heads(hidden)
        here = self.link(self.items(item[at][torch.from_numpy(inside)]))
        return table[inside], outputs._replace(query=outputs.query + here)

    def _forgetful(self, numbers: Tensor) -> Tensor:
        if not self.training:
            return numbers
        return torch.where(torch.rand(numbers.shape) < _HIDDEN, torch.zeros_like(numbers), numbers)
