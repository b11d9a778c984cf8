"""The local stack's one error."""

from worker.errors import InklingError


class StackError(InklingError):
    """The local stack cannot be started, reached or stopped. The message is one line: what is wrong and what to do."""
