"""Text from outside on its way to the page."""

import pytest

from worker.console.snapshot import shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ann", "ann"),
        ("0123456789", "0123456789"),
        ("0123456789a", "01234…789a"),
        ("‮evil\x00\n", "evil"),
        ("\u200b", "(blank)"),
        ("", "(blank)"),
        ("<b>hi</b>", "<b>hi</b>"),
        ("naïve", "naïve"),
    ],
)
def test_shown_is_short_and_clean(text: str, expected: str) -> None:
    """Long ids lose their middle, control and direction characters go, and markup stays what it is: text."""
    assert shown(text) == expected


def test_a_huge_id_costs_little() -> None:
    """A megabyte of id becomes ten characters."""
    assert len(shown("x" * 1_000_000)) == 10
