"""Figures by prefix length and by kind of event, with intervals: what `inkling evaluate` prints."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from training.metrics.binary import ece_floor, figures, log_losses, prevalence_loss
from training.metrics.decision import Chosen, at_threshold, choose_threshold, earliness
from training.metrics.draws import Bools, Doubles, Draws, Ints, Measured, interval, intervals, less

#: Prefix lengths that are looked at alone, beside all events together.
POSITIONS = (1, 2, 3, 5, 10)


@dataclass(frozen=True)
class JudgedEvents:
    """n events whose label is known, in sessions; `position` counts from 1 within the session, `started_ms` is its start.

    `kinds` are further masks [n] to look at alone, by name; `truth` [n] is the exact probability where that is known.
    """

    session: Ints
    started_ms: Ints
    position: Ints
    label: Ints
    kinds: dict[str, Bools] = field(default_factory=dict)
    truth: Doubles | None = None


def report(events: JudgedEvents, p: Doubles, baseline: Doubles, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Figures of `p` [n] by prefix length ("all", "1", "2", ...) and kind: each [value, low, high], 95% by drawing sessions.

    `baseline` [n] is another model's probability of the same events; "minus_baseline" has the paired differences.
    """
    whole = np.ones(len(events.label), bool)
    parts = {"all": whole} | {str(k): events.position == k for k in POSITIONS} | events.kinds
    return {name: _part(events, at, p, baseline, seed) for name, at in parts.items()}


def decisions(events: JudgedEvents, p: Doubles, baseline: Doubles, seed: int = 0) -> dict[str, dict[str, Any]]:
    """What acting on the scores comes to: "threshold" (chosen on the earliest sessions, judged on the others), "earliness"."""
    out: dict[str, dict[str, Any]] = {}
    chosen, other = (choose_threshold(events.session, events.started_ms, events.label, each) for each in (p, baseline))
    if chosen is not None and other is not None and events.label[chosen.judged].any():
        draws = Draws(events.session[chosen.judged], seed)
        mine, theirs = (_at(draws, events, each, at) for each, at in ((p, chosen), (baseline, other)))
        out["threshold"] = {"value": chosen.threshold, "events": int(chosen.judged.sum()), **intervals(mine)}
        out["threshold"]["minus_baseline"] = less(mine, theirs)
    draws = Draws(events.session, seed)
    mine, theirs = (earliness(draws, events.position, events.label, each) for each in (p, baseline))
    out["earliness"] = {**intervals(mine), "minus_baseline": less(mine, theirs)}
    return out


def _at(draws: Draws, events: JudgedEvents, p: Doubles, chosen: Chosen) -> Measured:
    label, judged = events.label[chosen.judged], p[chosen.judged]
    return draws.measure(partial(at_threshold, label, judged, chosen.threshold))


def _part(events: JudgedEvents, at: Bools, p: Doubles, baseline: Doubles, seed: int) -> dict[str, Any]:
    session, label = events.session[at], events.label[at]
    part: dict[str, Any] = {
        "events": len(label),
        "sessions": len(np.unique(session)),
        "positives": int(label.sum()),
        "prevalence": float(label.mean()) if len(label) else None,
    }
    if not 0 < label.sum() < len(label):
        return part
    draws = Draws(session, seed)
    mine, theirs = (draws.measure(partial(figures, label, each[at])) for each in (p, baseline))
    part |= intervals(mine)
    part["ece_floor"] = ece_floor(draws, p[at], seed)
    part["minus_baseline"] = less(mine, theirs)
    if events.truth is not None:
        part["bayes"] = _bayes(draws, label, events.truth[at], mine, theirs)
    return part


def _bayes(draws: Draws, label: Ints, truth: Doubles, mine: Measured, theirs: Measured) -> dict[str, Any]:
    """How much of what can be known was known: 1 for the exact probabilities, 0 for the best constant."""
    best = draws.measure(lambda w: {"exact": w @ log_losses(label, truth) / w.sum(axis=1), "none": prevalence_loss(label, w)})
    shares = [(best["none"] - each["log_loss"]) / (best["none"] - best["exact"]) for each in (mine, theirs)]
    return {
        "log_loss": interval(best["exact"]),
        "log_loss_of_prevalence": interval(best["none"]),
        "skill_share": interval(shares[0]),
        "minus_exact": interval(mine["log_loss"] - best["exact"]),
        "minus_baseline": interval(shares[0] - shares[1]),
    }
