"""Small click logs for property tests: a handful of visitors, items and times, so that everything that can meet does."""

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from worker.contract.clicks import clicks_of
from worker.contract.events import ClickEvent
from worker.contract.features import FeatureSpec
from worker.contract.fold import Fold, Step
from worker.contract.session import SessionPolicy
from worker.contract.slab import Slab
from worker.contract.step import Step as SlabStep
from worker.contract.users import user_of

START_MS = 1_700_000_000_000
#: Few buckets, so that ids share them; a window that fills after a few events.
SPEC = FeatureSpec(window=6, item_buckets=6, category_buckets=4, brand_buckets=3, half_life_s=60.0)
#: More counters than one record of the changelog holds whole.
WIDE = FeatureSpec(window=6, item_buckets=40, category_buckets=20, brand_buckets=20, half_life_s=60.0)
POLICY = SessionPolicy(gap_ms=10_000, grace_ms=4_000)
#: The same, but visitors are forgotten within a log.
FORGETFUL = SessionPolicy(gap_ms=10_000, grace_ms=4_000, forget_ms=45_000)

_STEPS_MS = (0, 1, 700, 2_000, 3_999, 9_999, 10_000, 30_000)
_LATENESS_MS = (0, 0, 0, 1, 700, 3_999, 4_000, 4_001, 20_000)
_KINDS = ("view", "view", "cart", "purchase", "search")
_ITEMS = (None, "", "lamp", "chair", "table")
_VISITORS: tuple[dict[str, str], ...] = (
    {}, {}, {"device": "phone", "country": "NL", "referrer": "https://a.b/c"}, {"device": "", "user_id": "u", "referrer": "mail"},
    {"user_id": "w"},
)  # fmt: skip


@st.composite
def logs(
    draw: st.DrawFn, visitors: int = 3, max_size: int = 30, steps_ms: Sequence[int] = _STEPS_MS, late: bool = True
) -> list[ClickEvent]:
    """A log of up to `max_size` events of some visitors, all with ids of their own; some arrive late."""
    choice = st.tuples(
        st.integers(0, visitors - 1),
        st.sampled_from(steps_ms),
        st.sampled_from(_LATENESS_MS if late else (0,)),
        st.sampled_from(_KINDS),
        st.sampled_from(_ITEMS),
        st.sampled_from((None, 0.0, 9.99)),
        st.sampled_from(_VISITORS),
    )
    events = []
    now_ms = START_MS
    for number, (visitor, step_ms, lateness_ms, kind, item, price, who) in enumerate(draw(st.lists(choice, max_size=max_size))):
        now_ms += step_ms
        events.append(click(f"e{number}", now_ms - lateness_ms, f"v{visitor}", kind, item, price, **who))
    return events


def click(
    event_id: str,
    event_time: int,
    visitor_id: str = "v",
    kind: str = "view",
    item: str | None = None,
    price: float | None = None,
    **who: str,
) -> ClickEvent:
    """An event; its category and brand follow from its item. `who` are fields of who visits."""
    return ClickEvent(
        event_id,
        event_time,
        visitor_id,
        kind,  # type: ignore[arg-type]  # the strategies take types from EVENT_TYPES
        item_id=item,
        category=item and item[-1],
        brand=item and item[:1],
        price=price,
        **who,
    )


def folded(events: Sequence[ClickEvent], spec: FeatureSpec = SPEC, policy: SessionPolicy = POLICY) -> tuple[Fold, list[Step]]:
    """The fold after the events, whose offsets are their places in the log, and what each did."""
    fold = Fold(spec, policy)
    return fold, [fold.apply(event, offset) for offset, event in enumerate(events)]


def fold_events(slab: Slab, events: Sequence[ClickEvent], offsets: Sequence[int], encode: bool = True) -> SlabStep:
    """Fold events into a slab, and ask which are logins."""
    of_user = np.array([user_of(event) is not None for event in events], bool)
    return slab.fold(clicks_of(events, slab.spec), offsets, encode, of_user)
