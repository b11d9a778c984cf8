"""Whether a candidate may replace the champion: only if it is surely better where it counts, and nowhere clearly worse.

Both are compared on the same events, those of the newest sessions, which neither was trained on. Events of one session depend
on each other, so sessions are drawn, not events (a paired cluster bootstrap).
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from training.evaluate import Doubles, calibration_error
from training.history import Ints
from training.metrics.binary import log_losses

#: Draws held in memory at once.
_CHUNK_DRAWS = 4_000_000


class GatePolicy(msgspec.Struct, frozen=True):
    """When a candidate is let through.

    `confidence` is that of the one-sided bound on its gain. A head other than the deciding one may be worse by the share
    `tolerance` of the champion's log-loss. `max_ece` bounds the candidate's calibration error, unless the champion's is
    larger still; then the candidate's may not be more than `ece_slack` above it.
    """

    min_sessions: int = 200
    min_positives: int = 20
    confidence: float = 0.95
    draws: int = 2000
    tolerance: float = 0.01
    max_ece: float = 0.03
    ece_slack: float = 0.002


class Comparison(NamedTuple):
    """What both said of one head's labels. All arrays are [N], a row per event whose label is known."""

    name: str
    session: Ints
    label: Ints
    champion: Doubles
    candidate: Doubles


class HeadResult(msgspec.Struct, frozen=True):
    """One comparison in numbers. `difference` is the candidate's log-loss less the champion's: below 0 is better."""

    name: str
    events: int
    sessions: int
    positives: int
    champion_logloss: float
    candidate_logloss: float
    difference: float
    low: float
    high: float
    champion_ece: float
    candidate_ece: float


class Decision(msgspec.Struct, frozen=True):
    """The verdict, the one sentence that says why, and the numbers behind it. `deciding` is None when there was no label."""

    passed: bool
    reason: str
    deciding: HeadResult | None
    others: list[HeadResult]


def decide(deciding: Comparison, others: Sequence[Comparison], policy: GatePolicy | None = None, seed: int = 0) -> Decision:
    """Compare. Pure: the same numbers and seed give the same verdict."""
    policy = policy or GatePolicy()
    if not len(deciding.label):
        return Decision(False, f"no event has a matured {deciding.name} label yet", None, [])
    main = compare(deciding, policy, seed)
    rest = [compare(other, policy, seed) for other in others if len(other.label)]
    lack = too_little(main.name, main.sessions, main.positives, policy)
    complaint = lack or _not_better(main, policy) or _badly_calibrated(main, policy) or _worse(rest, policy)
    reason = complaint or (
        f"{main.name} log-loss {main.candidate_logloss:.5f} against {main.champion_logloss:.5f}: "
        f"better by {-main.difference:.5f}, at least {-main.high:.5f} with {policy.confidence:.0%} confidence"
    )
    return Decision(complaint is None, reason, main, rest)


def too_little(name: str, sessions: int, positives: int, policy: GatePolicy) -> str | None:
    """What is lacking to judge by, or None. Can be asked before a candidate is made."""
    if sessions < policy.min_sessions:
        return f"only {sessions} new sessions with a matured {name} label, {policy.min_sessions} are needed to judge"
    if positives < policy.min_positives:
        return f"only {positives} new events with a positive {name} label, {policy.min_positives} are needed to judge"
    return None


def compare(comparison: Comparison, policy: GatePolicy, seed: int) -> HeadResult:
    """Log-losses, calibration errors, and the interval of the difference."""
    label = comparison.label
    losses = [log_losses(label, p) for p in (comparison.champion, comparison.candidate)]
    difference = losses[1] - losses[0]
    low, high = session_interval(difference, comparison.session, policy.confidence, policy.draws, seed)
    return HeadResult(
        name=comparison.name,
        events=len(label),
        sessions=len(np.unique(comparison.session)),
        positives=int(label.sum()),
        champion_logloss=float(losses[0].mean()),
        candidate_logloss=float(losses[1].mean()),
        difference=float(difference.mean()),
        low=low,
        high=high,
        champion_ece=calibration_error(label, comparison.champion),
        candidate_ece=calibration_error(label, comparison.candidate),
    )


def session_interval(values: Doubles, session: Ints, confidence: float, draws: int, seed: int) -> tuple[float, float]:
    """One-sided lower and upper bound of the mean of `values` when whole sessions are drawn with replacement."""
    _, of = np.unique(session, return_inverse=True)
    sums, counts = np.bincount(of, values), np.bincount(of)
    rng = np.random.default_rng(seed)
    means: list[Doubles] = []
    at_once = max(_CHUNK_DRAWS // len(sums), 1)
    for start in range(0, draws, at_once):
        drawn = rng.integers(0, len(sums), (min(at_once, draws - start), len(sums)))
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), [1 - confidence, confidence])
    return float(low), float(high)


def _not_better(main: HeadResult, policy: GatePolicy) -> str | None:
    if main.high < 0:
        return None
    return (
        f"{main.name} log-loss {main.candidate_logloss:.5f} against {main.champion_logloss:.5f}: not better for sure, "
        f"the difference may be {main.high:+.5f} with {policy.confidence:.0%} confidence"
    )


def _badly_calibrated(main: HeadResult, policy: GatePolicy) -> str | None:
    allowed = max(policy.max_ece, main.champion_ece + policy.ece_slack)
    if main.candidate_ece <= allowed:
        return None
    return f"{main.name} is badly calibrated: error {main.candidate_ece:.4f}, {allowed:.4f} is allowed"


def _worse(others: list[HeadResult], policy: GatePolicy) -> str | None:
    for head in others:
        if head.positives >= policy.min_positives and head.difference > policy.tolerance * head.champion_logloss:
            return f"{head.name} got worse: log-loss {head.candidate_logloss:.5f} against {head.champion_logloss:.5f}"
    return None
