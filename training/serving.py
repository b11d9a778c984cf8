"""The network as it is served: newest row only, calibrated, probabilities instead of logits. What is exported to ONNX."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.candidates import Candidates
from training.model import Heads, IntentModel
from training.next_items import NextItems
from training.signature import TOP_ITEMS
from worker.contract.events import EVENT_TYPES, HAZARD_HEADS, HORIZONS
from worker.contract.features import CODES, NUMBERS, TYPE_CODE

#: Last position of each prefix band but the open one; each has corrections of its own.
BAND_ENDS = (1.0, 2.0, 4.0, 8.0)
#: The band of rows whose window holds a purchase: what follows one is another matter than whether one follows.
BOUGHT = len(BAND_ENDS) + 1
BANDS = BOUGHT + 1

_SESSION = HORIZONS.index("session")
_POSITION, _TYPE = NUMBERS.index("position"), CODES.index("type")


class Probabilities(NamedTuple):
    """purchase [B, 5] · cart [B, 5] · churn [B, 1] · next_type [B, 8] · next_item_index [B, 10] · next_item_p [B, 10]

    Purchase and cart rise along HORIZONS. An index points into `Candidates`; it is their number where no more are likely.
    """

    purchase: Tensor
    cart: Tensor
    churn: Tensor
    next_type: Tensor
    next_item_index: Tensor
    next_item_p: Tensor


class Calibration(nn.Module):
    """An affine map of each link and churn logit by prefix band, scale and bias for the next type."""

    link_scale: Tensor
    link_bias: Tensor
    churn_scale: Tensor
    churn_bias: Tensor
    type_scale: Tensor
    type_bias: Tensor

    def __init__(self) -> None:
        super().__init__()
        shape = (len(HAZARD_HEADS), len(HORIZONS))
        self.register_buffer("link_scale", torch.ones(BANDS, *shape))
        self.register_buffer("link_bias", torch.zeros(BANDS, *shape))
        self.register_buffer("churn_scale", torch.ones(BANDS))
        self.register_buffer("churn_bias", torch.zeros(BANDS))
        self.register_buffer("type_scale", torch.ones(()))
        self.register_buffer("type_bias", torch.zeros(len(EVENT_TYPES)))

    def apply_to(self, heads: Heads, band: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`band` int [...], see `bands_of`. Calibrated logits: link [..., 2, 5], churn [...], next_type [..., 8]."""
        return (
            heads.link * self.link_scale[band] + self.link_bias[band],
            heads.churn * self.churn_scale[band] + self.churn_bias[band],
            heads.next_type * self.type_scale + self.type_bias,
        )


class ServingModel(nn.Module):
    """codes int32 [B, T, 10], numbers float32 [B, T, 18], length int32 [B, 1] -> `Probabilities` after the newest row."""

    def __init__(
        self, network: IntentModel, calibration: Calibration, candidates: Candidates, next_items: NextItems | None = None
    ) -> None:
        """Without `next_items` none is named."""
        super().__init__()
        self.network, self.calibration, self.candidates = network, calibration, candidates
        self.next_items = next_items or NextItems(network.spec.category_buckets)

    def forward(self, codes: Tensor, numbers: Tensor, length: Tensor) -> Probabilities:
        last = (length[:, 0] - 1).long()
        session = torch.arange(codes.shape[0], device=codes.device)
        newest = self.network.newest(codes, numbers, last)
        link, churn, types = self.calibration.apply_to(newest, bands_of(codes, numbers)[session, last])
        within = cumulative(link)  # [B, 2, 5]
        index, p = self.items(codes, session, last, TOP_ITEMS)
        return Probabilities(
            purchase=within[:, 0],
            cart=within[:, 1],
            churn=torch.sigmoid(churn).unsqueeze(-1),
            next_type=torch.softmax(types, dim=-1),
            next_item_index=index,
            next_item_p=p.clamp(max=1.0),
        )

    def items(self, codes: Tensor, session: Tensor, at: Tensor, listed: int) -> tuple[Tensor, Tensor]:
        """What `NextItems` says, with the number of candidates in the place of those that are impossible."""
        index, p = self.next_items(codes, session, at, listed)
        return torch.where(p > 0, index, len(self.candidates.ids)), p


def bands_of(codes: Tensor, numbers: Tensor) -> Tensor:
    """codes [..., T, 10], numbers [..., T, 18] -> int64 [..., T]: the band of each row.

    By its position in the session, or BOUGHT where the window holds a purchase up to it.
    """
    band = (numbers[..., _POSITION, None] > torch.tensor(BAND_ENDS, device=numbers.device)).long().sum(dim=-1)
    bought = (codes[..., _TYPE] == TYPE_CODE["purchase"]).long().cumsum(dim=-1) > 0
    return torch.where(bought, BOUGHT, band)


def cumulative(link_logits: Tensor) -> Tensor:
    """Probabilities within each horizon from the logits of `Labels.link`: rising by construction. [..., 5] -> [..., 5]."""
    part = torch.sigmoid(link_logits)
    within = [part[..., _SESSION]]
    for k in reversed(range(_SESSION)):
        within.insert(0, within[0] * part[..., k])
    for k in range(_SESSION + 1, len(HORIZONS)):
        within.append(within[-1] + (1.0 - within[-1]) * part[..., k])
    return torch.stack(within, dim=-1).clamp(max=1.0)
