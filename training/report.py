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
    return reports(events, {"p": p, "baseline": baseline}, "baseline", seed)["p"]


def reports(events: JudgedEvents, p: dict[str, Doubles], against: str, seed: int = 0) -> dict[str, dict[str, dict[str, Any]]]:
    """`report` of each of several models, all against that of one name."""
    whole = np.ones(len(events.label), bool)
    parts = {"all": whole} | {str(k): events.position == k for k in POSITIONS} | events.kinds
    by_part = {name: _part(events, at, p, against, seed) for name, at in parts.items()}
    return {model: {name: part[model] for name, part in by_part.items()} for model in p}


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


def _part(events: JudgedEvents, at: Bools, p: dict[str, Doubles], against: str, seed: int) -> dict[str, dict[str, Any]]:
    session, label = events.session[at], events.label[at]
    about: dict[str, Any] = {
        "events": len(label),
        "sessions": len(np.unique(session)),
        "positives": int(label.sum()),
        "prevalence": float(label.mean()) if len(label) else None,
    }
    if not 0 < label.sum() < len(label):
        return dict.fromkeys(p, about)
    draws = Draws(session, seed)
    measured = {name: draws.measure(partial(figures, label, each[at])) for name, each in p.items()}
    bayes = {} if events.truth is None else _bayes(draws, label, events.truth[at], measured, against)
    return {
        name: about
        | intervals(measured[name])
        | {"ece_floor": ece_floor(draws, p[name][at], seed), "minus_baseline": less(measured[name], measured[against])}
        | bayes.get(name, {})
        for name in p
    }


def _bayes(draws: Draws, label: Ints, truth: Doubles, measured: dict[str, Measured], against: str) -> dict[str, dict[str, Any]]:
    """How much of what can be known each model knew: 1 for the exact probabilities, 0 for the best constant."""
    best = draws.measure(lambda w: {"exact": w @ log_losses(label, truth) / w.sum(axis=1), "none": prevalence_loss(label, w)})
    share = {name: (best["none"] - each["log_loss"]) / (best["none"] - best["exact"]) for name, each in measured.items()}
    return {
        name: {
            "bayes": {
                "log_loss": interval(best["exact"]),
                "log_loss_of_prevalence": interval(best["none"]),
                "skill_share": interval(share[name]),
                "minus_exact": interval(each["log_loss"] - best["exact"]),
                "minus_baseline": interval(share[name] - share[against]),
            }
        }
        for name, each in measured.items()
    }
