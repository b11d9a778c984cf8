"""What holds for every Scorer, whatever is behind it."""

import numpy as np

from worker.contract.events import EVENT_TYPES, HORIZONS, ClickEvent
from worker.contract.features import FeatureSpec, ModelInputs, encode
from worker.contract.fold import Fold
from worker.contract.session import SessionPolicy
from worker.scoring.base import Scorer, Scores

_T0 = 1_700_000_000_000
#: Sums run in another order in another batch.
_TOLERANCE = 1e-5


def random_inputs(sessions: int, seed: int, longest: int = 64) -> ModelInputs:
    """Sessions of all lengths, folded from random events: missing prices, missing items and all types among them."""
    rng = np.random.default_rng(seed)
    fold = Fold(FeatureSpec(), SessionPolicy())
    ends = []
    for visitor in range(sessions):
        length = int(rng.integers(1, longest + 1))
        for step in range(length):
            event = ClickEvent(
                event_id=f"{visitor}-{step}",
                event_time=_T0 + visitor * 60_000 + step * int(rng.integers(1, 20)) * 1000,
                visitor_id=f"v{visitor}",
                event_type=str(rng.choice(EVENT_TYPES)),  # type: ignore[arg-type]
                item_id=None if rng.random() < 0.2 else f"i{rng.integers(50)}",
                category=None if rng.random() < 0.3 else f"c{rng.integers(9)}",
                price=None if rng.random() < 0.3 else float(rng.lognormal(3, 2)),
            )
            session, _, _ = fold.apply(event, step)
        ends.append(session)
    return encode(ends)


async def check_laws(scorer: Scorer, inputs: ModelInputs, version: str) -> Scores:
    """Scores the batch whole, in part and turned round, and compares. Returns the scores of the whole."""
    rows = len(inputs.length)
    whole = await scorer.score(inputs, version)
    _check_values(whole, rows, version)
    _check_same(whole, await scorer.score(inputs, version), np.arange(rows))

    turned = np.arange(rows)[::-1]
    _check_same(whole, await scorer.score(_take(inputs, turned), version), turned)
    for row in {0, rows // 2, rows - 1}:
        _check_same(whole, await scorer.score(_take(inputs, np.array([row])), version), np.array([row]))
    return whole


def _check_values(scores: Scores, rows: int, version: str) -> None:
    assert scores.version == version
    assert scores.path in ("model", "fallback")
    assert scores.purchase.shape == scores.cart.shape == (rows, len(HORIZONS))
    assert scores.churn.shape == (rows,)
    assert scores.next_type.shape == (rows, len(EVENT_TYPES))
    for head in (scores.purchase, scores.cart, scores.churn, scores.next_type):
        assert head.dtype == np.float32
        assert np.isfinite(head).all()
        assert ((head >= 0) & (head <= 1)).all()
    for head in (scores.purchase, scores.cart):
        assert (np.diff(head, axis=1) >= 0).all(), "a longer horizon contains the shorter one"
    np.testing.assert_allclose(scores.next_type.sum(axis=1), 1, atol=1e-4)
    if scores.next_items is not None:
        chances = scores.next_items.chances
        assert len(chances) == len(scores.next_items.named()) == rows
        assert ((chances >= 0) & (chances <= 1)).all()
        assert (np.diff(chances, axis=1) <= 0).all(), "likeliest first"


def _check_same(whole: Scores, part: Scores, rows: np.ndarray) -> None:
    """`part` scored rows `rows` of what `whole` scored."""
    for head in ("purchase", "cart", "churn", "next_type"):
        np.testing.assert_allclose(getattr(part, head), getattr(whole, head)[rows], rtol=0, atol=_TOLERANCE, err_msg=head)
    assert (whole.next_items is None) == (part.next_items is None)
    if whole.next_items is not None and part.next_items is not None:
        np.testing.assert_allclose(part.next_items.chances, whole.next_items.chances[rows], rtol=0, atol=_TOLERANCE)


def _take(inputs: ModelInputs, rows: np.ndarray) -> ModelInputs:
    """These sessions only, padded no further than they need: as another batch would have them."""
    steps = -(-int(inputs.length[rows].max()) // 8) * 8
    return ModelInputs(inputs.codes[rows][:, :steps], inputs.numbers[rows][:, :steps], inputs.length[rows])
