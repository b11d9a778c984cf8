"""The network: a causal session Transformer with a head for each thing that is predicted."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.architecture import Architecture
from training.intent_filter import known
from training.labels import PAUSES
from training.packed import Packed
from training.row_features import FEATURES, RowFeatures
from worker.contract.events import EVENT_TYPES, HAZARD_HEADS, HORIZONS
from worker.contract.features import CODES, NUMBERS, FeatureSpec

#: Spread of the embeddings at the start, small against the features, so that rare ids begin near "unknown".
_EMBEDDING_SPREAD = 0.02
_TYPE, _ITEM, _CATEGORY = (CODES.index(name) for name in ("type", "item", "category"))
_POSITION, _SINCE_VISIT = NUMBERS.index("position"), NUMBERS.index("since_visit_s")
#: Places in a session that have a level of their own of how it goes on: the k-th event, all later ones, and last the first
#: event of a visitor who came before. To a shop whose sessions outlast a pause that one may be in the midst of a session.
PLACES = 33
_LATER, _AGAIN = PLACES - 2, PLACES - 1
_LINKS = len(HAZARD_HEADS) * len(HORIZONS)
#: A logit that stands for "never".
_NEVER = -30.0


class Heads(NamedTuple):
    """After each row, logits but for the last.

    link [B, T, 2, 5], see `Labels.link` · churn [B, T] · next_type [B, T, 8]
    next_item [B, T, item_width], to be matched with the item table
    hidden [B, T, width], what the trunk says, for the heads that only pretraining asks
    """

    link: Tensor
    churn: Tensor
    next_type: Tensor
    next_item: Tensor
    hidden: Tensor


class IntentModel(nn.Module):
    """codes int [B, T, 10], numbers float [B, T, 18], right padded -> `Heads`.

    Causal, so padding on the right never touches what comes before it.

    Which item it is stays out of the trunk: with a few thousand sessions the trunk would learn single items by heart. What
    items, categories and brands are like reaches it as counts. Which item and category come next, and when, it is only asked in
    training, where that teaches the trunk what sessions are like; served is what `NextItems` counted.
    """

    def __init__(self, spec: FeatureSpec, architecture: Architecture) -> None:
        super().__init__()
        self.spec, self.architecture = spec, architecture
        width, narrow = architecture.width, architecture.category_width
        self.features = RowFeatures(spec)
        self.types = nn.Embedding(len(EVENT_TYPES) + 1, width)
        self.categories = nn.Embedding(spec.category_buckets, narrow)
        self.items = nn.Embedding(min(spec.item_buckets, architecture.item_rows), architecture.item_width)
        self.numbers_in = nn.Linear(FEATURES, width)
        self.category_in = nn.Linear(narrow, width, bias=False)
        self.dropout = nn.Dropout(architecture.dropout)
        # Importing transformers takes seconds, and reading a log or judging figures needs no network.
        from training.trunk import make_trunk

        self.trunk = make_trunk(spec, architecture)
        self.link = nn.Linear(width, _LINKS)
        self.churn = nn.Linear(width, 1)
        self.next_type = nn.Linear(width, len(EVENT_TYPES))
        self.next_item = nn.Linear(width, architecture.item_width, bias=False)
        self.item_link = nn.Linear(architecture.item_width + narrow, architecture.item_width, bias=False)
        self.item_bias = nn.Parameter(torch.zeros(self.items.num_embeddings))
        # How sessions go on at each place: the baseline hazard of discrete time.
        self.churn_at = nn.Embedding(PLACES, 1)
        self.next_type_at = nn.Embedding(PLACES, len(EVENT_TYPES))
        # The wide part: what plain logistic regression on the newest row would say.
        self.wide = nn.Linear(FEATURES + len(EVENT_TYPES) + 1, _LINKS + 1 + len(EVENT_TYPES), bias=False)
        self._start()
        # After the others, which so start the same with and without them.
        self.next_category = nn.Linear(width, spec.category_buckets)
        self.pause = nn.Linear(width, PAUSES)

    def forward(self, codes: Tensor, numbers: Tensor, fold: Tensor | None = None) -> Heads:
        from training.trunk import after_each

        # What goes in is as exact as where it is served: beliefs are products of many small numbers.
        with torch.autocast(codes.device.type, enabled=False):
            raw = self.features.raw(codes, numbers, fold)
        features, category, embedded = self._rows(codes, raw)
        hidden = self.dropout(after_each(self.trunk, self.dropout(embedded)))  # [B, T, width]
        return self._heads(codes, places_of(numbers), features, category, hidden)

    def newest(self, codes: Tensor, numbers: Tensor, last: Tensor) -> Heads:
        """Of the row `last` int [B] of each session what `forward` says in evaluation, [B, ...]; this is what is served."""
        from training.trunk import after_newest

        where = Packed.up_to(last, codes.shape[1])
        codes, numbers = where.taken(codes.long()), where.taken(numbers)
        features, category, embedded = self._rows(codes, self.features.of_rows(codes, numbers, where))
        hidden = after_newest(self.trunk, embedded, where)
        codes, numbers, features, category = (rows.index_select(0, where.last) for rows in (codes, numbers, features, category))
        return self._heads(codes, places_of(numbers), features, category, hidden)

    def _rows(self, codes: Tensor, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Codes [..., 10] and features as they are [..., FEATURES] -> features, standardised, embedded category
        [..., category_width], what goes into the trunk [..., width].
        """
        features = self.features.standardised(raw)
        category = self.categories(self._forgetful(codes[..., _CATEGORY]))
        return features, category, self.types(codes[..., _TYPE]) + self.category_in(category) + self.numbers_in(features)

    def _heads(self, codes: Tensor, place: Tensor, features: Tensor, category: Tensor, hidden: Tensor) -> Heads:
        link, churn, next_type = self.wide(wide_inputs(codes, features)).split([_LINKS, 1, len(EVENT_TYPES)], dim=-1)
        here = torch.cat([self.items(self.item_rows(codes[..., _ITEM])), category], dim=-1)
        return Heads(
            link=(self.link(hidden) + link).unflatten(-1, (len(HAZARD_HEADS), len(HORIZONS))),
            churn=(self.churn(hidden) + self.churn_at(place) + churn)[..., 0],
            next_type=self.next_type(hidden) + self.next_type_at(place) + next_type,
            next_item=self.next_item(hidden) + self.item_link(here),
            hidden=hidden,
        )

    def item_rows(self, item: Tensor) -> Tensor:
        """The rows of the item table of these buckets, 0 for 0."""
        return torch.where(item > 0, (item - 1) % (self.items.num_embeddings - 1) + 1, item)

    def item_logits(self, query: Tensor) -> Tensor:
        """[..., item_width] -> [..., item rows]; row 0, "no item", never comes next."""
        return query @ self.items.weight.T + self.item_bias

    def _forgetful(self, ids: Tensor) -> Tensor:
        """In training some ids are taken for missing, so that no score leans on an id alone."""
        if not self.training:
            return ids
        return torch.where(torch.rand(ids.shape, device=ids.device) < self.architecture.id_dropout, torch.zeros_like(ids), ids)

    def _start(self) -> None:
        """Start values: heads and the wide part at 0, so that a head without positives stays at its prior."""
        for table in (self.types, self.categories, self.items):
            nn.init.normal_(table.weight, std=_EMBEDDING_SPREAD)
        for part in (self.link, self.churn, self.next_type):
            nn.init.zeros_(part.weight)
            nn.init.zeros_(part.bias)
        for weight in (self.wide.weight, self.churn_at.weight, self.next_type_at.weight):
            nn.init.zeros_(weight)
        with torch.no_grad():
            self.item_bias[0] = _NEVER


def places_of(numbers: Tensor) -> Tensor:
    """numbers [..., 18] -> int64 [...]: each row's place in its session, see `PLACES`."""
    place = known(numbers[..., _POSITION]).clamp(1, _LATER + 1).long() - 1
    again = (place == 0) & ~torch.isnan(numbers[..., _SINCE_VISIT])
    return torch.where(again, _AGAIN, place)


def wide_inputs(codes: Tensor, features: Tensor) -> Tensor:
    """codes [..., 10], features [..., FEATURES] -> what the wide part takes in."""
    types = F.one_hot(codes[..., _TYPE].long(), len(EVENT_TYPES) + 1).to(features.dtype)
    return torch.cat([features, types], dim=-1)
