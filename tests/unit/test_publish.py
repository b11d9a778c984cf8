"""Tests for training/publish.py that need neither Kafka nor Triton: reading the served versions. The rest: test_swap.py."""

from pathlib import Path

import pytest

from tests.unit.version_folder import MODEL
from training.publish import configured_versions
from worker.errors import ModelError


def test_the_shipped_configuration_names_its_versions() -> None:
    """Explicitly, so that a restarted server loads what it served."""
    shipped = Path(__file__).parents[2] / "model_repo" / MODEL
    assert configured_versions(shipped) == ["1"]


def test_comments_and_further_settings_are_read_over(tmp_path: Path) -> None:
    """Any valid configuration does."""
    (tmp_path / "config.pbtxt").write_text(
        '# ours\nname: "x"\ndynamic_batching { }\nversion_policy { specific { versions: [ 3, 12 ] } }\n'
    )
    assert configured_versions(tmp_path) == ["3", "12"]


def test_a_missing_or_damaged_configuration_is_named(tmp_path: Path) -> None:
    """With the setting that leads to it, or what is wrong."""
    with pytest.raises(ModelError, match="INKLING_MODEL__REPOSITORY"):
        configured_versions(tmp_path)
    (tmp_path / "config.pbtxt").write_text("versions = [1]")
    with pytest.raises(ModelError, match="no model configuration"):
        configured_versions(tmp_path)
