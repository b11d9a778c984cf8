"""Sessions and counters of one partition in columns: what `Fold` says, a batch at a time.

A visitor who came by has a slot here, with its rows in one arena; whoever was read back and has not come yet, or has not come for
long where slots are few, is cold: packed, until then. Late events are folded by `Session.append` itself.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from worker.contract import kernel
from worker.contract.clicks import Clicks, read, texts_of
from worker.contract.codec import MIN_EVENT_TIME_MS, encode
from worker.contract.cold import Cold, InMemory
from worker.contract.counters import WEIGHTS, Counters
from worker.contract.events import EVENT_TYPES, ClickEvent
from worker.contract.features import CODES, NUMBERS, ROW, TYPE_CODE, FeatureSpec, ModelInputs, padded_steps
from worker.contract.growing import Growing
from worker.contract.kernel import HEAD, LATE, NEW_SESSION, WHOLE
from worker.contract.packed import (
    FIELDS,
    HEAD_BYTES,
    head_of,
    seen_ms_of,
    session_and_position,
    session_of,
    unpack,
    visitor_of,
)
from worker.contract.revision import Revision, revisions
from worker.contract.session import Arrival, Session, SessionPolicy, session_number
from worker.contract.step import Changed, Step
from worker.contract.users import Rows, anonymous_before

Longs = npt.NDArray[np.int64]

#: Rows of a small block: most sessions stay this short. Longer ones move to a block of a whole window.
_SMALL_ROWS = 8
_FIRST_SLOTS, _FIRST_ROWS = 256, 4096
_ROW_BYTES = ROW.itemsize
#: A changelog record holds all rows of a session up to this many, and else only those that are new.
_WHOLE_ROWS = 4
_UNKNOWN = 255
_NO_SLOTS = np.empty(0, np.int64)
#: Of how many sessions in memory the oldest one becomes cold: all would have to be looked at for the oldest of all.
_LOOKED_AT = 8
#: How often a visitor's time until forgotten is looked for any that are due.
_LOOKS = 64


class Slab:
    """The fold of one partition. The same events in the same order give the same sessions as `Fold`, byte for byte.

    `cool` leaves up to `most_hot` sessions in memory, and puts others where the `cold` ones are.
    """

    def __init__(self, spec: FeatureSpec, policy: SessionPolicy, cold: Cold | None = None, most_hot: int | None = None) -> None:
        self.spec = spec
        self.policy = policy
        self.counters = Counters(spec)
        self._slots: dict[bytes, int] = {}  # by key
        self._keys: list[bytes] = []  # by slot
        self._cold: Cold = InMemory() if cold is None else cold
        self._most_hot = most_hot
        self._hand = 0  # the slot where `cool` goes on
        small = min(_SMALL_ROWS, spec.window)
        weights = np.zeros((len(EVENT_TYPES) + 1, 3))
        for name, code in TYPE_CODE.items():
            weights[code] = WEIGHTS[name]
        self._rules = kernel.Rules(
            policy.gap_ms, policy.grace_ms, policy.forget_ms, spec.window, small, 0.5, spec.half_life_s, weights
        )
        self._heads = Growing(HEAD, _FIRST_SLOTS)
        self._words = Growing(np.uint64, max(_FIRST_ROWS, spec.window), kernel.ROW_WORDS)
        self._blocks = Growing(np.int64, len(self._words) // small + 1, 2)
        self._free = np.zeros(3, np.int64)
        self._changed: list[npt.NDArray[np.int64]] = []  # slots since the last `take_changed`, some more than once
        self._unused: list[int] = []  # slots of visitors who were forgotten
        self._newest_ms = np.zeros(1, np.int64)
        self._expired_ms = 0  # newest event time when `expire` last looked

    def __len__(self) -> int:
        return len(self._slots) + len(self._cold)

    def fold(
        self, clicks: Clicks, offsets: Sequence[int] | Longs, encode: bool = True, of_user: npt.NDArray[np.bool_] | None = None
    ) -> Step:
        """Fold events in. `offsets` is where they stand in the partition's log; `encode` asks for the model's inputs, and
        `of_user` [B] says of which events it is asked whether they are `logins`.
        """
        size = len(clicks.keys)
        batch = kernel.Batch(
            self._slots_of(clicks.keys),
            clicks.time_ms,
            np.array(offsets, np.int64),
            clicks.codes,
            self.counters.cells_of(clicks.codes),
            clicks.price,
            clicks.event_hash,
            np.zeros(size, np.bool_) if of_user is None else of_user,
        )
        folded = kernel.Folded(
            np.full(size, _UNKNOWN, np.uint8),
            np.empty(size, np.uint64),
            np.empty(size, np.int64),
            np.empty(size, np.int64),
            np.zeros(size, np.uint64),
        )
        wanted, window = size if encode else 0, padded_steps(self.spec.window)
        inputs = ModelInputs(
            np.empty((wanted, window, len(CODES)), np.int32),
            np.empty((wanted, window, len(NUMBERS)), np.float32),
            np.empty((wanted, 1), np.int32),
        )
        out = kernel.Encoded(inputs.codes.view(np.uint64), inputs.numbers.view(np.uint64), inputs.length[:, 0])
        newest_ms = np.maximum.accumulate(np.maximum(batch.time_ms, self.newest_ms))
        remote = batch.time_ms + self.policy.forget_ms <= newest_ms
        at = changed = 0
        anew: list[Revision] = []
        logins: dict[int, Rows] = {}
        while True:
            at, changed, login = kernel.fold(at, batch, folded, self._memory(), self._rules, out, changed)
            self._name_sessions(batch, remote, folded)
            if login:
                self._note_login(at - 1, batch, logins)
            elif at == size:
                break
            elif folded.outcome[at] == LATE:
                anew += self._fold_late(at, clicks.event(at), batch, folded)
                if encode:
                    head = self._heads[batch.slot[at]]
                    kernel.write_window(head["home"], head["length"], self._memory(), out, changed)
                if batch.of_user[at]:
                    self._note_login(at, batch, logins)
                changed += 1
                at += 1
            else:
                self._grow_arena()
        done = np.flatnonzero(folded.outcome <= LATE)
        self._changed.append(batch.slot[done])
        seen = None
        if encode and changed:
            seen = inputs.part(slice(changed))
        return Step(folded.outcome, done, folded.session[done], folded.position[done], folded.chain[done], seen, anew, logins)

    @property
    def newest_ms(self) -> int:
        """The newest event time so far."""
        return int(self._newest_ms[0])

    @newest_ms.setter
    def newest_ms(self, time_ms: int) -> None:
        self._newest_ms[0] = self._expired_ms = time_ms

    def sessions(self) -> Iterator[Session]:
        """Every visitor's session, but for forgotten visitors."""
        for key, slot in self._slots.items():
            if self._heads[slot]["seen_ms"] > self._forgotten_ms:
                yield self._read(visitor_of(key), slot)
        for key, packed in self._cold.items():
            if seen_ms_of(packed) > self._forgotten_ms:
                yield unpack(visitor_of(key), packed)

    @property
    def _forgotten_ms(self) -> int:
        """Whoever was last seen up to here is forgotten."""
        return self.newest_ms - self.policy.forget_ms

    def expire(self, most: int = 2000) -> list[bytes]:
        """Drop sessions of forgotten visitors, up to about `most` of them; returns their keys.

        Looks for some only after the newest event time has moved on by a part of `policy.forget_ms`.
        """
        if self.newest_ms < self._expired_ms + self.policy.forget_ms // _LOOKS:
            return []
        heads = self._heads[: len(self._keys)]
        slots = np.flatnonzero((heads["seen_ms"] <= self._forgotten_ms) & (heads["position"] > 0))[:most]
        gone = self._vacate(slots)
        self._changed = [changed[~np.isin(changed, slots)] for changed in self._changed]
        gone += self._cold.take_seen(self._forgotten_ms, most)
        if len(gone) < most:
            self._expired_ms = self.newest_ms
        return gone

    def cool(self) -> None:
        """Let the sessions of visitors who have not come for long become cold, until no more than `most_hot` are in memory.

        To be called when all changes were taken. Of some slots in turn those go that changed longest ago.
        """
        surplus = 0 if self._most_hot is None else len(self._slots) - self._most_hot
        if surplus <= 0:
            return
        looked_at = min(_LOOKED_AT * surplus, len(self._keys))
        slots = (self._hand + np.arange(looked_at)) % len(self._keys)
        self._hand = (self._hand + looked_at) % len(self._keys)
        slots = slots[self._heads["position"][slots] > 0]
        slots = slots[np.argsort(self._heads["seen_ms"][slots], kind="stable")[:surplus]]
        packed, sizes = self._pack(self._heads[slots], np.zeros(len(slots), np.int64))
        keys, starts = self._vacate(slots), (np.cumsum(sizes) - sizes).tolist()
        self._cold.add((key, packed[at : at + size]) for key, at, size in zip(keys, starts, sizes.tolist(), strict=True))

    def take_changed(self, mark: bytes = b"") -> Changed:
        """Sessions that changed since the last call, each behind the mark."""
        slots = np.unique(np.concatenate([_NO_SLOTS, *self._changed]))
        self._changed.clear()
        heads = self._heads[slots]
        whole = (heads["unsaved"] == WHOLE) | (heads["length"] <= _WHOLE_ROWS)
        first = np.where(whole, 0, heads["length"] - heads["unsaved"])
        self._heads["unsaved"][slots] = 0
        packed, sizes = self._pack(heads, first, mark)
        keys = self._keys
        return Changed([keys[slot] for slot in slots.tolist()], first, packed, sizes)

    def _pack(self, heads: npt.NDArray[np.void], first: Longs, mark: bytes = b"") -> tuple[bytes, Longs]:
        """The sessions with their rows from `first` on, packed one behind the other, and how many bytes each has."""
        ends = np.cumsum(len(mark) + HEAD_BYTES + (heads["length"] - first) * _ROW_BYTES)
        packed = np.empty(ends[-1] if len(ends) else 0, np.uint8)
        kernel.pack(heads, first, self._words.array.view(np.uint8), np.frombuffer(mark, np.uint8), ends, HEAD_BYTES, packed)
        return packed.tobytes(), np.diff(ends, prepend=0)

    def _vacate(self, slots: Longs) -> list[bytes]:
        """Free the slots; returns the keys of whose they were."""
        keys = [self._keys[slot] for slot in slots.tolist()]
        for slot, key in zip(slots.tolist(), keys, strict=True):
            del self._slots[key]
            self._release(int(self._heads[slot]["home"]), int(self._heads[slot]["room"]))
            self._heads[slot] = np.zeros((), HEAD)
        self._unused += slots.tolist()
        return keys

    def drop_changed(self) -> None:
        """Nobody asks which sessions changed so far."""
        self._changed.clear()

    def put(self, key: bytes, packed: bytes) -> None:
        """A whole session as `take_changed` packs it. Raises ValueError if it cannot be one."""
        if len(packed) < HEAD_BYTES or (len(packed) - HEAD_BYTES) % _ROW_BYTES:
            raise ValueError(f"{len(packed)} bytes are no packed session")
        self._cold[key] = packed

    def extend(self, key: bytes, packed: bytes) -> bool:
        """New rows as `take_changed` packs them; False if they do not follow on what is here."""
        before = self._cold.get(key)
        added = (len(packed) - HEAD_BYTES) // _ROW_BYTES
        if before is None:
            return False
        session, position = session_and_position(packed)
        if (session, position - added) != session_and_position(before):
            return False
        self._cold[key] = packed[:HEAD_BYTES] + before[HEAD_BYTES:] + packed[HEAD_BYTES:]
        return True

    def forget(self, key: bytes) -> None:
        """A session that was put is gone."""
        self._cold.pop(key, None)

    def _slots_of(self, keys: list[bytes]) -> Longs:
        slots = list(map(self._slots.get, keys))
        if None in slots:
            slots = [self._slot(key) if known is None else known for key, known in zip(keys, slots, strict=True)]
        return np.array(slots, np.int64)

    def _slot(self, key: bytes) -> int:
        """The visitor's slot, made if there is none."""
        known = self._slots.get(key)
        if known is not None:
            return known
        if self._unused:
            slot = self._unused.pop()
            self._keys[slot] = key
        else:
            slot = len(self._keys)
            self._keys.append(key)
        self._slots[key] = slot
        if slot == len(self._heads):
            self._heads.double()
        self._heads[slot]["opened"] = -1
        packed = self._cold.pop(key, None)
        if packed is not None:
            self._write(slot, unpack(visitor_of(key), packed), seen_ms_of(packed))
            self._heads[slot]["unsaved"] = 0
        return slot

    def _name_sessions(self, batch: kernel.Batch, remote: npt.NDArray[np.bool_], folded: kernel.Folded) -> None:
        """Give sessions that the kernel has begun their ids, which are hashes of text."""
        fresh = np.flatnonzero((folded.outcome == NEW_SESSION) & (folded.opened >= 0))
        if not len(fresh):
            return
        slots = batch.slot[fresh]
        columns = (slots, batch.time_ms[fresh], batch.offset[fresh], remote[fresh])
        began = zip(*(column.tolist() for column in columns), strict=True)
        ids = np.zeros(len(batch.slot), np.uint64)
        ids[fresh] = [
            session_number(visitor_of(self._keys[slot]), time_ms, offset if far else None) for slot, time_ms, offset, far in began
        ]
        still = self._heads["opened"][slots] == fresh
        slots, fresh = slots[still], fresh[still]
        self._heads["session"][slots], self._heads["opened"][slots] = ids[fresh], -1
        unnamed = np.flatnonzero((folded.outcome != _UNKNOWN) & (folded.opened >= 0))
        folded.session[unnamed] = ids[folded.opened[unnamed]]
        folded.opened[unnamed] = -1

    def _fold_late(self, at: int, event: ClickEvent, batch: kernel.Batch, folded: kernel.Folded) -> list[Revision]:
        """Fold a late event; returns which others are to be scored anew."""
        slot = int(batch.slot[at])
        codes = tuple(batch.codes[at].tolist())
        shared = self.counters.read(codes, event.event_time)
        arrival = Arrival(event, int(batch.event_hash[at]), int(batch.offset[at]), codes, shared)  # begins no session
        before = self._read(event.visitor_id, slot)
        session, _ = before.append(arrival, self.spec, self.policy)
        self.counters.add(event, codes)
        self._write(slot, session, self.newest_ms)
        head = self._heads[slot]
        folded.position[at], folded.session[at], folded.opened[at] = head["position"], head["session"], -1
        folded.chain[at] = self._words[head["home"] + head["length"] - 1, kernel.CHAIN]
        return revisions(before, arrival, session, self.spec)

    def _note_login(self, at: int, batch: kernel.Batch, logins: dict[int, Rows]) -> None:
        """The event was just folded: note what of its session is without a user right before it, if anything."""
        earlier = anonymous_before(self._rows(int(batch.slot[at])), int(batch.offset[at]))
        if len(earlier):
            logins[at] = earlier

    def _read(self, visitor: str, slot: int) -> Session:
        head = self._heads[slot]
        return session_of(visitor, tuple(head[name].item() for name in FIELDS), self._rows(slot))

    def _rows(self, slot: int) -> bytes:
        head = self._heads[slot]
        rows: bytes = self._words[head["home"] : head["home"] + head["length"]].tobytes()
        return rows

    def _write(self, slot: int, session: Session, seen_ms: int) -> None:
        """Put a session into its slot; the changelog needs it whole."""
        rows = np.frombuffer(session.rows, np.uint64).reshape(-1, kernel.ROW_WORDS)
        room = self._rules.small if len(rows) <= self._rules.small else self.spec.window
        head = self._heads[slot]
        if head["room"] != room:
            if head["room"]:
                self._release(int(head["home"]), int(head["room"]))
            head["home"], head["room"] = self._allocate(room), room
        self._words[head["home"] : head["home"] + len(rows)] = rows
        for name, value in zip(FIELDS, head_of(session, seen_ms), strict=True):
            head[name] = value
        head["length"], head["unsaved"], head["opened"] = len(rows), WHOLE, -1

    def _allocate(self, room: int) -> int:
        kind = int(room != self._rules.small)
        if not kernel.has_block(self._memory(), kind, room):
            self._grow_arena()
        return int(kernel.take(self._memory(), kind, room))

    def _release(self, home: int, room: int) -> None:
        kernel.let_go(self._memory(), int(room != self._rules.small), home)

    def _grow_arena(self) -> None:
        self._words.double()
        self._blocks.double()

    def _memory(self) -> kernel.Memory:
        words = self._words.array
        return kernel.Memory(
            self._heads.array,
            words,
            words.view(np.int32),
            words.view(np.float32),
            self._blocks.array,
            self._free,
            self._newest_ms,
            *self.counters.memory,
        )


def warm_up() -> None:
    """Compile what folds a batch, or load it from disk where that was done before: seconds that no partition should wait for."""
    spec, event = FeatureSpec(), ClickEvent("e", MIN_EVENT_TIME_MS, "v", "view")
    clicks = read(texts_of([encode(event)]), texts_of([b"v"]), np.array([MIN_EVENT_TIME_MS]), spec, 0).clicks
    slab = Slab(spec, SessionPolicy())
    slab.fold(clicks, [0])
    slab.take_changed(b"mark")
