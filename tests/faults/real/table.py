"""What was injected, and what the checker said."""

import msgspec

from tests.faults.real.check import Verdict


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
    audit_s = sum(one.verdict.audit_s for one in played)
    rate = f"{audited / audit_s:,.0f}" if audit_s else "no"
    lines.append(f"{len(played)} scenarios, {audited:,} events audited ({rate}/s), {len(broken)} with findings")
    for one in played:
        lines += [f"  {one.name} (seed {one.seed}): {finding}" for finding in one.verdict.findings]
    return "\n".join(lines)


def _line(one: Played) -> str:
    said = one.verdict
    numbers = f"{said.events:9,} {said.scores:9,} {said.copies:7,} {said.dead:7,} {said.drops:7,} {one.took_s:5.0f}"
    judged = "0 found" if said.ok else f"{len(said.findings)} FOUND"
    return f"{one.name:26} {numbers}  {judged:8}  {one.injected}"
