"""`inkling doctor --settings`."""

from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr

from worker.settings import Settings
from worker.settings_report import setting_lines


def test_every_setting_names_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment comes before the file, the file before the default."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inkling.toml").write_text('[kafka]\nbootstrap_servers = "file:1"\n[session]\ngap_s = 3600\n')
    monkeypatch.setenv("INKLING_KAFKA__BOOTSTRAP_SERVERS", "environment:1")
    lines = {line.name: line for line in setting_lines(Settings())}
    assert lines["INKLING_KAFKA__BOOTSTRAP_SERVERS"][1:] == ("environment:1", "environment")
    assert lines["INKLING_SESSION__GAP_S"][1:] == ("3600.0", "inkling.toml")
    assert lines["INKLING_CONSOLE__PORT"][1:] == ("8080", "default")


def test_every_name_sets_what_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each printed name is read from the environment: setting all of them leaves no default."""
    for name, value, _ in setting_lines(Settings()):
        if value not in ("-", "********"):
            monkeypatch.setenv(name, value)
    lines = setting_lines(Settings())
    assert {line.source for line in lines if line.value != "-"} == {"environment"}


def test_secrets_are_redacted() -> None:
    """A secret's value is nowhere in the report, only that there is one."""

    class WithSecret(BaseModel):
        password: SecretStr

    lines = setting_lines(Settings().model_copy(update={"kafka": WithSecret(password=SecretStr("hunter2"))}))
    assert "hunter2" not in str(lines)
    assert lines[0][:2] == ("INKLING_KAFKA__PASSWORD", "********")
