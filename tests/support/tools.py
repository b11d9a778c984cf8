"""Programs that tests need and a machine may lack."""

import os

import pytest


def need(found: str | None, what: str) -> str:
    """The program's path. Without it the test is skipped with a reason, but fails where CI promises to have everything."""
    if found is not None:
        return found
    if os.environ.get("CI"):
        pytest.fail(f"no {what}")
    pytest.skip(f"no {what}")
