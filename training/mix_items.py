"""How much each part of the next items' mixture counts: fitted on sessions that the lists have not seen."""

import numpy as np
import torch

from training.candidates import Candidates
from training.examples import Examples
from training.labels import UNKNOWN
from training.next_items import BACK, NextItems, likeliest_weights
from training.train import tensors

_BATCH_EVENTS = 2048
#: More events tell a few dozen weights no better.
_MOST_EVENTS = 20_000


@torch.no_grad()
def mix(lists: NextItems, candidates: Candidates, later: Examples) -> NextItems:
    """The lists, with the weights under which the items that followed in `later` are likeliest.

    An item that is no candidate says nothing; without any other, the weights stay.
    """
    item, parts, seen = candidates.next_numbers_of(later), [], 0
    for batch in later.batches(_BATCH_EVENTS, np.random.default_rng(0)):
        target = np.where(batch.predict, item[batch.row], UNKNOWN)
        session, at = np.nonzero(target != UNKNOWN)
        codes, _ = tensors(batch.inputs)
        where = torch.from_numpy(session), torch.from_numpy(at)
        wanted = torch.from_numpy(target[session, at])
        given, left, speaks = lists.of_target(codes, *where, wanted)
        any_item = torch.ones_like(given[:, :1])
        parts.append(
            (
                torch.cat([given + left / len(candidates.ids), any_item / len(candidates.ids)], dim=1).double().numpy(),
                torch.cat([speaks, any_item], dim=1).double().numpy(),
                np.minimum(at, BACK - 1),
            )
        )
        seen += len(at)
        if seen >= _MOST_EVENTS:
            break
    if seen:
        weights = likeliest_weights(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        lists.weight.copy_(torch.from_numpy(weights))
    return lists
