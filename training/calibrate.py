"""Calibration on sessions that were not trained on: small corrections, held back where there is little to go by."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training.drift import level_now
from training.examples import Examples
from training.labels import UNKNOWN
from training.losses import masked_bce
from training.model import Heads, IntentModel
from training.serving import BANDS, BOUGHT, Calibration, bands_of
from training.train import tensors
from worker.contract.events import HORIZONS

#: How far a slope may be expected from 1 and a shift from 0 before any data is seen (spreads of normal priors), for all
#: prefix lengths together, and how far those of one band from these.
_SLOPE_SPREAD, _SHIFT_SPREAD = 0.2, 0.2
_BAND_SLOPE_SPREAD, _BAND_SHIFT_SPREAD = 0.05, 0.05
_BATCH_EVENTS = 2048
_MAX_STEPS = 60
_SESSION = HORIZONS.index("session")


class Collected(NamedTuple):
    """Logits, calibrated so far, and labels of all events: [N, ...].

    After a purchase whether one follows in the session is not known: such events, mostly an easy no, would outweigh those that
    are to be foreseen.
    """

    link: Tensor
    churn: Tensor
    next_type: Tensor
    band: Tensor
    row: Tensor
    link_label: Tensor
    churn_label: Tensor
    type_label: Tensor


class _Means(NamedTuple):
    link: Tensor
    churn: Tensor
    next_type: Tensor


class _Correction(NamedTuple):
    """What is fitted. A logit z becomes (z - mean) * slope + mean + shift, so that slope and shift do not pull at each other.

    Those of a band ([BANDS, ...]) are added to the common ones.
    """

    link_slope: Tensor
    link_shift: Tensor
    churn_slope: Tensor
    churn_shift: Tensor
    type_slope: Tensor
    type_shift: Tensor
    band_link_slope: Tensor
    band_link_shift: Tensor
    band_churn_slope: Tensor
    band_churn_shift: Tensor


def calibrate(model: IntentModel, examples: Examples, prior: Calibration | None = None, level: bool = True) -> Calibration:
    """The likeliest correction of `prior` (by default the identity) on these examples; without any it is the prior.

    Without `level` the level of purchases and carts within the session stays: few sessions tell it badly. See `follow_level`.
    """
    return _fitted([(model, examples)], prior, level)


def calibrate_crossed(parts: Sequence[tuple[IntentModel, Examples]]) -> Calibration:
    """The likeliest correction for a network trained on all parts, from networks each of which has not seen its own part.

    Every session is looked at, so that a network that has learned a small log by heart is found out. The level within the
    session stays: see `follow_level`.
    """
    return _fitted(parts, None, False)


def _fitted(parts: Sequence[tuple[IntentModel, Examples]], prior: Calibration | None, level: bool) -> Calibration:
    before = prior or Calibration()
    parts = [(model, examples) for model, examples in parts if len(examples)]
    if not parts:
        return before
    with torch.no_grad():
        collected = [collect(model.eval(), before, examples) for model, examples in parts]
        data = Collected(*(torch.cat(column) for column in zip(*collected, strict=True)))
        ahead = data.band != BOUGHT
        means = _Means(data.link[ahead if ahead.any() else ~ahead].mean(0), data.churn.mean(), data.next_type.mean(0))
    # The events of a session share whether it buys: together they count about as one. Each has a next event of its own.
    weight = sum(examples.sessions for _, examples in parts) / max(len(data.churn), 1)
    shape = before.link_bias.shape[1:]
    c = _Correction(
        link_slope=torch.ones(shape),
        link_shift=torch.zeros(shape),
        churn_slope=torch.ones(()),
        churn_shift=torch.zeros(()),
        type_slope=torch.ones(()),
        type_shift=torch.zeros_like(before.type_bias),
        band_link_slope=torch.zeros(BANDS, *shape),
        band_link_shift=torch.zeros(BANDS, *shape),
        band_churn_slope=torch.zeros(BANDS),
        band_churn_shift=torch.zeros(BANDS),
    )
    for tensor in c:
        tensor.requires_grad_(True)
    optimiser = torch.optim.LBFGS(list(c), max_iter=_MAX_STEPS, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        optimiser.zero_grad()
        total = weight * _link_loss(c, means, data) + _next_loss(c, means, data) + _penalty(c)
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(objective)  # type: ignore[no-untyped-call]
    fitted = _Correction(*(tensor.detach() for tensor in c))
    if not level:
        fitted.link_shift[:, _SESSION] = 0.0
    # The session's own correction is that of the events ahead of its purchase.
    fitted.band_link_slope[BOUGHT, :, _SESSION] = 1.0 - fitted.link_slope[:, _SESSION]
    fitted.band_link_shift[BOUGHT, :, _SESSION] = -fitted.link_shift[:, _SESSION]
    return _combined(before, fitted, means)


def follow_level(model: IntentModel, calibration: Calibration, examples: Examples) -> Calibration:
    """The calibration with the level of purchases and carts within the session where it stands at the end of the examples.

    All sessions tell the level together, unless it has moved by more than chance: then the later ones count more. The examples
    may be those that were trained on: a level of two numbers is not learned by heart.
    """
    if not len(examples):
        return calibration
    with torch.no_grad():
        data = collect(model.eval(), calibration, examples)
    p = torch.sigmoid(data.link[..., _SESSION]).double().numpy()  # [N, 2]
    label = data.link_label[..., _SESSION].numpy()
    window = examples.window_of(data.row.numpy())
    session, started_ms = examples.session[window], examples.started_ms[window]
    after = Calibration()
    after.load_state_dict(calibration.state_dict())
    for h in range(p.shape[1]):
        known = label[:, h] != UNKNOWN
        if (label[known, h] == 1).any():
            after.link_bias[:, h, _SESSION] += level_now(
                p[known, h], label[known, h].astype(np.float64), session[known], started_ms[known]
            )
    return after


def collect(model: IntentModel, before: Calibration, examples: Examples) -> Collected:
    parts: list[list[Tensor]] = []
    for batch in examples.batches(_BATCH_EVENTS, np.random.default_rng(0)):
        rows = torch.from_numpy(batch.predict)
        inputs = tensors(batch.inputs)
        heads = Heads(*(head[rows] for head in model(*inputs)))
        band = bands_of(*inputs)[rows]
        link, churn, next_type = before.apply_to(heads, band)
        labels = [torch.from_numpy(array)[rows] for array in (batch.row, batch.link, batch.churn, batch.next_type)]
        labels[1][band == BOUGHT, :, _SESSION] = UNKNOWN
        parts.append([link, churn, next_type, band, *labels])
    return Collected(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _link_loss(c: _Correction, means: _Means, data: Collected) -> Tensor:
    slope, shift = c.link_slope + c.band_link_slope[data.band], c.link_shift + c.band_link_shift[data.band]
    link = (data.link - means.link) * slope + means.link + shift
    return masked_bce(link, data.link_label).sum()


def _next_loss(c: _Correction, means: _Means, data: Collected) -> Tensor:
    churn_slope, churn_shift = c.churn_slope + c.band_churn_slope[data.band], c.churn_shift + c.band_churn_shift[data.band]
    churn = (data.churn - means.churn) * churn_slope + means.churn + churn_shift
    types = (data.next_type - means.next_type) * c.type_slope + means.next_type + c.type_shift
    total = masked_bce(churn, data.churn_label).sum()
    return total + F.cross_entropy(types, data.type_label, ignore_index=UNKNOWN, reduction="sum")


def _penalty(c: _Correction) -> Tensor:
    """Minus the log of the priors."""
    total = torch.zeros(())
    for name, value in c._asdict().items():
        slope, band = name.endswith("slope"), name.startswith("band")
        common = _SLOPE_SPREAD if slope else _SHIFT_SPREAD
        own = _BAND_SLOPE_SPREAD if slope else _BAND_SHIFT_SPREAD
        middle = float(slope and not band)
        total = total + (((value - middle) / (own if band else common)) ** 2).sum() / 2
    return total


def _combined(before: Calibration, c: _Correction, means: _Means) -> Calibration:
    """The correction put after `before`, in the form that the graph holds."""
    after = Calibration()
    link_slope, link_shift = c.link_slope + c.band_link_slope, c.link_shift + c.band_link_shift
    churn_slope, churn_shift = c.churn_slope + c.band_churn_slope, c.churn_shift + c.band_churn_shift
    after.link_scale.copy_(before.link_scale * link_slope)
    after.link_bias.copy_((before.link_bias - means.link) * link_slope + means.link + link_shift)
    after.churn_scale.copy_(before.churn_scale * churn_slope)
    after.churn_bias.copy_((before.churn_bias - means.churn) * churn_slope + means.churn + churn_shift)
    after.type_scale.copy_(before.type_scale * c.type_slope)
    after.type_bias.copy_((before.type_bias - means.next_type) * c.type_slope + means.next_type + c.type_shift)
    return after
