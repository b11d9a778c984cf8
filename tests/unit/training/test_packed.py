"""Rows without padding, against loops over sessions."""

import numpy as np
import torch

from training.packed import Packed

LENGTHS, STEPS = (3, 1, 5), 6


def test_rows_lie_one_behind_the_other() -> None:
    """Each is where its session and place say, and what is spread out again is what was taken."""
    where = Packed.up_to(torch.tensor(LENGTHS) - 1, STEPS)
    padded = torch.arange(3 * STEPS * 2).reshape(3, STEPS, 2)
    expected = torch.cat([padded[k, :length] for k, length in enumerate(LENGTHS)])
    assert torch.equal(where.taken(padded), expected)
    assert torch.equal(padded[where.session, where.place], expected)
    for k, length in enumerate(LENGTHS):
        assert torch.equal(where.spread(expected)[k, :length], padded[k, :length])
    assert torch.equal(expected[where.first], padded[:, 0])
    assert torch.equal(expected[where.last], torch.stack([padded[k, length - 1] for k, length in enumerate(LENGTHS)]))


def test_no_session_knows_of_another() -> None:
    """Neither the row before nor the sum so far reaches into the session before; sessions may be whole."""
    rng = np.random.default_rng(0)
    for where in (Packed.up_to(torch.tensor(LENGTHS) - 1, STEPS), Packed.whole(torch.zeros(3, 2))):
        rows = torch.from_numpy(rng.normal(size=(len(where.session), 4)))
        before, summed = torch.zeros_like(rows), rows.clone()
        for n, place in enumerate(where.place.tolist()):
            if place:
                before[n] = rows[n - 1]
                summed[n] += summed[n - 1]
        torch.testing.assert_close(where.before(rows), before)
        torch.testing.assert_close(where.summed(rows), summed)
