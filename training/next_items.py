"""Which items follow which: tables counted on the training log and baked into each version, mixed with what the network says."""

from typing import NamedTuple

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
_FOLLOWING, _OWN = 50, 2
#: How far apart two items of a session may be to count; a pair counts one over its distance, and half of that backwards.
_APART, _BACKWARDS = 10, 0.5
#: Pairs that doubt is worth: a source that was seldom seen leaves more to the network.
_DOUBT = 2.0
#: Buckets of items are few, so that several items share one; with the category and the brand few do. Any odd factors will do.
_SLOTS = 2**16
_ITEM = CODES.index("item")
_FACTORS = {_ITEM: 40503, CODES.index("category"): 30011, CODES.index("brand"): 20011}
#: Events that all lengths together are worth when those of one length say how much each part counts.
_PRIOR_EVENTS = 20.0
_EM_STEPS = 60

_PARTS = 2 * BACK + 1


class Counts(NamedTuple):
    """Pairs of a source's slot and a candidate: how much it followed the source, and how often it was the source."""

    following: sparse.csr_matrix
    own: sparse.csr_matrix


class NextItems(nn.Module):
    """A mixture over the candidates: for each of the last `BACK` rows the items that follow its item and the item itself, and
    the network. Without tables it is the network alone.

    row      int32 [_SLOTS]     row of the tables, 0 where a source was never seen
    item     int32 [R, 52]      candidates: those that follow, then the source's own
    p        [R, 52]            their probabilities; they sum to less than one, the rest being doubt and what was not kept
    total    [R, 2]             pairs and events that these rest on
    weight   [BACK, 13]         by number of rows: following and own of each row, the newest first, then the network
    """

    row: Tensor
    item: Tensor
    p: Tensor
    total: Tensor
    weight: Tensor

    def __init__(self, rows: int = 1) -> None:
        super().__init__()
        self.register_buffer("row", torch.zeros(_SLOTS, dtype=torch.int32))
        self.register_buffer("item", torch.zeros((rows, _FOLLOWING + _OWN), dtype=torch.int32))
        self.register_buffer("p", torch.zeros((rows, _FOLLOWING + _OWN)))
        self.register_buffer("total", torch.zeros((rows, 2)))
        self.register_buffer("weight", torch.eye(_PARTS)[-1].repeat(BACK, 1))

    def forward(self, codes: Tensor, session: Tensor, at: Tensor, network: Tensor) -> Tensor:
        """Probabilities [n, candidates] of what follows row `at` int [n] of each `session` int [n] of codes int [B, T, 6].

        `network` [n, candidates] is what the network gives each candidate.
        """
        rows = self._sources(codes, session, at)  # [n, BACK]
        weight = self._weights(rows, at)
        following, own = weight[:, :BACK, None], weight[:, BACK:-1, None]
        p = self.p[rows]  # [n, BACK, 52]
        p = torch.cat([p[..., :_FOLLOWING] * following, p[..., _FOLLOWING:] * own], dim=-1)
        return (network * weight[:, -1:]).scatter_add(1, self.item[rows].flatten(1).long(), p.flatten(1))

    def fitted_to(self, counts: Counts) -> "NextItems":
        """Tables of these counts with the weights of this mixture."""
        slots = np.flatnonzero(np.diff(counts.own.indptr) + np.diff(counts.following.indptr))
        made = NextItems(len(slots) + 1)
        made.row[torch.from_numpy(slots)] = torch.arange(1, len(slots) + 1, dtype=torch.int32)
        for kind, (matrix, first, keep, doubt) in enumerate(
            ((counts.following, 0, _FOLLOWING, _DOUBT), (counts.own, _FOLLOWING, _OWN, 0.0))
        ):
            for number, slot in enumerate(slots, start=1):
                begin, end = matrix.indptr[slot], matrix.indptr[slot + 1]
                item, value = matrix.indices[begin:end], matrix.data[begin:end]
                best = np.lexsort((item, -value))[:keep]
                total = value.sum()
                made.item[number, first : first + len(best)] = torch.from_numpy(item[best].astype(np.int32))
                made.p[number, first : first + len(best)] = torch.from_numpy(value[best] / max(total + doubt, 1e-9)).float()
                made.total[number, kind] = float(total)
        made.weight.copy_(self.weight)
        return made

    def counts(self, before: Candidates, after: Candidates) -> Counts:
        """What the tables rest on, as far as they keep it, with the candidates `before` renumbered as those `after`."""
        number = {name: k for k, name in enumerate(after.ids)}
        renumbered = np.array([number.get(name, UNKNOWN) for name in before.ids] or [UNKNOWN])
        slot = np.zeros(len(self.item), np.int64)
        held = np.flatnonzero(self.row.numpy())
        slot[self.row.numpy()[held]] = held
        total = self.total.double().numpy() + np.array([_DOUBT, 0.0])
        value = self.p.double().numpy() * total.repeat((_FOLLOWING, _OWN), axis=1)

        def matrix(part: slice) -> sparse.csr_matrix:
            row, column = np.nonzero(value[:, part])
            item = renumbered[self.item.numpy()[:, part][row, column]]
            return _matrix(slot[row], item, value[:, part][row, column], len(after.ids))

        return Counts(matrix(slice(0, _FOLLOWING)), matrix(slice(_FOLLOWING, None)))

    def of_target(self, codes: Tensor, session: Tensor, at: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """What each part but the network gives the candidate `target` int [n], [n, 12], and whether it speaks, [n, 12]."""
        rows = self._sources(codes, session, at)
        given = self.p[rows] * (self.item[rows] == target[:, None, None])  # [n, BACK, 52]
        parts = torch.cat([given[..., :_FOLLOWING].sum(-1), given[..., _FOLLOWING:].sum(-1)], dim=-1)
        return parts, (rows > 0).repeat(1, 2)

    def _sources(self, codes: Tensor, session: Tensor, at: Tensor) -> Tensor:
        """[n, BACK]: the rows of the tables for the newest row and those before it."""
        back = at[:, None] - torch.arange(BACK, device=at.device)
        seen = codes[session[:, None], back.clamp(min=0)].long()  # [n, BACK, 6]
        slot = sum(seen[..., column] * factor for column, factor in _FACTORS.items()) % _SLOTS
        return self.row[slot].long() * ((back >= 0) & (seen[..., _ITEM] > 0))

    def _weights(self, rows: Tensor, at: Tensor) -> Tensor:
        """[n, 13]: the weights of the parts that speak, which together are 1."""
        speaks = (rows > 0).to(self.weight.dtype)
        weight = self.weight[at.clamp(max=BACK - 1)] * torch.cat([speaks, speaks, torch.ones_like(speaks[:, :1])], dim=-1)
        return weight / weight.sum(dim=-1, keepdim=True)


def count(examples: Examples, candidates: Candidates) -> Counts:
    """Count the items of the examples' sessions that follow, and are, each source."""
    row = np.sort(examples.predicted)
    item, session = candidates.numbers_of(examples)[row], examples.session_of(row)
    slot = _slots(examples.rows[row])
    parts = []
    for apart in range(1, _APART + 1):
        together = session[apart:] == session[:-apart]
        for source, target, worth in (
            (slot[:-apart], item[apart:], 1 / apart),
            (slot[apart:], item[:-apart], _BACKWARDS / apart),
        ):
            parts.append((source[together], target[together], np.full(int(together.sum()), worth)))
    source, target, worth = (np.concatenate(column) for column in zip(*parts, strict=True))
    width = len(candidates.ids)
    return Counts(_matrix(source, target, worth, width), _matrix(slot, item, np.ones(len(slot)), width))


def added(one: Counts, other: Counts) -> Counts:
    """Both together."""
    return Counts((one.following + other.following).tocsr(), (one.own + other.own).tocsr())


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


def _slots(rows: Rows) -> Ints:
    codes = rows["codes"].astype(np.int64)
    slot = sum(codes[:, column] * factor for column, factor in _FACTORS.items()) % _SLOTS
    return np.where(codes[:, _ITEM] > 0, slot, UNKNOWN)


def _matrix(slot: Ints, item: Ints, worth: Doubles, width: int) -> sparse.csr_matrix:
    known = (slot != UNKNOWN) & (item != UNKNOWN)
    return sparse.csr_matrix((worth[known], (slot[known], item[known])), (_SLOTS, max(width, 1)))
