"""The feature spec cannot change by accident: a short log gives the very rows and hashes that were written down."""

import json

from tests.golden.contract import STEPS, golden_clicks, golden_steps
from worker.contract.session import Outcome


def test_golden_clicks_give_the_golden_rows() -> None:
    """Rows, hashes and counters are those of the golden file, field by field.

    If this fails on purpose, every model needs training anew: then run `python -m tests.golden.contract`.
    """
    expected = [json.loads(line) for line in STEPS.read_text().splitlines()]
    for now, then in zip(golden_steps(), expected, strict=True):
        assert now == then


def test_golden_clicks_know_every_outcome() -> None:
    """The log holds events of all kinds, and a window that was cut."""
    steps = golden_steps()[:-1]
    assert {step["outcome"] for step in steps} == {outcome.value for outcome in Outcome}
    assert any(step["window"] < step["position"] for step in steps)
    assert len({event.event_type for event in golden_clicks()}) == 8
