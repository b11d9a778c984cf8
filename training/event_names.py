"""Which item, category and session each event of a log names: what the fold's hash buckets do not tell apart."""

from array import array
from collections.abc import Iterable, Iterator

import numpy as np

from training.history import Ints
from training.labels import UNKNOWN
from training.read import LoggedEvent, partition_of
from worker.contract.events import ClickEvent


class EventNames:
    """Numbers of ids in order of first appearance, event by event, so that a longer log never renumbers a shorter one's.

    Put `through` between a log and its fold; each event's offset is then its number here. UNKNOWN where an event does not say.
    """

    def __init__(self, with_event_ids: bool = False) -> None:
        """`with_event_ids` keeps every event's own id, too."""
        self.items: dict[str, int] = {}
        self.categories: dict[str, int] = {}
        self._sessions: dict[str, int] = {}
        self._item, self._category, self._session = array("q"), array("q"), array("q")
        self.event_ids: list[str] | None = [] if with_event_ids else None

    def through(self, events: Iterable[ClickEvent], partitions: int) -> Iterator[LoggedEvent]:
        """The events as a log whose offsets count them from 0, over all partitions."""
        for number, event in enumerate(events):
            self._item.append(_number(self.items, event.item_id))
            self._category.append(_number(self.categories, event.category))
            self._session.append(_number(self._sessions, event.session_id))
            if self.event_ids is not None:
                self.event_ids.append(event.event_id)
            yield LoggedEvent(event, partition_of(event.visitor_id, partitions), number)

    @property
    def item(self) -> Ints:
        """[N]: each event's item."""
        return np.array(self._item, np.int64)

    @property
    def category(self) -> Ints:
        """[N]: each event's category."""
        return np.array(self._category, np.int64)

    @property
    def session(self) -> Ints:
        """[N]: each event's session, as the shop itself names it."""
        return np.array(self._session, np.int64)


def _number(numbers: dict[str, int], name: str | None) -> int:
    return numbers.setdefault(name, len(numbers)) if name else UNKNOWN
