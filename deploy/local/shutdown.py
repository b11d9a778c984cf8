"""Ending a stack from outside of the process that owns it."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local.errors import StackError
from deploy.local.lock import DirectoryLock
from deploy.local.shm import remove_orphaned_regions
from deploy.local.stack import wipe
from deploy.local.state import read_state, sweep

_PATIENCE_S = 30.0
_LOOK_EVERY_S = 0.05


def shut_down(directory: Path, wipe_data: bool = False) -> bool:
    """Asks the owner of the directory's stack to end it, and clears what a crashed one left.

    Args:
        wipe_data: also removes everything that the stack wrote there.

    Returns whether a stack was running.

    Raises:
        StackError: the owner does not end.
    """
    if not directory.is_dir():
        return False
    state = read_state(directory)
    running = state is not None and state.running()
    if state is not None and running:
        os.kill(state.owner.pid, signal.SIGTERM)
    with _lock_when_free(directory):
        sweep(directory)
        remove_orphaned_regions()
        if wipe_data:
            wipe(directory)
    return running


@contextmanager
def _lock_when_free(directory: Path) -> Iterator[None]:
    """The owner holds the lock until its last child is gone."""
    lock = DirectoryLock(directory)
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            lock.acquire()
            break
        except StackError:
            if time.monotonic() > end:
                state = read_state(directory)
                owner = f"process {state.owner.pid}" if state else "its owner"
                raise StackError(
                    f"the stack in {directory} does not end: look at its logs there, then end {owner} yourself"
                ) from None
            time.sleep(_LOOK_EVERY_S)
    try:
        yield
    finally:
        lock.release()
