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
from training.metrics.ranking import ranks_of
from training.serving import ServingModel, bands_of, cumulative
from training.signature import TOP_ITEMS
from training.train import tensors
from worker.contract.events import EVENT_TYPES, HAZARD_HEADS, HORIZONS
from worker.contract.features import CODES, TYPE_CODE

Doubles = npt.NDArray[np.float64]

_BATCH_EVENTS = 2048


@dataclass(frozen=True)
class Predictions:
    """What a model says of the N predicted events of some examples, in the order of their rows.

    row, session, position [N] · within [N, 2, 5] · churn [N] · next_type [N, 8]
    next_type_loss [N] in nats, NaN where not known
    named [N, K]: the likeliest next items, best first, as indices into the model's candidates; -1 fills up
    """

    row: Ints
    session: Ints
    position: Ints
    within: Doubles
    churn: Doubles
    next_type_loss: Doubles
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
    predictions = predict(model, examples, TOP_ITEMS)
    figures: dict[str, Any] = {"events": len(predictions.row), "sessions": examples.sessions}
    for head in HAZARD_HEADS:
        judged = {horizon: judge(predictions, examples, head, horizon) for horizon in HORIZONS}
        figures[head] = {horizon: summary(one) for horizon, one in judged.items() if len(one.label)}
    figures["churn"] = summary(judge(predictions, examples, "churn"))
    loss = predictions.next_type_loss[~np.isnan(predictions.next_type_loss)]
    figures["next_type"] = {"events": len(loss), "log_loss": float(loss.mean()) if len(loss) else None}
    known = examples.labels.next_item[predictions.row] != UNKNOWN
    found = ranks_of(predictions.named, model.candidates.next_numbers_of(examples)[predictions.row])[known] > 0
    figures["next_item"] = {"events": len(found), f"recall@{TOP_ITEMS}": float(found.mean()) if len(found) else None}
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
        target = torch.from_numpy(batch.next_type)[rows]
        parts.append(
            (
                batch.row[batch.predict],
                cumulative(link[rows]).double().numpy(),
                torch.sigmoid(churn[rows]).double().numpy(),
                _class_losses(types[rows], target),
                torch.softmax(types[rows], dim=-1).double().numpy(),
                _named(model, inputs[0], torch.nonzero(rows), listed),
            )
        )
    if not parts:
        return _no_predictions(listed)
    row, within, churned, type_loss, types_p, named = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(row)
    row = row[order]
    session, position = _places(examples, row)
    return Predictions(row, session, position, within[order], churned[order], type_loss[order], types_p[order], named[order])


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


def _named(model: ServingModel, codes: torch.Tensor, rows: torch.Tensor, listed: int) -> Ints:
    """[n, listed]: the likeliest candidates after the rows [n, 2] (session and place) of the codes."""
    if not listed:
        return np.zeros((len(rows), 0), np.int64)
    index, _ = model.items(codes, rows[:, 0], rows[:, 1], listed)
    return np.where(index.numpy() < len(model.candidates.ids), index.numpy(), -1).astype(np.int64)


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
    return Predictions(none, none, none, within, empty, empty, types, np.zeros((0, listed), np.int64))
