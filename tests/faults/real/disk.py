"""Bits that rot on the broker's disk."""

import asyncio
import struct
from pathlib import Path

from tests.faults.real.stage import Stage

_WATCH_S = 10.0
#: A record batch: its first offset, the length of what follows, and so on; its records begin here.
_PREFIX = struct.Struct(">qi")
_RECORDS_AT = 61


async def log_damaged(stage: Stage) -> str:
    """A byte of the clicks is flipped on disk: the worker holds before it, and goes on once it is mended."""
    for _ in range(10):
        await stage.send(stage.events // 10)
    partition = stage.dice.randrange(stage.topics.partitions)
    path = stage.stack.directory / "kafka" / "data" / f"{stage.topics.clicks}-{partition}" / "00000000000000000000.log"
    offset, place = stage.dice.choice(_batches(path.read_bytes())[1:])
    await _while_down(stage, path, place)
    worker = stage.worker(delay_ms=0.0)
    await stage.joined(worker)
    await asyncio.sleep(_WATCH_S)
    held = (await stage.committed()).get(partition, 0)
    if held > offset:
        stage.findings.append(f"partition {partition} is committed up to {held}, past the damage at {offset}")
    if worker.status is None:
        await stage.end(worker)
    await _while_down(stage, path, place)
    await stage.finish()
    return f"a byte of partition {partition} flipped on disk at offset {offset}, committed up to {held}; flipped back"


def _batches(log: bytes) -> list[tuple[int, int]]:
    """The first offset of every batch, and the place of a byte in its records."""
    found, at = [], 0
    while at + _PREFIX.size <= len(log):
        offset, length = _PREFIX.unpack_from(log, at)
        if length <= 0:
            break
        found.append((offset, at + (_RECORDS_AT + _PREFIX.size + length) // 2))
        at += _PREFIX.size + length
    return found


async def _while_down(stage: Stage, path: Path, place: int) -> None:
    """Flip the byte while the broker is down, in order; it does not look at what it has."""
    broker = stage.stack.kafka
    assert broker is not None
    await asyncio.to_thread(broker.stop)
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 0x55]))
    await asyncio.to_thread(stage.stack.restart, broker)
