"""The real-valued features of a row, computed inside the graph from the raw codes and numbers."""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from training.intent_filter import BELIEFS, IntentFilter
from training.rates import RATES, Rates
from worker.contract.events import EVENT_TYPES
from worker.contract.features import CODES, NUMBERS, TYPE_CODE, FeatureSpec, ModelInputs

#: Numbers that can be missing; each gets a flag.
_MAY_MISS = [NUMBERS.index(name) for name in ("price", "since_visit_s")]
_PRICE, _GAP, _POSITION, _REPEATS = (NUMBERS.index(name) for name in ("price", "gap_s", "position", "repeats"))
_SCOPES = ("visitor", "item", "category", "brand")
_VIEWS = [NUMBERS.index(f"{scope}_views") for scope in _SCOPES]
_RATED = ("carts", "purchases")
_COUNTS = {of: [NUMBERS.index(f"{scope}_{of}") for scope in _SCOPES] for of in _RATED}
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
_RUNNING = len(EVENT_TYPES) + 2 * len(_PAUSES) + 6 + 3
FEATURES = _OWN + _RUNNING + RATES + BELIEFS


class RowFeatures(nn.Module):
    """codes int [B, T, 6], numbers float [B, T, 18] -> standardised features [B, T, FEATURES], finite for any input.

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
        known = torch.nan_to_num(numbers)
        views = known[:, _VIEWS[1]].sum()
        for k, of in enumerate(_RATED):
            self.rate[k] = (known[:, _COUNTS[of][1]].sum() / views.clamp(min=1.0)).clamp(_MIN_RATE, 1.0)
        raw = torch.cat(
            [self.raw(torch.from_numpy(i.codes), torch.from_numpy(i.numbers))[torch.from_numpy(rows)] for i, rows in batches]
        )
        self.mean.copy_(raw.mean(0))
        # A feature that never varies says nothing: it stays 0 whatever it is later.
        deviation = raw.std(0, correction=0)
        self.deviation.copy_(torch.where(deviation > _LEAST, deviation, torch.inf))

    def forward(self, codes: Tensor, numbers: Tensor, fold: Tensor | None = None) -> Tensor:
        scaled: Tensor = (self.raw(codes, numbers, fold) - self.mean) / self.deviation
        return scaled.clamp(-_MOST, _MOST)

    def raw(self, codes: Tensor, numbers: Tensor, fold: Tensor | None = None) -> Tensor:
        """The features before they are standardised."""
        missing = torch.isnan(numbers)
        known = torch.where(missing, torch.zeros_like(numbers), numbers).clamp(min=0.0)
        logs = torch.log1p(known)
        views = known[..., _VIEWS]
        rates = [
            torch.log((known[..., _COUNTS[of]] + _PRIOR_VIEWS * self.rate[k]) / (views + _PRIOR_VIEWS))
            for k, of in enumerate(_RATED)
        ]
        compared = codes[..., _SAME]
        before = torch.nn.functional.pad(compared, (0, 0, 1, 0))[..., :-1, :]  # [B, T, 4]
        same = ((compared == before) & (compared > 0)).to(numbers.dtype)
        features = [
            logs, missing[..., _MAY_MISS].to(numbers.dtype), *rates, same, self._prices(codes, logs, missing), _clock(codes),
            self._running(codes, known, logs, same), self.rates(codes, fold), self.intents(codes, numbers, self.rates, fold),
        ]  # fmt: skip
        return torch.cat(features, dim=-1)

    def _prices(self, codes: Tensor, logs: Tensor, missing: Tensor) -> Tensor:
        """[B, T, 2]: log price against the mean of the window's so far, and against the category's; 0 where it is missing."""
        has = (~missing[..., _PRICE]).to(logs.dtype)
        price = logs[..., _PRICE] * has
        mean = price.cumsum(dim=-1) / has.cumsum(dim=-1).clamp(min=1.0)
        usual = self.rates.usual_price(codes)
        return torch.stack([(price - mean) * has, (price - usual) * has], dim=-1)

    def _running(self, codes: Tensor, known: Tensor, logs: Tensor, same: Tensor) -> Tensor:
        """[B, T, _RUNNING]: what the window has shown so far, added up."""
        dtype = logs.dtype
        one_hot = (codes[..., _TYPE, None] == torch.arange(1, len(EVENT_TYPES) + 1, device=codes.device)).to(dtype)  # [B, T, 8]
        # Pauses: the session's first event has none.
        paused = (known[..., _POSITION] > 1).to(dtype)[..., None]
        bumps = torch.exp(-(((logs[..., _GAP, None] - self.pauses) / _PAUSE_WIDTH) ** 2)) * paused  # [B, T, 6]
        # Items: new, seen before, or that of the event before.
        has_item = (codes[..., _ITEM] > 0).to(dtype)
        again = (known[..., _REPEATS] > 0).to(dtype) * has_item
        still = same[..., 1]
        shown = torch.stack([has_item - again, again - again * still, still], dim=-1)  # [B, T, 3]
        left = ((codes[..., _CATEGORY] > 0).to(dtype) - same[..., 2])[..., None]  # another category, or the first
        summed = torch.cat([one_hot, bumps, shown, left, paused], dim=-1).cumsum(dim=1)
        types, passed, items, lefts, pauses = torch.split(summed, [len(EVENT_TYPES), len(_PAUSES), 3, 1, 1], dim=-1)
        in_cart = types[..., TYPE_CODE["cart"] - 1] - types[..., TYPE_CODE["remove_from_cart"] - 1]
        holds = torch.stack([(in_cart > 0).to(dtype), in_cart.clamp(min=0.0).log1p()], dim=-1)
        mean_bumps = passed / pauses.clamp(min=1.0)
        return torch.cat([types.log1p(), bumps, mean_bumps, shown, items.log1p(), lefts.log1p(), holds], dim=-1)


def _clock(codes: Tensor) -> Tensor:
    """[B, T, 4]: hour and weekday as points on circles, so that midnight is near eleven."""
    hour = codes[..., _HOUR].float() * (2 * math.pi / 24)
    weekday = codes[..., _WEEKDAY].float() * (2 * math.pi / 7)
    return torch.stack([hour.sin(), hour.cos(), weekday.sin(), weekday.cos()], dim=-1)
