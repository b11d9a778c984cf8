"""How often a purchase or a cart followed an item, a category, a brand, or such a visitor: baked into each version, shrunk to the
prior.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.content_rates import foretold
from training.examples import FOLDS, Examples
from training.labels import UNKNOWN
from training.packed import Packed
from worker.contract.events import HAZARD_HEADS, HORIZONS
from worker.contract.features import CODES, NUMBERS, FeatureSpec

_SESSION = HORIZONS.index("session")
#: What rates are of: what is looked at, and who looks.
SEEN = ("item", "category", "brand")
PROFILE = ("device", "country", "referrer", "member")
_HEADS = len(HAZARD_HEADS)
_CATEGORY, _PRICE = CODES.index("category"), NUMBERS.index("price")
#: Sessions that the prior is worth at least.
_LEAST = 10.0
#: Prices that the shop's mean log price is worth beside a category's own.
_PRIOR_PRICES = 5.0

Doubles = npt.NDArray[np.float64]


class Seen(NamedTuple):
    """Sessions in which something followed, and all sessions, by fold and bucket: [FOLDS, buckets, heads] each."""

    followed: Doubles
    sessions: Doubles


def rates_of(scopes: Sequence[str]) -> int:
    """How many numbers `Rates` gives for each row: of the row and of the session's first row, by scope and head."""
    return 2 * len(scopes) * _HEADS


class Rates(nn.Module):
    """codes int64 [N, 10] -> [N, rates_of(scopes)]: log-odds of what followed less those of the shop, 0 for what was never seen.

    A missing id is a bucket like any other. `fold` [B] picks the rates without the sessions of that fold: those that a session
    is trained with, as its own outcome must not be among its inputs.
    """

    price: Tensor
    category_first: Tensor
    category_first_folds: Tensor

    def __init__(self, spec: FeatureSpec) -> None:
        super().__init__()
        for scope in SEEN + PROFILE:
            buckets = spec.code_sizes[scope]
            for place in ("here", "first"):
                self.register_buffer(f"{scope}_{place}", torch.zeros(buckets, _HEADS))
                self.register_buffer(f"{scope}_{place}_folds", torch.zeros(FOLDS, buckets, _HEADS), persistent=False)
        self.register_buffer("price", torch.zeros(spec.category_buckets))

    def forward(self, scopes: Sequence[str], codes: Tensor, where: Packed, fold: Tensor | None = None) -> Tensor:
        here = self._of(scopes, "here", codes, None if fold is None else fold[where.session])
        first = self._of(scopes, "first", codes.index_select(0, where.first), fold)  # [B, rates_of(scopes) / 2]
        return torch.cat([here, F.embedding(where.session, first)], dim=-1)

    def _of(self, scopes: Sequence[str], place: str, codes: Tensor, fold: Tensor | None) -> Tensor:
        """codes [n, 10], fold [n] -> [n, rates_of(scopes) / 2]"""
        columns = codes.unbind(dim=-1)
        parts = []
        for scope in scopes:
            column = columns[CODES.index(scope)]
            if fold is None:
                parts.append(F.embedding(column, getattr(self, f"{scope}_{place}")))
            else:
                parts.append(getattr(self, f"{scope}_{place}_folds")[fold, column])
        return torch.cat(parts, dim=-1)

    def of_category(self, category: Tensor, fold: Tensor | None = None) -> Tensor:
        """int [B] -> [B, heads]: how the categories do in which windows begin."""
        return F.embedding(category, self.category_first) if fold is None else self.category_first_folds[fold, category]

    def usual_price(self, category: Tensor) -> Tensor:
        """int [n] -> [n]: the mean log price of categories."""
        return F.embedding(category, self.price[:, None])[:, 0]

    @torch.no_grad()
    def fit(self, examples: Examples) -> None:
        """Take the rates from these examples. A bucket is shrunk to what the table holds already, or to what vectors foretell; a
        category also to what those do that are as popular.
        """
        known = examples.link[examples.predicted, :, _SESSION] != UNKNOWN  # [n, heads]
        rows = examples.predicted
        sessions = np.repeat(examples.session, examples.stop - examples.first)
        first = np.zeros(len(rows), bool)
        first[np.unique(sessions, return_index=True)[1]] = True
        label = examples.link[rows, :, _SESSION] == 1
        codes = examples.rows["codes"][rows]
        for scope in SEEN + PROFILE:
            for place, wanted in (("here", np.ones(len(rows), bool)), ("first", first)):
                table = getattr(self, f"{scope}_{place}")
                seen = _seen(codes[wanted, CODES.index(scope)], sessions[wanted], known[wanted], label[wanted], len(table))
                whole = Seen(seen.followed.sum(0, keepdims=True), seen.sessions.sum(0, keepdims=True))
                before = before_folds = table.double().numpy().copy()
                strength = _strength(whole)
                if scope == "item" and examples.vectors is not None:
                    before, before_folds = foretold(examples.vectors, *seen)
                    strength = _strength(whole, before)
                elif scope == "category":
                    before, before_folds = _by_popularity(seen, before)
                    strength = _strength(whole, before)
                table.copy_(torch.from_numpy(_log_odds(whole, strength, before)[0]))
                others = Seen(whole.followed - seen.followed, whole.sessions - seen.sessions)
                getattr(self, f"{scope}_{place}_folds").copy_(torch.from_numpy(_log_odds(others, strength, before_folds)))
        self._fit_prices(codes[:, _CATEGORY], examples.rows["numbers"][rows, _PRICE])

    def _fit_prices(self, category: npt.NDArray[np.int32], price: npt.NDArray[np.float32]) -> None:
        has = ~np.isnan(price)
        logs = np.log1p(price[has].astype(np.float64))
        mean = logs.mean() if len(logs) else 0.0
        count = np.bincount(category[has], minlength=len(self.price))
        total = np.bincount(category[has], logs, minlength=len(self.price))
        self.price.copy_(torch.from_numpy((total + _PRIOR_PRICES * mean) / (count + _PRIOR_PRICES)))


def _seen(
    bucket: npt.NDArray[np.int32], session: npt.NDArray[np.int64], known: npt.NDArray[np.bool_], label: npt.NDArray[np.bool_],
    buckets: int,
) -> Seen:  # fmt: skip
    """Each session counts once for each bucket, at the first of its rows there."""
    once = np.unique(session * buckets + bucket, return_index=True)[1]
    at = (session[once] % FOLDS) * buckets + bucket[once]
    shape = (FOLDS, buckets, _HEADS)
    sessions, followed = np.zeros((FOLDS * buckets, _HEADS)), np.zeros((FOLDS * buckets, _HEADS))
    np.add.at(sessions, at, known[once])
    np.add.at(followed, at, known[once] & label[once])
    return Seen(followed.reshape(shape), sessions.reshape(shape))


def _by_popularity(seen: Seen, before: Doubles) -> tuple[Doubles, Doubles]:
    """Log-odds `before` [buckets, heads] and how buckets do that are in about as many sessions, by doublings: [buckets, heads],
    and [FOLDS, buckets, heads] without the sessions of a fold.

    A shop's few large categories and its many small ones sell otherwise, which a small one's own sessions cannot tell.
    """
    octave = np.log2(seen.sessions.sum(0)[:, 0] + 1).astype(int)
    alike = octave[:, None] == np.arange(octave.max() + 1)  # [buckets, octaves]
    pooled = Seen(*(np.einsum("fbh,bo->foh", counts, alike) for counts in seen))
    whole = Seen(pooled.followed.sum(0, keepdims=True), pooled.sessions.sum(0, keepdims=True))
    others = Seen(whole.followed - pooled.followed, whole.sessions - pooled.sessions)
    strength, shop = _strength(whole), np.zeros_like(whole.followed[0])
    of_whole, of_others = (_log_odds(counts, strength, shop)[:, octave] for counts in (whole, others))
    return before + of_whole[0], before + of_others


def _strength(seen: Seen, foretold: Doubles | None = None) -> Doubles:
    """[heads]: how many sessions the prior is worth, by how much more buckets differ than chance has it (moments): from the
    shop's rate, or from what is `foretold` of each, [buckets, heads].

    Infinitely many where they do not, or nothing followed: then a bucket's count would only say how popular it is.
    """
    n, k = seen.sessions[0], seen.followed[0]
    total = np.maximum(n.sum(0), 1.0)
    p = k.sum(0) / total
    noise = p * (1 - p)
    rate = k / np.maximum(n, 1.0)
    expected = p if foretold is None else _expected(p, foretold)
    between = (n * (rate - expected) ** 2).sum(0) - noise * np.maximum((n > 0).sum(0) - 1, 0)
    between /= np.maximum(total - (n**2).sum(0) / total, 1.0)
    worth = np.full(len(p), np.inf)
    np.divide(noise, between, out=worth, where=between > 0)
    return np.maximum(worth, _LEAST)


def _log_odds(seen: Seen, strength: Doubles, before: Doubles) -> Doubles:
    """[..., buckets, heads]: shrunk to the log-odds `before` (less those of the shop), less those of the shop."""
    p = (seen.followed.sum(1, keepdims=True) + 0.5) / (seen.sessions.sum(1, keepdims=True) + 10.0)
    expected = _expected(p, before)
    rate = expected + (seen.followed - seen.sessions * expected) / (seen.sessions + strength)
    odds = np.log(rate / (1 - rate)) - np.log(p / (1 - p))
    # Where nothing is told it is what was, exactly: the same logarithm may come out otherwise elsewhere in an array.
    return np.where(np.isinf(strength), before, odds)


def _expected(p: Doubles, odds: Doubles) -> Doubles:
    """The rates of buckets whose log-odds differ so from those of the shop's rate."""
    rates: Doubles = p / (p + (1 - p) * np.exp(-odds))
    return rates
