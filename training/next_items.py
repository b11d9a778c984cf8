"""Which items follow which: lists counted on the training log, baked into each version, and mixed.

Counts by item foresee the next one better than a network of a few thousand item buckets does (docs/learning.md), and cost the
same for a catalogue of any size.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from training.candidates import Candidates
from training.examples import Examples
from training.history import Ints, Rows
from training.labels import UNKNOWN
from training.metrics.draws import Doubles
from worker.contract.features import CODES

#: Rows of the window that are asked: the newest and those before it.
BACK = 6
#: Items kept of those that follow a source, and of those that a source itself is (few share a slot).
_FOLLOWING, _OWN = 30, 2
#: How far apart two items of a session may be to count; a pair counts one over its distance, and half of that backwards.
_APART, _BACKWARDS = 10, 0.5
#: Pairs that doubt is worth: a source that was seldom seen leaves more to the other lists.
_DOUBT = 2.0
#: Items are told apart by their bucket, category and brand together. Any odd factors will do.
_SLOTS = 2**20
_ITEM, _CATEGORY = CODES.index("item"), CODES.index("category")
_FACTORS = {_ITEM: 40503, _CATEGORY: 30011, CODES.index("brand"): 20011}
#: Entries of all lists that may be named: those that are likeliest by themselves.
_SHORT = 40
#: Events that all lengths together are worth when those of one length say how much each part counts.
_PRIOR_EVENTS = 20.0
_EM_STEPS = 60

#: Lists: what follows each row's item, the newest row's category, and all. Parts: those, each row's own item, and the rest.
_LISTS = BACK + 2
_PARTS = _LISTS + BACK + 1


class Counts(NamedTuple):
    """How much each candidate followed a source's slot, how often it was the source, how often it was of a category's bucket."""

    following: sparse.csr_matrix
    own: sparse.csr_matrix
    category: sparse.csr_matrix


class NextItems(nn.Module):
    """A mixture over the candidates: for each of the last `BACK` rows the items that follow its item and the item itself, the
    items that are frequent in the newest row's category, the most frequent of all, and, alike, any.

    row           int32 [2**20]     list of an item's slot, 0 where it was never seen
    category_row  int32 [buckets]   list of a category, likewise
    item          int32 [R, 32]     candidates: those that follow, then the source's own. List 0 holds the most frequent
    p             [R, 32]           their probabilities; they sum to less than one, the rest being doubt and what was not kept
    total         [R, 2]            pairs (or events) and own events that these rest on
    weight        [BACK, 15]        by number of rows: of each list, the newest row's first; of each row's own item; of any
    """

    row: Tensor
    category_row: Tensor
    item: Tensor
    p: Tensor
    total: Tensor
    weight: Tensor

    def __init__(self, categories: int, rows: int = 1, kept: int = _FOLLOWING + _OWN, slots: int = _SLOTS) -> None:
        super().__init__()
        self.register_buffer("row", torch.zeros(slots, dtype=torch.int32))
        self.register_buffer("category_row", torch.zeros(categories, dtype=torch.int32))
        self.register_buffer("item", torch.zeros((rows, kept), dtype=torch.int32))
        self.register_buffer("p", torch.zeros((rows, kept)))
        self.register_buffer("total", torch.zeros((rows, 2)))
        self.register_buffer("weight", torch.full((BACK, _PARTS), 1 / _PARTS))

    def forward(self, codes: Tensor, session: Tensor, at: Tensor, listed: int) -> tuple[Tensor, Tensor]:
        """The likeliest items after row `at` int [n] of each `session` int [n] of codes int [B, T, 10]: candidates and their
        probabilities [n, listed], the likeliest first. Where there are fewer, the last have probability 0.

        Named is what stands out in one list at least; its probability is that of all together.
        """
        lists = self._lists(codes, session, at)
        given = self.p[lists] * self._entry_weights(lists, at)  # [n, _LISTS, 32]
        item, given = self.item[lists].flatten(1), given.flatten(1)
        _, best = torch.topk(given, min(_SHORT, given.shape[1]), dim=-1)
        named = item.gather(1, best)  # [n, 40]
        p = (torch.eq(named[:, :, None], item[:, None]).to(given.dtype) @ given[:, :, None])[..., 0]
        again = torch.eq(named[:, :, None], named[:, None]).to(given.dtype).tril(-1).sum(-1)
        p, best = torch.topk(p * (again == 0), listed, dim=-1)
        return named.gather(1, best), p

    def fitted_to(self, counts: Counts, candidates: Candidates) -> "NextItems":
        """Lists of these counts with the weights of this mixture."""
        slots = np.flatnonzero(np.diff(counts.own.indptr) + np.diff(counts.following.indptr))
        categories = np.flatnonzero(np.diff(counts.category.indptr))
        made = NextItems(len(self.category_row), 1 + len(slots) + len(categories))
        made.row[torch.from_numpy(slots)] = torch.arange(1, len(slots) + 1, dtype=torch.int32)
        made.category_row[torch.from_numpy(categories)] = torch.arange(len(slots) + 1, len(made.item), dtype=torch.int32)
        popular = sparse.csr_matrix(np.array([candidates.counts or (0,)], np.float64))
        following = sparse.vstack([popular, counts.following[slots], counts.category[categories]])
        width = following.shape[1]
        own = sparse.vstack([sparse.csr_matrix((1, width)), counts.own[slots], sparse.csr_matrix((len(categories), width))])
        for kind, (matrix, first, keep, doubt) in enumerate(((following, 0, _FOLLOWING, _DOUBT), (own, _FOLLOWING, _OWN, 0.0))):
            total = np.asarray(matrix.sum(axis=1)).reshape(-1)
            number, place, item, value = _greatest(matrix.tocsr(), keep)
            made.item[number, first + place] = torch.from_numpy(item)
            made.p[number, first + place] = torch.from_numpy(value / (total[number] + doubt)).float()
            made.total[:, kind] = torch.from_numpy(total)
        made.weight.copy_(self.weight)
        return made

    def counts(self, before: Candidates, after: Candidates) -> Counts:
        """What the lists rest on, as far as they keep it, with the candidates `before` renumbered as those `after`."""
        number = {name: k for k, name in enumerate(after.ids)}
        renumbered = np.array([number.get(name, UNKNOWN) for name in before.ids] or [UNKNOWN])
        following = self.item.shape[1] - _OWN
        total = self.total.double().numpy() + np.array([_DOUBT, 0.0])
        value = self.p.double().numpy() * total.repeat((following, _OWN), axis=1)

        def matrix(part: slice, list_of: Tensor, height: int) -> sparse.csr_matrix:
            source = np.full(len(self.item), UNKNOWN)
            held = np.flatnonzero(list_of.numpy())
            source[list_of.numpy()[held]] = held
            row, column = np.nonzero(value[:, part])
            item = renumbered[self.item.numpy()[:, part][row, column]]
            return _matrix(source[row], item, value[:, part][row, column], height, len(after.ids))

        lists, own = slice(0, following), slice(following, None)
        # An older version may have had fewer slots: its items are counted on as they come again.
        height = _SLOTS if len(self.row) == _SLOTS else 0
        return Counts(
            matrix(lists, self.row, height),
            matrix(own, self.row, height),
            matrix(lists, self.category_row, len(self.category_row)),
        )

    def of_target(self, codes: Tensor, session: Tensor, at: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of every part but "any", [n, 14] each: what it gives the candidate `target` int [n], what it leaves to all alike,
        and whether it speaks.

        A list of what is frequent leaves nothing to all: that is what "any" is.
        """
        lists = self._lists(codes, session, at)
        given = self.p[lists] * (self.item[lists] == target[:, None, None])  # [n, _LISTS, 32]
        left = 1.0 - self._by_part(self.p[lists])
        left[:, BACK:_LISTS] = 0.0
        return self._by_part(given), left, self._speaks(lists)

    def _by_part(self, entries: Tensor) -> Tensor:
        """[n, _LISTS, 32] -> [n, 14]: sums of the entries of each part but "any"."""
        return torch.cat([entries[..., :-_OWN].sum(-1), entries[:, :BACK, -_OWN:].sum(-1)], dim=-1)

    def _lists(self, codes: Tensor, session: Tensor, at: Tensor) -> Tensor:
        """[n, _LISTS]: the lists that are asked, 0 where there is none, and last the most frequent items' own list 0."""
        back = at[:, None] - torch.arange(BACK, device=at.device)
        seen = codes[session[:, None], back.clamp(min=0)].long()  # [n, BACK, 10]
        slot = _slot(seen, len(self.row))
        of_items = self.row[slot].long() * ((back >= 0) & (seen[..., _ITEM] > 0))
        of_category = self.category_row[seen[:, :1, _CATEGORY]].long()
        return torch.cat([of_items, of_category, torch.zeros_like(of_category)], dim=-1)

    def _speaks(self, lists: Tensor) -> Tensor:
        """[n, 14]: which parts have something to say."""
        known = lists[:, :-1] > 0
        return torch.cat([known, torch.ones_like(known[:, :1]), known[:, :BACK]], dim=-1)

    def _entry_weights(self, lists: Tensor, at: Tensor) -> Tensor:
        """[n, _LISTS, 32]: what each entry of the lists counts. The weights of the parts that speak are 1 together."""
        speaks = self._speaks(lists).to(self.weight.dtype)
        every = self.weight[at.clamp(max=BACK - 1)]
        weight = every[:, :-1] * speaks
        weight = weight / (weight.sum(-1, keepdim=True) + every[:, -1:])
        following, own = weight[:, :_LISTS, None], weight[:, _LISTS:, None]
        own = torch.cat([own, torch.zeros_like(following[:, BACK:])], dim=1)
        return torch.cat([following.expand(-1, -1, self.item.shape[1] - _OWN), own.expand(-1, -1, _OWN)], dim=-1)


def count(examples: Examples, candidates: Candidates) -> Counts:
    """Count the items of the examples' sessions that follow, and are, each source, and those of each category."""
    row = np.sort(examples.predicted)
    item, session = candidates.numbers_of(examples)[row], examples.session_of(row)
    slot = _slots(examples.rows[row])
    width, once = len(candidates.ids), np.ones(len(row))
    following = sparse.csr_matrix((_SLOTS, max(width, 1)))
    for apart in range(1, _APART + 1):
        together = np.flatnonzero(session[apart:] == session[:-apart])
        ahead, worth = together + apart, np.ones(len(together))
        following += _matrix(slot[together], item[ahead], worth / apart, _SLOTS, width)
        following += _matrix(slot[ahead], item[together], worth * _BACKWARDS / apart, _SLOTS, width)
    category = examples.rows["codes"][row, _CATEGORY].astype(np.int64)
    return Counts(
        following,
        _matrix(slot, item, once, _SLOTS, width),
        _matrix(np.where(category > 0, category, UNKNOWN), item, once, examples.spec.category_buckets, width),
    )


def added(one: Counts, other: Counts) -> Counts:
    """Both together; of one that counted by other slots only the categories."""
    return Counts(*((a + b).tocsr() if a.shape == b.shape else b for a, b in zip(one, other, strict=True)))


def likeliest_weights(given: Doubles, speaks: Doubles, length: Ints) -> Doubles:
    """[BACK, parts]: the weights by number of rows under which what followed is likeliest (EM, Dempster et al. 1977).

    given [n, parts]: what each part gave the item that followed · speaks [n, parts] 0 or 1 · length [n]: 0 .. BACK - 1
    """
    weight = np.full((BACK, given.shape[1]), 1 / given.shape[1])
    for _ in range(_EM_STEPS):
        share = weight[length] * speaks
        share = share / share.sum(axis=1, keepdims=True) * given
        share /= np.maximum(share.sum(axis=1, keepdims=True), 1e-300)
        total = share.sum(axis=0)
        by_length = np.zeros_like(weight)
        np.add.at(by_length, length, share)
        by_length += _PRIOR_EVENTS * total / max(total.sum(), 1e-300)
        weight = by_length / by_length.sum(axis=1, keepdims=True)
    return weight


def _greatest(matrix: sparse.csr_matrix, keep: int) -> tuple[Ints, Ints, Ints, Doubles]:
    """Row, place, column and value of the `keep` greatest values of each row, the greatest in place 0."""
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, -matrix.data, row))
    place = np.arange(len(order)) - matrix.indptr[row]
    kept = order[place < keep]
    return row[kept], place[place < keep], matrix.indices[kept], matrix.data[kept]


def _slots(rows: Rows) -> Ints:
    codes = rows["codes"].astype(np.int64)
    return np.where(codes[:, _ITEM] > 0, _slot(codes, _SLOTS), UNKNOWN)


def _slot(codes: Any, slots: int) -> Any:
    """The slot of each row's item, of codes int64 [..., 10], an array or a tensor."""
    return sum(codes[..., column] * factor for column, factor in _FACTORS.items()) % slots


def _matrix(source: Ints, item: Ints, worth: Doubles, height: int, width: int) -> sparse.csr_matrix:
    known = (source != UNKNOWN) & (item != UNKNOWN) & (source < height)
    return sparse.csr_matrix((worth[known], (source[known], item[known])), (height, max(width, 1)))
