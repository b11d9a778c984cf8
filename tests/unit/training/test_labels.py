"""Labels against their definition, spelled out event by event."""

import numpy as np
import pytest
from msgspec import structs

from tests.unit.training.shop import HOUR, MINUTE, T0, click, on_one_partition, random_log
from training.history import History, fold_log
from training.labels import PAUSES, UNKNOWN, Labels, label
from worker.contract.events import EVENT_TYPES, HORIZONS, ClickEvent, ScoreEvent
from worker.contract.features import FeatureSpec, bucket
from worker.contract.session import SessionPolicy
from worker.labels import OutcomeJoin

POLICY = SessionPolicy()
SPEC = FeatureSpec()
SESSION = HORIZONS.index("session")


def labelled(events: list[ClickEvent]) -> tuple[History, Labels]:
    history = fold_log(on_one_partition(events), SPEC, POLICY)
    return history, label(history)


def of_event(history: History, array: np.ndarray, number: int) -> object:  # type: ignore[type-arg]
    """The array's entry of the log's event `number`."""
    (row,) = np.flatnonzero(history.rows["offset"] == number)
    return array[row].tolist()


#: Ends a log: another visitor, so late that everything before has matured.
END = click(1000, 10 * 24 * HOUR, "end")


def test_horizons_are_nested_and_exact_to_the_millisecond() -> None:
    """A purchase counts up to the horizon's very last millisecond."""
    at = {"5m": 5 * MINUTE, "30m": 30 * MINUTE, "24h": 24 * HOUR, "7d": 7 * 24 * HOUR}
    for horizon, length in at.items():
        for extra, inside in ((0, True), (1, False)):
            history, labels = labelled([click(0, 0), click(1, length + extra, kind="purchase"), END])
            within = of_event(history, labels.within[:, 0], 0)
            assert isinstance(within, list)
            assert within[HORIZONS.index(horizon)] is inside
            assert within == sorted(within), "what is within a horizon is within each longer one"


def test_the_session_horizon_ends_with_the_session() -> None:
    """A purchase an hour on counts while the session lasts, not in the next one."""
    steps = [click(k, k * 20 * MINUTE) for k in range(4)]
    history, labels = labelled([*steps, click(4, 80 * MINUTE, kind="purchase"), END])
    assert of_event(history, labels.within[:, 0], 0) == [False, False, True, True, True]
    history, labels = labelled([click(0, 0), click(1, 80 * MINUTE, kind="purchase"), END])
    assert of_event(history, labels.within[:, 0], 0) == [False, False, False, True, True]


def test_only_what_comes_later_counts() -> None:
    """Neither the event itself nor one before it; at the same time the later offset is later."""
    history, labels = labelled([click(0, 0), click(1, 0, kind="purchase"), click(2, 0), END])
    assert [of_event(history, labels.within[:, 0, 0], k) for k in range(3)] == [True, False, False]


def test_other_visitors_do_not_count() -> None:
    """Not even the next row of the table."""
    history, labels = labelled([click(0, 0, "a"), click(1, 1, "b", "purchase"), END])
    assert of_event(history, labels.within[:, 0, 4], 0) is False


def test_what_has_not_elapsed_is_not_known() -> None:
    """Neither a "no" nor an early "yes" is used before the horizon and the grace period have passed."""
    end = 5 * MINUTE + POLICY.grace_ms
    for last, known in ((end - 1, False), (end, True)):
        history, labels = labelled([click(0, 0), click(1, MINUTE, kind="purchase"), click(2, last, "other")])
        assert of_event(history, labels.matured[:, 0], 0) is known
        hazard = of_event(history, labels.hazard[:, 0], 0)
        assert hazard == ([1] if known else [UNKNOWN]) + [UNKNOWN] * 4
    history, labels = labelled([click(0, 0), click(1, end, "other")])
    assert of_event(history, labels.hazard[:, 0], 0) == [0] + [UNKNOWN] * 4


def test_a_hazard_is_asked_only_while_nothing_came() -> None:
    """After the purchase the further parts of time say nothing; before it each says no."""
    history, labels = labelled([click(0, 0), click(1, 10 * MINUTE, kind="purchase"), END])
    assert of_event(history, labels.hazard[:, 0], 0) == [0, 1, UNKNOWN, UNKNOWN, UNKNOWN]
    assert of_event(history, labels.hazard[:, 1], 0) == [0] * 5


def test_churn_and_next_event() -> None:
    """The last event of a finished session is the end; the others know their successor's type and item."""
    history, labels = labelled([click(0, 0), click(1, MINUTE, kind="cart", item="i7"), click(2, 2 * MINUTE, item=None), END])
    assert [of_event(history, labels.churn, k) for k in range(3)] == [0, 0, 1]
    assert [of_event(history, labels.next_type, k) for k in range(3)] == [EVENT_TYPES.index("cart"), 0, UNKNOWN]
    assert of_event(history, labels.next_item, 0) == bucket("item", "i7", SPEC.item_buckets)
    assert of_event(history, labels.next_item, 1) == UNKNOWN
    assert of_event(history, labels.churn, 3) == UNKNOWN


def test_the_next_events_category_and_pause() -> None:
    """Its bucket where it has one, and the pause to it by doublings; nothing behind the end, or while that is open."""
    at = [0, 0, 999, 2000, 5000, 5000 + 29 * MINUTE, 5000 + 50 * MINUTE]
    events = [structs.replace(click(k, time), category=None if k == 2 else f"c{k}") for k, time in enumerate(at)]
    history, labels = labelled([*events, END])
    assert [of_event(history, labels.pause, k) for k in range(7)] == [0, 1, 2, 2, 11, 11, UNKNOWN]
    buckets = [bucket("category", f"c{k}", SPEC.category_buckets) for k in range(7)]
    assert [of_event(history, labels.next_category, k) for k in range(7)] == [
        buckets[1], UNKNOWN, *buckets[3:7], UNKNOWN,
    ]  # fmt: skip
    history, labels = labelled([structs.replace(click(k, k * 12 * HOUR), session_id="s") for k in range(2)] + [END])
    assert of_event(history, labels.pause, 0) == PAUSES - 1
    history, labels = labelled([click(k, k * MINUTE) for k in range(2)])
    assert of_event(history, labels.pause, 0) == of_event(history, labels.next_category, 0) == UNKNOWN


def test_the_end_is_that_of_the_shops_own_session() -> None:
    """One that outlasts a pause goes on behind it; one that follows at once is another. Until it can be over nothing is known."""
    of = {0: "a", 1: "a", 2: "a", 3: "b", 4: "b", 5: "c"}
    at = [0, MINUTE, 3 * HOUR, 3 * HOUR + MINUTE, 3 * HOUR + 2 * MINUTE, 40 * HOUR]
    events = [structs.replace(click(k, at[k], kind="cart" if k == 2 else "view"), session_id=of[k]) for k in of]
    history, labels = labelled([*events, END])
    assert [of_event(history, labels.churn, k) for k in of] == [0, 0, 1, 0, 1, 1]
    assert [of_event(history, labels.next_type, k) for k in of] == [0, EVENT_TYPES.index("cart"), UNKNOWN, 0, UNKNOWN, UNKNOWN]
    assert (of_event(history, labels.next_item, 1) != UNKNOWN) == (of_event(history, labels.next_type, 1) != UNKNOWN)
    # The longest pause of such sessions is three hours: so long it may last.
    wait = at[2] - at[1] + POLICY.grace_ms
    for extra, known in ((-1, False), (0, True)):
        history, labels = labelled([*events, click(6, at[5] + wait + extra, "end")])
        assert (of_event(history, labels.churn, 5) == UNKNOWN) is not known


@pytest.mark.parametrize("seed", range(4))
def test_matured_labels_are_those_of_the_outcome_join(seed: int) -> None:
    """Training learns from the very labels that the running system reports, event by event and horizon by horizon."""
    log = random_log(seed, events=300, span_ms=9 * 24 * HOUR)
    history, labels = labelled(log)
    join = OutcomeJoin(POLICY)
    said: dict[str, dict[str, float] | float] = {
        "purchase": dict.fromkeys(HORIZONS, 0.5), "cart": dict.fromkeys(HORIZONS, 0.5), "churn": 0.5,
        "next_type": dict.fromkeys(EVENT_TYPES, 0.1),
    }  # fmt: skip
    outcomes = []
    for k, event in enumerate(log):
        join.add_click(event, k)
        join.add_score(
            ScoreEvent(f"clicks:0:{k}", event.event_id, event.visitor_id, "s", 1, event.event_time, T0, 0, True, "intent", "1",
                       "model", "h", said), k,
        )  # fmt: skip
        outcomes += join.advance()
    theirs = {(o.event_id, o.head, o.horizon): o.label for o in outcomes if not o.censored}
    ours = {}
    for row, offset in enumerate(history.rows["offset"]):
        name = log[int(offset)].event_id
        for k, horizon in enumerate(HORIZONS):
            if labels.matured[row, k]:
                for h, head in enumerate(("purchase", "cart")):
                    ours[name, head, horizon] = int(labels.within[row, h, k])
    assert len(ours) > 1000
    assert {key: value for key, value in theirs.items() if key[1] != "churn"} == ours
    churn = {key[0]: value for key, value in theirs.items() if key[1] == "churn"}
    assert churn == {
        log[int(offset)].event_id: int(labels.churn[row])
        for row, offset in enumerate(history.rows["offset"])
        if labels.matured[row, SESSION] and labels.churn[row] != UNKNOWN
    }
