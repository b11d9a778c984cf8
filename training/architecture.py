"""The sizes of a network: kept in each version's manifest, so that it can be built again."""

import msgspec


class Architecture(msgspec.Struct, frozen=True):
    """A small Transformer of the Llama kind.

    `item_width` and `category_width` are those of the tables; `item_rows` is how many rows that of items has at most, which
    more buckets share. In training `dropout` acts on rows and in the trunk, and the share
    `id_dropout` of the categories is hidden.
    """

    width: int = 64
    layers: int = 2
    heads: int = 4
    feed_forward: int = 128
    item_width: int = 32
    item_rows: int = 4096
    category_width: int = 16
    dropout: float = 0.1
    id_dropout: float = 0.2
