"""What was injected, and what the checker said."""

import msgspec

from tests.faults.real.check import Verdict

#: Below this, an audit is mostly its beginning and end.
_MANY = 100_000


class Played(msgspec.Struct):
    """A scenario that was played. `injected` is what was done, `took_s` how long it all took."""

    name: str
    seed: int
    injected: str
    verdict: Verdict
    took_s: float


def table(played: list[Played]) -> str:
    """A line for each scenario, and the sum."""
    head = f"{'scenario':26} {'events':>9} {'scores':>9} {'copies':>7} {'dead':>7} {'drops':>7} {'s':>5}  checker   injected"
    lines = [head, *(_line(one) for one in played)]
    audited = sum(one.verdict.events for one in played)
    broken = [one.name for one in played if not one.verdict.ok]
    lines.append(f"{len(played)} scenarios, {audited:,} events audited, {len(broken)} with findings")
    lines += [
        f"  {one.name}: audited at {one.verdict.events / one.verdict.audit_s:,.0f} events/s"
        for one in played
        if one.verdict.events >= _MANY
    ]
    for one in played:
        lines += [f"  {one.name} (seed {one.seed}): {finding}" for finding in one.verdict.findings]
    return "\n".join(lines)


def _line(one: Played) -> str:
    said = one.verdict
    numbers = f"{said.events:9,} {said.scores:9,} {said.copies:7,} {said.dead:7,} {said.drops:7,} {one.took_s:5.0f}"
    judged = "0 found" if said.ok else f"{len(said.findings)} FOUND"
    return f"{one.name:26} {numbers}  {judged:8}  {one.injected}"
