"""Cold sessions on disk, in RocksDB: memory for the hot ones is enough, however many visitors a shop has.

This is memory that overflows, and no second copy of the truth: what is on disk goes with the process, and each start reads the
changelog. So nothing here has to be compared with it, and a damaged disk ends a worker that then reads all back.
"""

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Iterable, Iterator, MutableMapping
from pathlib import Path
from typing import cast

from rocksdict import BlockBasedOptions, Cache, Options, Rdict, WriteBatch, WriteOptions

from worker import metrics
from worker.contract.packed import seen_ms_of
from worker.errors import StateError
from worker.settings import StateSettings

_PREFIX = "inkling-cold-"
#: Memory for what is written and for what is read, of all partitions together; and files that are open at a time.
_WRITTEN_BYTES, _READ_BYTES, _OPEN_FILES = 16 << 20, 32 << 20, 256
_BLOOM_BITS = 10
#: Behind a partition's number: its sessions by key, and their keys by the time when they last changed.
_SESSIONS, _SEEN = b"\x00", b"\x01"


class ColdStore:
    """A new database in a folder of its own within `directory`, for all partitions of this process.

    `most_hot` sessions of a partition are to stay in memory. Raises StateError when it cannot be made there.
    """

    def __init__(self, directory: Path, most_hot: int) -> None:
        self.most_hot = most_hot
        self._numbers = itertools.count()
        try:
            directory.mkdir(parents=True, exist_ok=True)
            _remove_what_nobody_has(directory)
            self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=directory))
            self.db = Rdict(str(self._folder), _options())
        except Exception as error:  # RocksDB's own have no class
            raise StateError(f"no sessions can be kept in {directory} ({error}): set INKLING_STATE__DIR to another") from error
        unlogged = WriteOptions()
        unlogged.disable_wal = True  # type: ignore[method-assign, assignment]  # its stub is wrong
        self.db.set_write_options(unlogged)

    def sessions(self, rows_kept: MutableMapping[bytes, int]) -> "ColdSessions":
        """Room for the sessions of one partition, without any."""
        return ColdSessions(self.db, next(self._numbers).to_bytes(8, "big"), rows_kept)

    def close(self) -> None:
        """Remove it."""
        self.db.close()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextlib.contextmanager
def cold_store(settings: StateSettings) -> Iterator[ColdStore | None]:
    """The store that the settings ask for, until the end; None where all sessions are to stay in memory."""
    if settings.hot_sessions is None:
        yield None
        return
    store = ColdStore(settings.dir, settings.hot_sessions)
    try:
        yield store
    finally:
        store.close()


class ColdSessions(MutableMapping[bytes, bytes]):
    """Packed sessions of one partition by key. Each has its entry of `rows_kept` with it: that is by visitor, too.

    All methods raise StateError when the disk fails.
    """

    def __init__(self, db: Rdict, partition: bytes, rows_kept: MutableMapping[bytes, int]) -> None:
        self._db = db
        self._sessions, self._seen = partition + _SESSIONS, partition + _SEEN
        self._rows_kept = rows_kept
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return (key for key, _ in self._entries(self._sessions))

    def __getitem__(self, key: bytes) -> bytes:
        return self._value(key)[1]

    def __setitem__(self, key: bytes, packed: bytes) -> None:
        self.pop(key)
        self.add([(key, packed)])

    def __delitem__(self, key: bytes) -> None:
        self._take(key)

    def pop(self, key: bytes, default: None = None) -> bytes | None:  # type: ignore[override]  # nobody asks for another default
        """The session, which is gone from here; its entry of `rows_kept` is there again. None when there is none."""
        try:
            return self._take(key)
        except KeyError:
            return default

    def add(self, sessions: Iterable[tuple[bytes, bytes]]) -> None:
        """Keep these, of which none is there."""
        batch = WriteBatch(raw_mode=True)
        for key, packed in sessions:
            rows = self._rows_kept.pop(key, 0)
            size = (rows.bit_length() + 7) // 8
            batch.put(self._sessions + key, size.to_bytes(2, "big") + rows.to_bytes(size, "big") + packed)
            batch.put(self._seen_key(key, packed), b"")
            self._size += 1
        self._write(batch)

    def take_seen(self, until_ms: int, most: int) -> list[bytes]:
        """Remove up to so many that last changed at this event time of the partition or before; returns their keys."""
        keys = []
        for timed, _ in itertools.islice(self._entries(self._seen), most):
            if int.from_bytes(timed[:8], "big") > until_ms:
                break
            keys.append(timed[8:])
        for key in keys:
            del self[key]
        return keys

    def close(self) -> None:
        """Remove all of the partition's sessions."""
        batch = WriteBatch(raw_mode=True)
        for start in (self._sessions, self._seen):
            batch.delete_range(start, start + b"\xff")  # which no key in UTF-8 begins with, and no time
        self._write(batch)
        self._size = 0

    def _take(self, key: bytes) -> bytes:
        rows, packed = self._value(key)
        batch = WriteBatch(raw_mode=True)
        batch.delete(self._sessions + key)
        batch.delete(self._seen_key(key, packed))
        self._write(batch)
        self._size -= 1
        if rows:
            self._rows_kept[key] = self._rows_kept.get(key, 0) | rows
        return packed

    def _value(self, key: bytes) -> tuple[int, bytes]:
        """Rows that have records of their own, as bits, and the packed session. Raises KeyError when there is none."""
        try:
            value = self._db.get(self._sessions + key)
        except Exception as error:
            raise _failed(error) from error
        if value is None:
            raise KeyError(key)
        metrics.cold_reads.inc()
        end = 2 + int.from_bytes(value[:2], "big")
        return int.from_bytes(value[2:end], "big"), value[end:]

    def _seen_key(self, key: bytes, packed: bytes) -> bytes:
        return self._seen + seen_ms_of(packed).to_bytes(8, "big") + key

    def _entries(self, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        try:
            for key, value in cast(Iterable[tuple[bytes, bytes]], self._db.items(from_key=start)):
                if not key.startswith(start):
                    return
                yield key[len(start) :], value
        except Exception as error:
            raise _failed(error) from error

    def _write(self, batch: WriteBatch) -> None:
        try:
            self._db.write(batch)
        except Exception as error:
            raise _failed(error) from error


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(_WRITTEN_BYTES)
    options.set_max_write_buffer_number(2)
    options.set_max_open_files(_OPEN_FILES)
    options.set_keep_log_file_num(1)
    blocks = BlockBasedOptions()
    blocks.set_bloom_filter(_BLOOM_BITS, False)
    blocks.set_block_cache(Cache(_READ_BYTES))
    options.set_block_based_table_factory(blocks)
    return options


def _remove_what_nobody_has(directory: Path) -> None:
    """What processes left that were killed. RocksDB refuses to destroy what another one has open."""
    for folder in directory.glob(f"{_PREFIX}*"):
        if (folder / "LOCK").exists():
            with contextlib.suppress(Exception):
                Rdict.destroy(str(folder), _options())
                shutil.rmtree(folder, ignore_errors=True)


def _failed(error: Exception) -> StateError:
    return StateError(
        f"sessions on disk cannot be read or written ({error}): look at the disk of INKLING_STATE__DIR. The changelog has them "
        "all: start the worker again"
    )
