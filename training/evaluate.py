"""How good scores are: per-event probabilities beside what really happened, and figures of them."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from training.examples import Examples
from training.history import Ints
from training.labels import UNKNOWN, Bools
from training.metrics.binary import figures, log_losses
from training.serving import ServingModel, bands_of, cumulative
from training.train import tensors
from worker.contract.events import EVENT_TYPES, HAZARD_HEADS, HORIZONS
from worker.contract.features import CODES, TYPE_CODE

Doubles = npt.NDArray[np.float64]

_BATCH_EVENTS = 2048


@dataclass(frozen=True)
class Predictions:
    """What a model says of the N predicted events of some examples, in the order of their rows.

    row, session, position [N] · within [N, 2, 5] · churn [N] · next_type [N, 8]
    next_type_loss, next_item_loss [N] in nats, NaN where not known
    named [N, K]: the likeliest next items, best first, as indices into the model's candidates; -1 fills up
    """

    row: Ints
    session: Ints
    position: Ints
    within: Doubles
    churn: Doubles
    next_type_loss: Doubles
    next_item_loss: Doubles
    next_type: Doubles
    named: Ints


class Judged(NamedTuple):
    """One head's events whose label is known: all arrays are [n]. `position` counts from 1 within the session.

    `event` says which of the predictions these are.
    """

    name: str
    event: Ints
    session: Ints
    position: Ints
    label: Ints
    p: Doubles


def evaluate(model: ServingModel, examples: Examples) -> dict[str, Any]:
    """Figures of every head and horizon, ready for a manifest."""
    predictions = predict(model, examples)
    figures: dict[str, Any] = {"events": len(predictions.row), "sessions": examples.sessions}
    for head in HAZARD_HEADS:
        judged = {horizon: judge(predictions, examples, head, horizon) for horizon in HORIZONS}
        figures[head] = {horizon: summary(one) for horizon, one in judged.items() if len(one.label)}
    figures["churn"] = summary(judge(predictions, examples, "churn"))
    for name, loss in (("next_type", predictions.next_type_loss), ("next_item", predictions.next_item_loss)):
        known = loss[~np.isnan(loss)]
        figures[name] = {"events": len(known), "log_loss": float(known.mean()) if len(known) else None}
    return figures


@torch.no_grad()
def predict(model: ServingModel, examples: Examples, listed: int = 0) -> Predictions:
    """Scores of all predicted events, each with the rows that the worker had for it, and so many likely next items."""
    model.eval()
    parts: list[tuple[npt.NDArray[Any], ...]] = []
    for batch in examples.batches(_BATCH_EVENTS):
        rows = torch.from_numpy(batch.predict)
        inputs = tensors(batch.inputs)
        heads = model.network(*inputs)
        link, churn, types = model.calibration.apply_to(heads, bands_of(*inputs))
        target, item = torch.from_numpy(batch.next_type)[rows], torch.from_numpy(batch.next_item)[rows]
        query = heads.next_item[rows]
        items = model.network.item_logits(query) * model.calibration.item_scale
        parts.append(
            (
                batch.row[batch.predict],
                cumulative(link[rows]).double().numpy(),
                torch.sigmoid(churn[rows]).double().numpy(),
                _class_losses(types[rows], target),
                _class_losses(items, item),
                torch.softmax(types[rows], dim=-1).double().numpy(),
                _named(model, inputs[0], torch.nonzero(rows), query, listed),
            )
        )
    if not parts:
        return _no_predictions(listed)
    row, within, churned, type_loss, item_loss, types_p, named = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(row)
    row = row[order]
    session, position = _places(examples, row)
    return Predictions(
        row, session, position, within[order], churned[order], type_loss[order], item_loss[order], types_p[order], named[order]
    )


def judge(predictions: Predictions, examples: Examples, head: str, horizon: str = "session", *, early: bool = False) -> Judged:
    """The events whose label of this head (purchase, cart, churn) and horizon is known.

    With `early` only those before the session's first such event: what comes after it is no prediction any more.
    """
    row, labels = predictions.row, examples.labels
    if head == "churn":
        label = labels.churn[row]
        known, p = label != UNKNOWN, predictions.churn
    else:
        h, k = HAZARD_HEADS.index(head), HORIZONS.index(horizon)
        label, known, p = labels.within[row, h, k], labels.matured[row, k], predictions.within[:, h, k]
        if early:
            known = known & ~_happened(examples, predictions, head)
    return Judged(
        f"{head}.{horizon}" if head != "churn" else head,
        np.flatnonzero(known),
        predictions.session[known],
        predictions.position[known],
        label[known].astype(np.int64),
        p[known],
    )


def summary(judged: Judged) -> dict[str, float | int | None]:
    """Point values: log-loss beside that of the events' own prevalence, ROC AUC, PR AUC, ECE."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    label, p = judged.label, judged.p
    both = 0 < label.sum() < len(label)
    prevalence = float(label.mean()) if len(label) else 0.0
    return {
        "events": len(label),
        "positives": int(label.sum()),
        "log_loss": float(log_losses(label, p).mean()) if len(label) else None,
        "log_loss_of_prevalence": float(log_losses(label, np.full(len(label), prevalence)).mean()) if len(label) else None,
        "roc_auc": float(roc_auc_score(label, p)) if both else None,
        "pr_auc": float(average_precision_score(label, p)) if both else None,
        "ece": calibration_error(label, p) if len(label) else None,
    }


def calibration_error(label: Ints, p: Doubles) -> float:
    """Mean gap between probability and share of positives over ten bins of about equally many events."""
    return float(figures(label, p, np.ones((1, len(label))))["ece"][0])


def _named(model: ServingModel, codes: torch.Tensor, rows: torch.Tensor, query: torch.Tensor, listed: int) -> Ints:
    """[n, listed]: the likeliest candidates after the rows [n, 2] (session and place) of the codes."""
    if not listed:
        return np.zeros((len(query), 0), np.int64)
    p = model.items(codes, rows[:, 0], rows[:, 1], query)  # [n, candidates]
    best, index = torch.topk(p, min(listed, p.shape[1]), dim=-1)
    index = torch.where(best > 0, index, -1)  # beyond the candidates there are only impossible ones
    return np.asarray(F.pad(index, (0, listed - index.shape[1]), value=-1).numpy(), np.int64)


def _class_losses(logits: torch.Tensor, target: torch.Tensor) -> Doubles:
    losses = F.cross_entropy(logits, target, ignore_index=UNKNOWN, reduction="none").double().numpy()
    return np.where(target.numpy() == UNKNOWN, np.nan, losses)


def _places(examples: Examples, row: Ints) -> tuple[Ints, Ints]:
    """Each row's session, and its place in it counted from 1."""
    first_of = np.full(int(examples.session.max()) + 1, len(examples.rows), np.int64)
    np.minimum.at(first_of, examples.session, examples.start)
    session = np.empty(len(examples.rows), np.int64)
    for number, start, stop in zip(examples.session, examples.start, examples.stop, strict=True):
        session[start:stop] = number
    of_row = session[row]
    return of_row, row - first_of[of_row] + 1


def _happened(examples: Examples, predictions: Predictions, head: str) -> Bools:
    """[N]: whether such an event is in the session up to the row, the row included."""
    is_one = examples.rows["codes"][:, CODES.index("type")] == TYPE_CODE[head]
    counted = np.concatenate([[0], np.cumsum(is_one)])
    row = predictions.row
    so_far: Bools = counted[row + 1] > counted[row + 1 - predictions.position]
    return so_far


def _no_predictions(listed: int) -> Predictions:
    none, empty = np.zeros(0, np.int64), np.zeros(0)
    within = np.zeros((0, len(HAZARD_HEADS), len(HORIZONS)))
    types = np.zeros((0, len(EVENT_TYPES)))
    return Predictions(none, none, none, within, empty, empty, empty, types, np.zeros((0, listed), np.int64))
