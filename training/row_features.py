"""The real-valued features of a row, computed inside the graph from the raw codes and numbers."""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.intent_filter import BELIEFS, STATES, IntentFilter, known
from training.packed import Packed
from training.rates import PROFILE, SEEN, Rates, rates_of
from worker.contract.events import EVENT_TYPES, HAZARD_HEADS
from worker.contract.features import CODES, NUMBERS, TYPE_CODE, FeatureSpec, ModelInputs

#: Numbers that can be missing; each gets a flag.
_MAY_MISS = [NUMBERS.index(name) for name in ("price", "since_visit_s")]
_PRICE, _GAP, _POSITION, _REPEATS = (NUMBERS.index(name) for name in ("price", "gap_s", "position", "repeats"))
_SCOPES = ("visitor", "item", "category", "brand")
_VIEWS = [NUMBERS.index(f"{scope}_views") for scope in _SCOPES]
_RATED = ("carts", "purchases")
_COUNTS = [NUMBERS.index(f"{scope}_{of}") for of in _RATED for scope in _SCOPES]
#: Views that the shop's overall rate is worth when a scope's own rate is smoothed towards it.
_PRIOR_VIEWS = 10.0
#: Rates below this are not told apart.
_MIN_RATE = 1e-3
_TYPE, _ITEM, _CATEGORY = (CODES.index(name) for name in ("type", "item", "category"))
#: Codes of which it is said whether they repeat the row before.
_SAME = [CODES.index(name) for name in ("type", "item", "category", "brand")]
#: Standard deviations at which a feature is cut off: one wild price must not decide a score.
_MOST = 5.0
#: Up to this deviation a feature never varies.
_LEAST = 1e-3
_HOUR, _WEEKDAY = CODES.index("hour"), CODES.index("weekday")
#: Centres and width of the bumps that say, softly, of which length a pause is (log of seconds plus one: 0 s to half an hour).
_PAUSES, _PAUSE_WIDTH = (0.0, 1.5, 3.0, 4.5, 6.0, 7.5), 0.9

#: Features that `RowFeatures` gives.
_OWN = len(NUMBERS) + len(_MAY_MISS) + len(_SCOPES) * len(_RATED) + len(_SAME) + 2 + 4
_TYPES = len(EVENT_TYPES)
_RUNNING = _TYPES + 2 * len(_PAUSES) + 6 + 3
#: Those of who visits come last: versions of before had none.
PROFILE_FEATURES = rates_of(PROFILE)
FEATURES = _OWN + _RUNNING + rates_of(SEEN) + BELIEFS + PROFILE_FEATURES
#: Where the filter's log-odds of a purchase and of a cart ahead are.
FILTER_LOG_ODDS = [FEATURES - PROFILE_FEATURES - BELIEFS + STATES + h for h in range(len(HAZARD_HEADS))]


class RowFeatures(nn.Module):
    """codes int [B, T, 10], numbers float [B, T, 18] -> standardised features [B, T, FEATURES], finite for any input.

    Row t's features depend on rows 0..t only. Rates, means and deviations are fitted once and are part of the weights.
    `fold` [B]: see `Rates`.
    """

    mean: Tensor
    deviation: Tensor
    rate: Tensor
    pauses: Tensor

    def __init__(self, spec: FeatureSpec) -> None:
        super().__init__()
        self.rates = Rates(spec)
        self.intents = IntentFilter(spec)
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("deviation", torch.ones(FEATURES))
        self.register_buffer("rate", torch.full((len(_RATED),), 0.05))
        self.register_buffer("pauses", torch.tensor(_PAUSES), persistent=False)

    @torch.no_grad()
    def fit(self, batches: list[tuple[ModelInputs, npt.NDArray[np.bool_]]]) -> None:
        """Take means, deviations and the overall rates from inputs and the mask of the rows that count."""
        numbers = torch.cat([torch.from_numpy(inputs.numbers[rows]) for inputs, rows in batches])
        given = known(numbers)
        views = given[:, _VIEWS[1]].sum()
        for k, of in enumerate(_RATED):
            self.rate[k] = (given[:, NUMBERS.index(f"item_{of}")].sum() / views.clamp(min=1.0)).clamp(_MIN_RATE, 1.0)
        raw = torch.cat(
            [self.raw(torch.from_numpy(i.codes), torch.from_numpy(i.numbers))[torch.from_numpy(rows)] for i, rows in batches]
        )
        self.mean.copy_(raw.mean(0))
        # A feature that never varies says nothing: it stays 0 whatever it is later.
        deviation = raw.std(0, correction=0)
        self.deviation.copy_(torch.where(deviation > _LEAST, deviation, torch.inf))

    def forward(self, codes: Tensor, numbers: Tensor, fold: Tensor | None = None) -> Tensor:
        return self.standardised(self.raw(codes, numbers, fold))

    def standardised(self, raw: Tensor) -> Tensor:
        """`forward` from `raw` [..., FEATURES]."""
        scaled: Tensor = (raw - self.mean) / self.deviation
        return scaled.clamp(-_MOST, _MOST)

    def raw(self, codes: Tensor, numbers: Tensor, fold: Tensor | None = None) -> Tensor:
        """The features before they are standardised."""
        where = Packed.whole(codes)
        return where.spread(self.of_rows(where.taken(codes.long()), where.taken(numbers), where, fold))

    def of_rows(self, codes: Tensor, numbers: Tensor, where: Packed, fold: Tensor | None = None) -> Tensor:
        """`raw` of packed rows: codes int64 [N, 10], numbers float [N, 18] -> [N, FEATURES]."""
        missing, given = torch.isnan(numbers), known(numbers)
        logs = torch.log1p(given)
        counted = _columns(given, _COUNTS) + _PRIOR_VIEWS * self.rate.repeat_interleave(len(_SCOPES))  # [N, 2 * 4]
        rates = torch.log(counted / (_columns(given, _VIEWS * len(_RATED)) + _PRIOR_VIEWS))
        compared = _columns(codes, _SAME)
        same = ((compared == where.before(compared)) & (compared > 0)).to(numbers.dtype)
        features = [
            logs, _columns(missing, _MAY_MISS).to(numbers.dtype), rates, same, self._prices(codes, logs, missing, where),
            _clock(codes), self._running(codes, given, logs, same, where), self.rates(SEEN, codes, where, fold),
            self.intents(codes, numbers, where, self.rates, fold), self.rates(PROFILE, codes, where, fold),
        ]  # fmt: skip
        return torch.cat(features, dim=-1)

    def _prices(self, codes: Tensor, logs: Tensor, missing: Tensor, where: Packed) -> Tensor:
        """[N, 2]: log price against the mean of the window's so far, and against the category's; 0 where it is missing."""
        has = (~missing.T[_PRICE]).to(logs.dtype)
        price = logs.T[_PRICE] * has
        total, count = where.summed(torch.stack([price, has], dim=-1)).unbind(dim=-1)
        usual = self.rates.usual_price(codes.unbind(dim=-1)[_CATEGORY])
        return torch.stack([(price - total / count.clamp(min=1.0)) * has, (price - usual) * has], dim=-1)

    def _running(self, codes: Tensor, given: Tensor, logs: Tensor, same: Tensor, where: Packed) -> Tensor:
        """[N, _RUNNING]: what the window has shown so far, added up."""
        dtype = logs.dtype
        columns = codes.unbind(dim=-1)
        one_hot = (columns[_TYPE][:, None] == torch.arange(1, _TYPES + 1, device=codes.device)).to(dtype)  # [N, 8]
        # Pauses: the session's first event has none.
        paused = (given.T[_POSITION][:, None] > 1).to(dtype)
        bumps = torch.exp(-(((logs.T[_GAP][:, None] - self.pauses) / _PAUSE_WIDTH) ** 2)) * paused  # [N, 6]
        # Items: new, seen before, or that of the event before.
        has_item = (columns[_ITEM] > 0).to(dtype)
        again = (given.T[_REPEATS] > 0).to(dtype) * has_item
        still = same[:, 1]
        shown = torch.stack([has_item - again, again - again * still, still], dim=-1)  # [N, 3]
        left = ((columns[_CATEGORY] > 0).to(dtype) - same[:, 2])[:, None]  # another category, or the first
        summed = where.summed(torch.cat([one_hot, shown, left, bumps, paused], dim=-1))
        counts, passed, pauses = torch.split(summed, [_TYPES + 3 + 1, len(_PAUSES), 1], dim=-1)
        types, items_and_lefts = torch.split(counts.log1p(), [_TYPES, 3 + 1], dim=-1)
        in_cart = counts[:, TYPE_CODE["cart"] - 1] - counts[:, TYPE_CODE["remove_from_cart"] - 1]
        holds = torch.stack([(in_cart > 0).to(dtype), in_cart.clamp(min=0.0).log1p()], dim=-1)
        return torch.cat([types, bumps, passed / pauses.clamp(min=1.0), shown, items_and_lefts, holds], dim=-1)


def _columns(rows: Tensor, numbers: list[int]) -> Tensor:
    return rows.T.index_select(0, torch.tensor(numbers, device=rows.device)).T


def _clock(codes: Tensor) -> Tensor:
    """[N, 4]: hour and weekday as points on circles, so that midnight is near eleven."""
    points = []
    for column, turn in ((_HOUR, 24), (_WEEKDAY, 7)):
        angle = torch.arange(turn + 1, device=codes.device) * (2 * math.pi / turn)  # 0 is padding
        points.append(F.embedding(codes.unbind(dim=-1)[column], torch.stack([angle.sin(), angle.cos()], dim=-1)))
    return torch.cat(points, dim=-1)
