"""Fixtures of the simulation's tests."""

from collections.abc import Iterator

import pytest
import structlog

from tests.faults.simulation import quiet


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What simulated workers log is not for us; other tests get theirs back."""
    before = structlog.get_config()
    quiet()
    yield
    structlog.configure(**before)
