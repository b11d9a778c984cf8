"""The local stack's one error."""

import errno
from pathlib import Path

from worker.errors import InklingError


class StackError(InklingError):
    """The local stack cannot be started, reached or stopped. The message is one line: what is wrong and what to do.

    `log_tail` holds the last lines of the part's log where there is one; a traceback shows them as well.
    """

    def __init__(self, message: str, log_tail: str = "") -> None:
        super().__init__(message)
        self.log_tail = log_tail
        if log_tail:
            self.add_note(log_tail)


def explain(error: OSError, directory: Path) -> StackError:
    """An error of the file system, met while working under `directory`, as one line."""
    if error.errno == errno.ENOSPC:
        return StackError(f"the disk of {directory} is full: free some space, or choose another --dir")
    return StackError(f"cannot use {error.filename or directory} ({error.strerror or error}): mend it, or choose another --dir")
