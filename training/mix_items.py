"""How much each part of the next items' mixture counts: fitted on sessions that neither the tables nor the network have seen."""

import numpy as np
import torch

from training.examples import Examples
from training.labels import UNKNOWN
from training.next_items import BACK, NextItems, likeliest_weights
from training.serving import ServingModel
from training.train import tensors

_BATCH_EVENTS = 2048
#: More events tell a few dozen weights no better.
_MOST_EVENTS = 20_000


@torch.no_grad()
def mix(model: ServingModel, later: Examples) -> NextItems:
    """The model's tables with the weights under which the items that followed in `later` are likeliest.

    An item that is no candidate says nothing; without any other, the weights stay.
    """
    item, parts, seen = model.candidates.numbers_of(later), [], 0
    for batch in later.batches(_BATCH_EVENTS, np.random.default_rng(0)):
        # A next item is known only where a row of the session follows.
        following = np.minimum(batch.row + 1, len(item) - 1)
        target = np.where(batch.next_item != UNKNOWN, item[following], UNKNOWN)
        session, at = np.nonzero(target != UNKNOWN)
        inputs = tensors(batch.inputs)
        where = torch.from_numpy(session), torch.from_numpy(at)
        wanted = torch.from_numpy(target[session, at])
        given, speaks = model.next_items.of_target(inputs[0], *where, wanted)
        by_network = model.by_network(model.network(*inputs).next_item[where]).gather(1, wanted[:, None])
        parts.append(
            (
                torch.cat([given, by_network], dim=1).double().numpy(),
                torch.cat([speaks, torch.ones_like(speaks[:, :1])], dim=1).double().numpy(),
                np.minimum(at, BACK - 1),
            )
        )
        seen += len(at)
        if seen >= _MOST_EVENTS:
            break
    if seen:
        weights = likeliest_weights(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        model.next_items.weight.copy_(torch.from_numpy(weights))
    return model.next_items
