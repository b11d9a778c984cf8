"""Items as nodes of a graph of what is looked at one after the other, their vectors spread along its edges."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from training.baselines.batches import last_events
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

_WIDTH = 32
_LAYERS = 2
#: The last items of a session that are looked at.
_LAST = 5
_DROPOUT = 0.2
_CHUNK = 4096
#: Scores of attention are kept within this, so that their powers are.
_MOST_ATTENTION = 10.0
_SLOPE = 0.2


class Edges:
    """The co-visit graph, with a loop at each item. from_, to [E]; weight [E]: how often, loops once."""

    def __init__(self, log: SessionLog) -> None:
        a, b = log.item[:-1], log.item[1:]
        session = log.session
        inside = (session[1:] == session[:-1]) & (a >= 0) & (b >= 0) & (a != b)
        a, b = a[inside], b[inside]
        self.items = max(log.items, 1)
        pair, count = np.unique(np.concatenate([a * self.items + b, b * self.items + a]), return_counts=True)
        loops = np.arange(self.items)
        self.from_ = torch.from_numpy(np.concatenate([pair // self.items, loops]).astype(np.int64))
        self.to = torch.from_numpy(np.concatenate([pair % self.items, loops]).astype(np.int64))
        self.weight = torch.from_numpy(np.concatenate([count, np.ones(self.items)]).astype(np.float32))

    def summed(self, values: Tensor) -> Tensor:
        """[E, ...] -> [items, ...]: sums over the edges that lead to each item."""
        return torch.zeros((self.items, *values.shape[1:])).index_add(0, self.to, values)


class Convolution(nn.Module):
    """GCN: means over the neighbours, weighted by both ends' degrees (Kipf, Welling 2017, "Semi-supervised classification with
    graph convolutional networks", equation 2), without the nonlinearity (He 2020, "LightGCN").
    """

    def __init__(self, edges: Edges) -> None:
        super().__init__()
        self.edges = edges
        degree = edges.summed(edges.weight)
        self.share = edges.weight / (degree[edges.from_] * degree[edges.to]).sqrt()

    def forward(self, x: Tensor) -> Tensor:
        return self.edges.summed(x[self.edges.from_] * self.share[:, None])


class Attention(nn.Module):
    """GAT: each item weighs its neighbours by their vectors (Velickovic 2018, "Graph attention networks", equations 1-4), and by
    how often they go together.
    """

    def __init__(self, edges: Edges) -> None:
        super().__init__()
        self.edges = edges
        self.value = nn.Linear(_WIDTH, _WIDTH, bias=False)
        nn.init.eye_(self.value.weight)
        self.sender, self.receiver = nn.Linear(_WIDTH, 1, bias=False), nn.Linear(_WIDTH, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        value = self.value(x)
        score = self.sender(value)[self.edges.from_, 0] + self.receiver(value)[self.edges.to, 0]
        score = nn.functional.leaky_relu(score, _SLOPE).clamp(-_MOST_ATTENTION, _MOST_ATTENTION)
        power = score.exp() * self.edges.weight
        share = power / self.edges.summed(power)[self.edges.to]
        return self.edges.summed(value[self.edges.from_] * share[:, None])


class ItemGraph:
    """Vectors of items, spread over the graph, say of a session's last items what comes next and whether a purchase does."""

    def __init__(self, layer: Callable[[Edges], nn.Module], schedule: Schedule | None = None) -> None:
        self._layer, self._schedule = layer, schedule or Schedule(epochs=5, batch=1024)

    def fit(self, log: SessionLog, seed: int) -> None:
        """See `Baseline`."""
        reproducible(seed)
        self._sizes = sizes_of(log)
        self._model = model = _Network(self._layer, log)
        inputs, targets = self._inputs(log), targets_of(log, self._sizes)
        batch = self._schedule.batch_for(len(log))

        def epoch(rng: np.random.Generator) -> Iterable[Tensor]:
            order = rng.permutation(len(log))
            for begin in range(0, len(log), batch):
                events = order[begin : begin + batch]
                items = model.spread()
                yield loss_of(model(items, *inputs, events), items[1:], model.heads.item_bias, targets, events)

        optimise(model, epoch, steps_of(len(log), self._schedule), self._schedule, seed)

    @torch.no_grad()
    def predict(self, log: SessionLog) -> Forecast:
        """See `Baseline`."""
        inputs, model = self._inputs(log), self._model
        items = model.spread()

        def parts() -> Iterator[tuple[Ints, Outputs]]:
            for begin in range(0, len(log), _CHUNK):
                events = np.arange(begin, min(begin + _CHUNK, len(log)))
                yield events, model(items, *inputs, events)

        return gathered(parts(), items[1:], model.heads.item_bias, len(log), self._sizes)

    def _inputs(self, log: SessionLog) -> tuple[Tensor, Tensor]:
        """Rows of the items' table [N, _LAST], newest first, 0 for none; and the log of the position [N, 1]."""
        recent = last_events(log, _LAST)
        number = item_numbers(log, self._sizes.items)
        shown = torch.where(torch.from_numpy(recent >= 0), number[torch.from_numpy(np.maximum(recent, 0))], 0)
        return shown, torch.from_numpy(np.log(log.position)).float()[:, None]


class _Network(nn.Module):
    def __init__(self, layer: Callable[[Edges], nn.Module], log: SessionLog) -> None:
        super().__init__()
        self.items = nn.Embedding(max(log.items, 1), _WIDTH)  # a log without items has one that never comes up
        nn.init.normal_(self.items.weight, std=0.15)
        edges = Edges(log)
        self.layers = nn.ModuleList(layer(edges) for _ in range(_LAYERS))
        self.dropout = nn.Dropout(_DROPOUT)
        self.mix = nn.Sequential(nn.Linear(2 * _WIDTH + 1, _WIDTH), nn.GELU())
        self.heads = Heads(_WIDTH, _WIDTH, log, sizes_of(log))
        self.link = nn.Linear(_WIDTH, _WIDTH, bias=False)

    def spread(self) -> Tensor:
        """[items + 1, width]: vectors after no, one and more steps along the edges, averaged; row 0 is for "none"."""
        steps = [self.items.weight]
        for layer in self.layers:
            steps.append(layer(steps[-1]))
        return nn.functional.pad(torch.stack(steps).mean(dim=0), (0, 0, 1, 0))

    def forward(self, items: Tensor, shown: Tensor, place: Tensor, events: Ints) -> Outputs:
        """items [items + 1, width] as `spread` gives them -> what is said of the n events."""
        at = torch.from_numpy(events)
        vectors = items[shown[at]]  # [n, _LAST, width]
        known = (shown[at] > 0).sum(dim=1, keepdim=True).clamp(min=1)
        last, mean = vectors[:, 0], vectors.sum(dim=1) / known
        outputs: Outputs = self.heads(self.dropout(self.mix(torch.cat([last, mean, place[at]], dim=-1))))
        return outputs._replace(query=outputs.query + self.link(last))
