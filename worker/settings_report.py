"""Every setting with its value and where that comes from; secrets are never shown."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, SecretStr
from pydantic_settings import EnvSettingsSource, TomlConfigSettingsSource

from worker.settings import Settings

_REDACTED = "********"


class SettingLine(NamedTuple):
    """One setting; `name` is the environment variable that sets it."""

    name: str
    value: str
    source: str  # "environment", "inkling.toml" or "default"


def setting_lines(settings: Settings) -> list[SettingLine]:
    """All settings, in the order in which they are declared."""
    environment, file = EnvSettingsSource(Settings)(), TomlConfigSettingsSource(Settings)()
    lines = []
    for group_name in Settings.model_fields:
        group: BaseModel = getattr(settings, group_name)
        for field in type(group).model_fields:
            lines.append(
                SettingLine(
                    f"INKLING_{group_name.upper()}__{field.upper()}",
                    _shown(getattr(group, field)),
                    _source(environment, file, group_name, field),
                )
            )
    return lines


def _source(environment: Mapping[str, Any], file: Mapping[str, Any], group: str, field: str) -> str:
    if field in _folded(environment.get(group)):
        return "environment"
    return "inkling.toml" if field in _folded(file.get(group)) else "default"


def _folded(group: Any) -> set[str]:
    """The environment is read without regard to case."""
    return {str(name).lower() for name in group} if isinstance(group, Mapping) else set()


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return _REDACTED if isinstance(value, SecretStr) else str(value)
