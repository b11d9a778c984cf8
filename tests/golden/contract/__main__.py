"""Writes what the contract makes of the golden clicks: `python -m tests.golden.contract`.

Do so only when rows are meant to change: every model in use was trained on the rows as they were.
"""

from tests.golden.contract import STEPS, golden_steps, written

if __name__ == "__main__":
    STEPS.write_text(written(golden_steps()))
