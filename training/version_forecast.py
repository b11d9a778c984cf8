"""A version's predictions in the shape in which all models are compared."""

import numpy as np

from training.candidates import Candidates
from training.evaluate import Predictions
from training.event_names import EventNames
from training.forecast import Forecast
from training.history import History
from training.next_categories import NextCategories
from training.session_log import SessionLog
from worker.contract.events import HAZARD_HEADS, HORIZONS

_PURCHASE, _SESSION = HAZARD_HEADS.index("purchase"), HORIZONS.index("session")


def forecast_of(
    predictions: Predictions,
    candidates: Candidates,
    next_categories: NextCategories | None,
    history: History,
    names: EventNames,
    log: SessionLog,
    categories: int,
) -> Forecast:
    """What the predictions of a history say of each event of the log, which is a part of that history.

    `next_categories` speaks of the first `categories` that the log names.
    """
    number = history.rows["offset"][predictions.row]
    order = np.argsort(number)
    at = order[np.searchsorted(number[order], log.event)]
    churn = predictions.churn[at, None]
    named = list(names.categories)[:categories]
    # Items that the log does not name are never right; the last entry stands for "no candidate".
    item = np.array([*(names.items.get(name, -1) for name in candidates.ids), -1], np.int64)
    return Forecast(
        purchase=predictions.within[at, _PURCHASE, _SESSION],
        next_type=np.concatenate([(1 - churn) * predictions.next_type[at], churn], axis=1),
        next_category=None if next_categories is None else next_categories(log.category, log.position, named),
        next_items=item[predictions.named[at]],
    )
