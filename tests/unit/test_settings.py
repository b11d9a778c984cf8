"""Settings: where they come from, what is refused, and that nothing else reads the environment."""

import ast
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

import worker
from tests.corpus import MAX_FUTURE_MS
from worker.contract.features import FeatureSpec
from worker.contract.session import SessionPolicy
from worker.settings import KafkaSettings, SessionSettings, Settings, WorkerSettings


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the machine's and no file of the folder's counts."""
    import os

    for name in list(os.environ):
        if name.upper().startswith("INKLING_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_defaults_need_no_environment() -> None:
    """Without any setting the worker talks to a Kafka and a Triton on this machine."""
    settings = Settings()
    assert settings.kafka.bootstrap_servers == "127.0.0.1:9092"
    assert settings.triton.url == "127.0.0.1:8001"


def test_defaults_are_those_of_the_contract() -> None:
    """The worker's sessions are what offline code takes for granted, and the bad-input corpus knows the same limit."""
    session = Settings().session
    assert SessionPolicy(int(session.gap_s * 1000), int(session.grace_s * 1000)) == SessionPolicy()
    assert session.window == FeatureSpec().window
    assert session.max_future_s * 1000 == MAX_FUTURE_MS


def test_arguments_come_before_environment_before_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of the three sources each covers the next, field by field."""
    (tmp_path / "inkling.toml").write_text("[session]\ngap_s = 100\ngrace_s = 10\nwindow = 8\n")
    monkeypatch.setenv("INKLING_SESSION__GAP_S", "200")
    monkeypatch.setenv("INKLING_SESSION__GRACE_S", "20")
    assert Settings().session == SessionSettings(gap_s=200, grace_s=20, window=8)
    assert Settings(session=SessionSettings(gap_s=500)).session.gap_s == 500


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("INKLING_SESSION__GAP_S", "0"),
        ("INKLING_SESSION__GAP_S", "half an hour"),
        ("INKLING_SESSION__GRACE_S", "-1"),
        ("INKLING_SESSION__GRACE_S", "1800"),
        ("INKLING_SESSION__WINDOW", "1"),
        ("INKLING_SESSION__GAPS", "5"),
        ("INKLING_TOPICS__PARTITIONS", "0"),
        ("INKLING_SCORING__MAX_BATCH", "257"),
        ("INKLING_METRICS__PORT", "65536"),
        ("INKLING_KAFKA__SECURITY_PROTOCOL", "TLS"),
    ],
)
def test_wrong_value_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Out of range, of another type or misspelt: the worker does not start."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError):
        Settings()


def test_grace_must_be_shorter_than_the_gap() -> None:
    """The message names both settings."""
    with pytest.raises(ValidationError, match=r"grace_s \(60\) must be less than gap_s \(60\)"):
        SessionSettings(gap_s=60, grace_s=60)


def test_a_batch_must_not_change_more_than_can_be_written() -> None:
    """The worker would stop at the first batch that does: it is told at the start, with what to set."""
    assert Settings(session=SessionSettings(window=64), worker=WorkerSettings(max_batch=2000))
    with pytest.raises(ValidationError, match="set INKLING_WORKER__MAX_BATCH to 1000 or less"):
        Settings(session=SessionSettings(window=128), worker=WorkerSettings(max_batch=1001))


def test_file_with_an_unknown_group_is_refused(tmp_path: Path) -> None:
    """A misspelt section is not silently left out."""
    (tmp_path / "inkling.toml").write_text("[kafak]\nbootstrap_servers = 'x'\n")
    with pytest.raises(ValidationError, match="kafak"):
        Settings()


def test_settings_cannot_be_changed() -> None:
    """Neither a group nor a field: what was read at the start holds."""
    settings = Settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.session = SessionSettings()  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        settings.session.gap_s = 1  # type: ignore[misc]


def test_durations_name_their_unit() -> None:
    """Every number of time ends in its unit."""
    groups = [type(getattr(Settings(), name)) for name in Settings.model_fields]
    assert all(issubclass(group, BaseModel) for group in groups)
    for field in ("gap", "grace", "max_future", "deadline", "breaker_reset", "commit_interval", "session_timeout", "drain"):
        names = [name for group in groups for name in group.model_fields if name.startswith(field)]
        assert names
        assert all(name.endswith(("_s", "_ms")) for name in names)


def test_secrets_come_from_files_only() -> None:
    """No field takes a password itself: it would show in process lists, logs and crash reports."""
    for name in KafkaSettings.model_fields:
        assert "password" not in name or name.endswith("_file")


def test_only_settings_reads_the_environment() -> None:
    """No other module of the worker asks `os` for a variable."""
    root = Path(worker.__file__).parent
    readers = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv", "getenvb"))
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and any("env" in alias.name for alias in node.names))
    }
    assert readers == set()  # pydantic-settings reads it for settings.py
