"""What a model says of events, in one shape for every model, and how well it foresaw what comes next."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from training.labels import UNKNOWN
from training.metrics.draws import Bools, Doubles, Draws, Ints, Measured, intervals, less
from training.metrics.ranking import means, ranking, ranks_of
from training.session_log import END, SessionLog

#: How many next items a model lists.
LISTED = 20
#: A class is never given less than this in the log-loss.
_LEAST = 1e-6


class Forecast(NamedTuple):
    """Of each of N events, knowing its session up to the event and no more. None is what a model does not say.

    purchase      [N]             probability of a purchase strictly later in the session
    next_type     [N, 9]          probabilities of EVENT_TYPES and END
    next_category [N, C + 1]      of the training log's categories by number, and of any other
    next_items    int [N, LISTED] items by number, the likeliest first; -1 fills up
    """

    purchase: Doubles
    next_type: npt.NDArray[np.floating[Any]] | None = None
    next_category: npt.NDArray[np.floating[Any]] | None = None
    next_items: Ints | None = None

    def of(self, events: Ints) -> "Forecast":
        """What is said of these events."""
        return Forecast(
            self.purchase[events],
            None if self.next_type is None else self.next_type[events],
            None if self.next_category is None else self.next_category[events],
            None if self.next_items is None else self.next_items[events],
        )


def next_figures(log: SessionLog, mine: Forecast, theirs: Forecast | None, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Figures of what comes next: log-losses in nats, and recall and MRR of the listed items, with paired differences.

    type_or_end  the next event's type, or that none follows   type  its type, given that one follows
    category     its category                                  item  its item; one that is not listed is a miss
    """
    out: dict[str, dict[str, Any]] = {}
    known = {
        "type_or_end": log.next_type != UNKNOWN,
        "type": (log.next_type != UNKNOWN) & (log.next_type != END),
        "category": log.next_category != UNKNOWN,
        "item": log.next_item != UNKNOWN,
    }
    for name, at in known.items():
        if not at.any():
            continue
        draws = Draws(log.session[at], seed)
        figures, other = (None if each is None else _measured(name, draws, log, each, at) for each in (mine, theirs))
        if figures is not None:
            out[name] = {"events": int(at.sum()), **intervals(figures)}
            if other is not None:
                out[name]["minus_baseline"] = less(figures, other)
    return out


def _measured(name: str, draws: Draws, log: SessionLog, forecast: Forecast, at: Bools) -> Measured | None:
    if name == "item":
        if forecast.next_items is None:
            return None
        return ranking(draws, ranks_of(forecast.next_items[at], log.next_item[at]), LISTED)
    p = forecast.next_category if name == "category" else forecast.next_type
    if p is None:
        return None
    p = p[at]
    # What the training log did not hold is "any other".
    target = np.minimum(log.next_category[at], p.shape[1] - 1) if name == "category" else log.next_type[at]
    given = p[np.arange(len(p)), target].astype(np.float64)
    if name == "type":
        given = given / np.maximum(p[:, :END].sum(axis=1), _LEAST)
    return means(draws, {"log_loss": -np.log(np.clip(given, _LEAST, 1.0))})
