"""What follows when a shop acts on scores: a threshold's precision and recall, and how early a buyer is recognised."""

from typing import NamedTuple

import numpy as np

from training.metrics.draws import Bools, Doubles, Draws, Ints, Measured

#: The share of the sessions, the earliest ones, on which a threshold is chosen; it is judged on the others.
CHOOSING_SHARE = 0.3
#: The share of the sessions without a purchase that may be taken for buyers' ones at least once.
FALSE_POSITIVE_RATE = 0.1
#: Prefix lengths by which it is told how many buyers have been recognised.
RECOGNISED_BY = (1, 2, 3, 5)


class Chosen(NamedTuple):
    """A threshold, and the events that judge it because it was not chosen on them."""

    threshold: float
    judged: Bools


def choose_threshold(session: Ints, started_ms: Ints, label: Ints, p: Doubles) -> Chosen | None:
    """The threshold of the best F1 on the earliest sessions. None when those hold no positive event. All arrays are [n]."""
    order = np.unique(np.stack([started_ms, session], axis=1), axis=0)
    earlier = np.isin(session, order[: round(CHOOSING_SHARE * len(order)), 1])
    if not label[earlier].any():
        return None
    return Chosen(best_f1_threshold(label[earlier], p[earlier]), ~earlier)


def best_f1_threshold(label: Ints, p: Doubles) -> float:
    """The p from which on an event should be called positive for the best F1; the highest of equally good ones."""
    order = np.argsort(-p, kind="stable")
    q = p[order]
    end = np.append(np.flatnonzero(np.diff(q)), len(q) - 1)
    hits = np.cumsum(label[order])[end]
    f1 = 2 * hits / (end + 1 + label.sum())
    return float(q[end[np.argmax(f1)]])


def at_threshold(label: Ints, p: Doubles, threshold: float, weights: Doubles) -> Measured:
    """Precision, recall and F1 of "p is at least the threshold" for each row of weights [d, n]; NaN where there is none."""
    called = p >= threshold
    hits = weights @ (called & (label == 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        calls, positives = weights @ called, weights @ label
        return {"precision": hits / calls, "recall": hits / positives, "f1": 2 * hits / (calls + positives)}


def earliness(draws: Draws, position: Ints, label: Ints, p: Doubles) -> Measured:
    """How soon sessions with a purchase are told from the others. Arrays are [n], of all events ahead of the purchase.

    A session is recognised at its first event with a score above a threshold. The threshold is the lowest one at which at
    most `FALSE_POSITIVE_RATE` of the sessions without a purchase are ever recognised, chosen anew in each draw.

    recognised         share of the buyers recognised before they buy
    recognised_by_k    the same within their first k events
    events_ahead       mean number of events between recognition and purchase, the recognised event included; 0 where never
    """
    highest = _highest(draws, position, p)  # [K + 1, S]
    buys = np.zeros(draws.sessions, bool)
    buys[draws.number[label == 1]] = True
    weights = draws.of_sessions()
    if not buys.any() or buys.all():
        nothing = np.full(len(weights), np.nan)
        names = [f"recognised_by_{k}" for k in RECOGNISED_BY]
        return dict.fromkeys(["recognised", *names, "events_ahead"], nothing)
    threshold = _threshold(highest[-1, ~buys], weights[:, ~buys])  # [d]
    of_buyers = weights[:, buys]
    total = of_buyers.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = [(of_buyers * (reached[buys] > threshold[:, None])).sum(axis=1) / total for reached in highest]
        ahead = np.array([w @ _events_ahead(draws, buys, position, p, t) for w, t in zip(of_buyers, threshold, strict=True)])
        named = {f"recognised_by_{k}": share for k, share in zip(RECOGNISED_BY, shares, strict=False)}
        return {"recognised": shares[-1], **named, "events_ahead": ahead / total}


def _highest(draws: Draws, position: Ints, p: Doubles) -> Doubles:
    """[K + 1, S]: each session's highest score within its first k events, for k in RECOGNISED_BY and for all of them."""
    highest = np.full((len(RECOGNISED_BY) + 1, draws.sessions), -np.inf)
    for row, longest in enumerate((*RECOGNISED_BY, np.inf)):
        within = position <= longest
        np.maximum.at(highest[row], draws.number[within], p[within])
    return highest


def _threshold(highest: Doubles, weights: Doubles) -> Doubles:
    """[d]: the lowest of the values [S] above which no more than the allowed share of the weight [d, S] lies."""
    order = np.argsort(-highest, kind="stable")
    q = highest[order]
    first = np.concatenate([[0], np.flatnonzero(np.diff(q)) + 1])  # first of each group of equal values
    w = weights[:, order]
    above = (np.cumsum(w, axis=1) - w)[:, first]  # weight of all that is higher than the group
    allowed = above <= FALSE_POSITIVE_RATE * w.sum(axis=1, keepdims=True)
    return np.asarray(q[first][allowed.sum(axis=1) - 1])


def _events_ahead(draws: Draws, buys: Bools, position: Ints, p: Doubles, threshold: float) -> Doubles:
    """[buyers]: events from the first one above the threshold on; 0 where there is none."""
    above = p > threshold
    first = np.full(draws.sessions, np.iinfo(np.int64).max)
    np.minimum.at(first, draws.number[above], position[above])
    last = np.zeros(draws.sessions, np.int64)
    np.maximum.at(last, draws.number, position)
    return np.where(first <= last, last - first + 1, 0)[buys].astype(np.float64)
