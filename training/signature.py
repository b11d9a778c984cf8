"""What a version's graph takes and gives, in this order; shapes without the batch. T is the length."""

from worker.contract.events import EVENT_TYPES, HORIZONS
from worker.contract.features import CODES, NUMBERS

#: How many next items a score names.
TOP_ITEMS = 10

INPUTS: dict[str, list[int | str]] = {"codes": ["T", len(CODES)], "numbers": ["T", len(NUMBERS)], "length": [1]}
OUTPUTS: dict[str, list[int]] = {
    "purchase": [len(HORIZONS)],
    "cart": [len(HORIZONS)],
    "churn": [1],
    "next_type": [len(EVENT_TYPES)],
    "next_items": [TOP_ITEMS],
    "next_item_p": [TOP_ITEMS],
}
