"""What really happened after each event, as far as the log can know it.

A session is the shop's own where the shop names one, and otherwise that by its gap: some shops' sessions outlast a pause, and
whoever reads "within the session" or "the session ends" of such a shop means those.

A horizon counts only once it has elapsed: before that neither "no" nor an early "yes" is used, so that fresh data is not biased.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.history import History, Ints
from worker.contract.events import HAZARD_HEADS, HORIZONS
from worker.contract.features import CODES, TYPE_CODE
from worker.labels import HORIZON_MS

Bools = npt.NDArray[np.bool_]

#: Length of each horizon from the event; the session's ends by its gap, and is capped.
_FIXED_MS = {horizon: length for horizon, length in HORIZON_MS.items() if horizon != "session"}
_SESSION_CAP_MS = HORIZON_MS["session"]
_SESSION = HORIZONS.index("session")

#: A session of the shop's own is over after the longest pause of this share of them.
_SHOP_PAUSES = 0.999

#: Stands for "not known" in labels of classes and hazards.
UNKNOWN = -1

#: Classes of the pause until the next event: none, up to 1 s, 3 s, 7 s and so on by doublings; the last is all longer ones.
PAUSES = 16


@dataclass(frozen=True)
class Labels:
    """Labels of N events; arrays are aligned with `History.rows`.

    within    bool [N, 2, 5]  such an event (HAZARD_HEADS) of the visitor follows within the horizon
    matured   bool [N, 5]     the horizon has elapsed, so `within` holds the truth
    churn     int8 [N]        1 when no event follows in the session, UNKNOWN when that is still open
    next_type int64 [N]       index in EVENT_TYPES of the session's next event, or UNKNOWN
    next_item int64 [N]       its item bucket, or UNKNOWN
    next_category int64 [N]   its category bucket, or UNKNOWN
    pause     int64 [N]       class of the time until it, see `PAUSES`, or UNKNOWN
    """

    within: Bools
    matured: Bools
    churn: npt.NDArray[np.int8]
    next_type: Ints
    next_item: Ints
    next_category: Ints
    pause: Ints

    @property
    def hazard(self) -> npt.NDArray[np.int8]:
        """int8 [N, 2, 5]: 1 when the event falls in the part that horizon k adds to horizon k - 1, 0 when not.

        UNKNOWN when the part has not elapsed, or the event came before it.
        """
        earlier = np.concatenate([np.zeros_like(self.within[..., :1]), self.within[..., :-1]], axis=-1)
        known = self.matured[:, None, :] & ~earlier
        return np.where(known, self.within, UNKNOWN).astype(np.int8)

    @property
    def link(self) -> npt.NDArray[np.int8]:
        """int8 [N, 2, 5]: what each of the network's logits is asked, from the session's horizon outwards and inwards.

        At the session's horizon: does such an event follow within it. At a longer one: within it, given not within the one
        before (a hazard). At a shorter one: within it, given within the one after (a reversed hazard). UNKNOWN when what is
        given does not hold, or has not matured.
        """
        known = np.broadcast_to(self.matured[:, None, :], self.within.shape).copy()
        known[..., :_SESSION] &= self.within[..., 1 : _SESSION + 1] & self.matured[:, None, 1 : _SESSION + 1]
        known[..., _SESSION + 1 :] &= ~self.within[..., _SESSION:-1]
        return np.where(known, self.within, UNKNOWN).astype(np.int8)


def label(history: History) -> Labels:
    """The labels of every event of the log."""
    rows, session = history.rows, history.session_of_row
    time = rows["event_time"].astype(np.int64)
    types = rows["codes"][:, CODES.index("type")]
    last_ms = time[history.start[1:] - 1][session] if len(rows) else time
    newest = history.newest_ms[session] - history.policy.grace_ms
    within = np.stack([_within(history, time, types == TYPE_CODE[head], session) for head in HAZARD_HEADS], axis=1)
    shop_last_ms, pause_ms = _shop_ends(history, time)
    last_ms = np.where(history.shop >= 0, shop_last_ms + pause_ms - history.policy.gap_ms, last_ms)
    matured = newest[:, None] >= _ends(time, last_ms, history.policy.gap_ms)

    own = np.where(history.shop >= 0, history.shop, -1 - session)
    follows = np.append(own[1:] == own[:-1], np.zeros(min(len(rows), 1), bool))
    next_known = newest >= time + np.where(history.shop >= 0, pause_ms, history.policy.gap_ms)
    following = np.minimum(np.arange(len(rows)) + 1, max(len(rows) - 1, 0))
    next_item, next_category = (rows["codes"][following, CODES.index(name)].astype(np.int64) for name in ("item", "category"))
    return Labels(
        within=within,
        matured=matured,
        churn=np.where(next_known, ~follows, UNKNOWN).astype(np.int8),
        next_type=np.where(next_known & follows, types[following].astype(np.int64) - 1, UNKNOWN),
        next_item=np.where(next_known & follows & (next_item > 0), next_item, UNKNOWN),
        next_category=np.where(next_known & follows & (next_category > 0), next_category, UNKNOWN),
        pause=np.where(next_known & follows, _pauses(time[following] - time), UNKNOWN),
    )


def _pauses(length_ms: Ints) -> Ints:
    """The class of each pause."""
    doublings = np.ceil(np.log2(np.maximum(length_ms, 0) / 1000 + 1))
    return np.asarray(np.minimum(doublings, PAUSES - 1), np.int64)


def _within(history: History, time: Ints, wanted: Bools, session: Ints) -> Bools:
    """[N, 5]: whether a wanted event of the same visitor follows later in the log's order, by horizon."""
    count = len(time)
    # The nearest wanted row after each row; `count` stands for none.
    at = np.where(wanted, np.arange(count), count)
    nearest = np.append(np.minimum.accumulate(at[::-1])[::-1], count)[1:]
    found = nearest < count
    nearest = np.minimum(nearest, count - 1)
    visitor = history.visitor[session]
    found &= visitor[nearest] == visitor
    after_ms = time[nearest] - time
    within = np.zeros((count, len(HORIZONS)), bool)
    for k, horizon in enumerate(HORIZONS):
        if horizon in _FIXED_MS:
            within[:, k] = found & (after_ms <= _FIXED_MS[horizon])
        else:
            shop = history.shop
            same = np.where(shop >= 0, shop[nearest] == shop, session[nearest] == session)
            within[:, k] = found & same & (after_ms <= _SESSION_CAP_MS)
    return np.logical_or.accumulate(within, axis=1)


def _shop_ends(history: History, time: Ints) -> tuple[Ints, int]:
    """[N]: the newest event of the row's session by the shop's id; and the pause after which such a session is over."""
    last_ms, gap_ms = time.copy(), history.policy.gap_ms
    rows = np.flatnonzero(history.shop >= 0)
    if not len(rows):
        return last_ms, gap_ms
    order = rows[np.lexsort((time[rows], history.shop[rows]))]
    number, at = history.shop[order], time[order]
    start = np.flatnonzero(np.diff(number, prepend=-1))
    last_ms[order] = np.repeat(np.maximum.reduceat(at, start), np.diff(np.append(start, len(order))))
    pauses = np.diff(at, prepend=at[0])
    pauses[start] = 0
    longest = np.quantile(np.maximum.reduceat(pauses, start), _SHOP_PAUSES, method="higher")
    return last_ms, int(np.clip(longest, gap_ms, max(_SESSION_CAP_MS, gap_ms)))


def _ends(time: Ints, last_ms: Ints, gap_ms: int) -> Ints:
    """[N, 5]: when each horizon has elapsed, in ms; never before a shorter one."""
    ends = np.empty((len(time), len(HORIZONS)), np.int64)
    for k, horizon in enumerate(HORIZONS):
        ends[:, k] = time + _FIXED_MS.get(horizon, 0)
    ends[:, _SESSION] = np.minimum(last_ms + gap_ms, time + _SESSION_CAP_MS)
    return np.maximum.accumulate(ends, axis=1)
