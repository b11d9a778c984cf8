"""The real-valued features of a row, computed inside the graph from the raw codes and numbers."""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from worker.contract.features import CODES, NUMBERS, ModelInputs

#: Numbers that can be missing; each gets a flag.
_MAY_MISS = [NUMBERS.index(name) for name in ("price", "since_visit_s")]
_PRICE = NUMBERS.index("price")
_SCOPES = ("visitor", "item", "category", "brand")
_VIEWS = [NUMBERS.index(f"{scope}_views") for scope in _SCOPES]
_RATED = ("carts", "purchases")
_COUNTS = {of: [NUMBERS.index(f"{scope}_{of}") for scope in _SCOPES] for of in _RATED}
#: Views that the shop's overall rate is worth when a scope's own rate is smoothed towards it.
_PRIOR_VIEWS = 10.0
#: Rates below this are not told apart.
_MIN_RATE = 1e-3
#: Codes of which it is said whether they repeat the row before.
_SAME = [CODES.index(name) for name in ("type", "item", "category", "brand")]
#: Standard deviations at which a feature is cut off: one wild price must not decide a score.
_MOST = 5.0
_HOUR, _WEEKDAY = CODES.index("hour"), CODES.index("weekday")

#: Features that `RowFeatures` gives.
FEATURES = len(NUMBERS) + len(_MAY_MISS) + len(_SCOPES) * len(_RATED) + len(_SAME) + 1 + 4


class RowFeatures(nn.Module):
    """codes int [B, T, 6], numbers float [B, T, 18] -> standardised features [B, T, FEATURES], finite for any input.

    Row t's features depend on rows 0..t only. Means and deviations are fitted once and are part of the weights.
    """

    mean: Tensor
    deviation: Tensor
    rate: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("deviation", torch.ones(FEATURES))
        self.register_buffer("rate", torch.full((len(_RATED),), 0.05))

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
        # A feature that never varies says nothing: it stays 0 instead of growing without bound.
        self.deviation.copy_(raw.std(0, correction=0).clamp(min=1e-3))

    def forward(self, codes: Tensor, numbers: Tensor) -> Tensor:
        scaled: Tensor = (self.raw(codes, numbers) - self.mean) / self.deviation
        return scaled.clamp(-_MOST, _MOST)

    def raw(self, codes: Tensor, numbers: Tensor) -> Tensor:
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
        features = [logs, missing[..., _MAY_MISS].to(numbers.dtype), *rates, same, _relative_price(logs, missing), _clock(codes)]
        return torch.cat(features, dim=-1)


def _relative_price(logs: Tensor, missing: Tensor) -> Tensor:
    """[B, T, 1]: log price against the mean of the window's log prices so far; 0 where the price is missing."""
    has = (~missing[..., _PRICE]).to(logs.dtype)
    price = logs[..., _PRICE] * has
    mean = price.cumsum(dim=-1) / has.cumsum(dim=-1).clamp(min=1.0)
    return ((price - mean) * has).unsqueeze(-1)


def _clock(codes: Tensor) -> Tensor:
    """[B, T, 4]: hour and weekday as points on circles, so that midnight is near eleven."""
    hour = codes[..., _HOUR].float() * (2 * math.pi / 24)
    weekday = codes[..., _WEEKDAY].float() * (2 * math.pi / 7)
    return torch.stack([hour.sin(), hour.cos(), weekday.sin(), weekday.cos()], dim=-1)
