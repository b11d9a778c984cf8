"""The local stack's one error."""

import errno
from pathlib import Path

from worker.errors import InklingError


class StackError(InklingError):
    """The local stack cannot be started, reached or stopped. One line says what is wrong and what to do; a log may follow."""


def explain(error: OSError, directory: Path) -> StackError:
    """An error of the file system, met while working under `directory`, as one line."""
    if error.errno == errno.ENOSPC:
        return StackError(f"the disk of {directory} is full: free some space, or choose another --dir")
    return StackError(f"cannot use {error.filename or directory} ({error.strerror or error}): mend it, or choose another --dir")
