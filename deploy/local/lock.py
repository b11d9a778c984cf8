"""One stack a directory: a lock that the kernel drops when its holder ends, however it ends."""

import fcntl
import os
from pathlib import Path

from deploy.local.errors import StackError


class DirectoryLock:
    """Held from `acquire` to `release`."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "stack.lock"
        self._file: int | None = None

    def acquire(self) -> None:
        """Raises StackError when another process runs a stack in the directory."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(file)
            directory = self._path.parent
            raise StackError(
                f"a stack runs in {directory} already: `inkling stack down --dir {directory}` ends it; or choose another --dir"
            ) from error
        self._file = file

    def release(self) -> None:
        """Harmless when it is not held."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
