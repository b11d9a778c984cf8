"""Prometheus rules: valid, tested, and each alert with its section in the runbook."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.metric_samples import exposition
from tests.support.tools import need

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "inkling.rules.yml"
TESTS = sorted(RULES.parent.glob("*.test.yml"))
ALERTS = sorted(set(re.findall(r"- alert: (\w+)", RULES.read_text())))


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = need(shutil.which("promtool"), "promtool: install prometheus to check metrics and rules")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=280)


def test_the_rules_are_valid() -> None:
    """promtool accepts every expression and template."""
    checked = promtool("check", "rules", RULES)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.name)
def test_alerts_fire_stay_quiet_and_clear(file: Path) -> None:
    """The rules behave as their own tests say."""
    tested = promtool("test", "rules", file)
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_is_seen_firing_and_quiet(alert: str) -> None:
    """No alert is without a test in which it fires and one in which it does not."""
    cases = re.split(r"\n      - ", "".join(file.read_text() for file in TESTS))
    about = [case for case in cases if re.search(rf"alertname: {alert}\b", case)]
    assert any("exp_labels" in case for case in about), "never seen firing"
    assert any("exp_labels" not in case for case in about), "never seen quiet"


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_has_its_section_in_the_runbook(alert: str) -> None:
    """The link that an alert carries leads to a section of that name, which says something to do."""
    sections = re.split(r"^## ", (ROOT / "docs" / "runbook.md").read_text(), flags=re.MULTILINE)
    (section,) = [section for section in sections if section.startswith(f"{alert}\n")]
    assert "\n- " in section
    for rule in re.split(r"- alert: ", RULES.read_text())[1:]:
        if rule.startswith(f"{alert}\n"):
            assert f"runbook_url: docs/runbook.md#{alert.lower()}\n" in rule


def test_the_runbook_describes_nothing_else() -> None:
    """An alert that is gone takes its section along."""
    assert sorted(re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)) == ALERTS


def test_rules_ask_for_metrics_that_exist() -> None:
    """Every inkling_ name in the rules is one that the worker exposes, or one that the rules record."""
    exposed = set(re.findall(r"^(inkling_\w+)", exposition(), re.MULTILINE))
    asked = set(re.findall(r"(?<!:)\b(inkling_\w+)\b(?!:)", RULES.read_text()))
    assert len(asked) > 10
    assert asked - exposed == set()
