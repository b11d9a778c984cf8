"""What an audit found: by check, how much was looked at, how much was wrong, and the first offender."""

from collections import Counter
from typing import Any

import msgspec

#: The checks, in the order of the report. Each holds for every partition by itself.
CHECKS: dict[str, str] = {
    "I1": "every click has exactly one of score, dead letter (whole, for the right reason) and policy drop; what a late one "
    "changes is scored anew, and those of users are copied to the users' sequences",
    "I2": "one score per click: copies after a crash are the same",
    "I3": "score and click belong together; session and input hash equal those of a replay",
    "I4": "positions in a session rise by one",
    "I5": "the committed offset never passes an unfinished click",
    "I6": "scores can be computed again from the log and the named version",
    "I7": "one outcome per score, head and horizon, with the label of a replay, neither early nor missing",
}


_SHOWN_CHARS = 300


class Tally(msgspec.Struct):
    """One check. `first` names the first offender in the order in which they were found."""

    checked: int = 0
    failed: int = 0
    first: str | None = None

    def fail(self, offender: str) -> None:
        """Note an offender. What the topics say of themselves is shown, so control characters are taken out."""
        self.failed += 1
        if self.first is None:
            self.first = "".join(char if char.isprintable() else "?" for char in offender[:_SHOWN_CHARS])

    def add(self, other: "Tally") -> None:
        """Take in another partition's tally."""
        self.checked += other.checked
        self.failed += other.failed
        self.first = self.first or other.first


class Report(msgspec.Struct):
    """An audit's findings. `counts` say what was seen, `notes` what could not be checked and why."""

    checks: dict[str, Tally] = msgspec.field(default_factory=lambda: {name: Tally() for name in CHECKS})
    counts: Counter[str] = msgspec.field(default_factory=Counter)
    notes: list[str] = msgspec.field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing was found wrong."""
        return not any(tally.failed for tally in self.checks.values())

    def add(self, other: "Report") -> None:
        """Take in another partition's findings."""
        for name, tally in other.checks.items():
            self.checks[name].add(tally)
        self.counts.update(other.counts)
        self.notes += [note for note in other.notes if note not in self.notes]

    def to_json(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "ok": self.ok,
            "checks": {
                name: {"what": CHECKS[name], "checked": tally.checked, "failed": tally.failed, "first": tally.first}
                for name, tally in self.checks.items()
            },
            "counts": dict(self.counts),
            "notes": self.notes,
        }
