"""The sizes of a network: kept in each version's manifest, so that it can be built again."""

import msgspec


class Architecture(msgspec.Struct, frozen=True):
    """A small Transformer of the Llama kind. `item_width` is that of the item table, `dropout` acts in training only."""

    width: int = 64
    layers: int = 2
    heads: int = 4
    feed_forward: int = 128
    item_width: int = 32
    dropout: float = 0.1
