"""What several tests of training share."""

from pathlib import Path

import pytest

from training.version import LoadedVersion, load_version


@pytest.fixture(scope="session")
def shipped() -> LoadedVersion:
    """The version in the repository."""
    return load_version(Path(__file__).parents[3] / "model_repo" / "intent" / "1")
