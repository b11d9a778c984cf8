import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from worker.contract import compiled

SOURCE = """
from worker.contract.compiled import compiled

@compiled()
def twice(number):
    return number * 2
"""


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("kept", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.twice(21) == 42
    return module


def test_is_kept_until_a_file_of_the_contract_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kept.py"
    path.write_text(SOURCE)
    assert _load(path).twice.stats.cache_hits == {}
    assert _load(path).twice.stats.cache_misses == {}

    monkeypatch.setattr(compiled, "_contract_stamp", lambda: b"other sources")
    assert _load(path).twice.stats.cache_hits == {}


def test_every_file_of_the_contract_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Path(compiled.__file__).parent
    shutil.copytree(package, tmp_path / "contract", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(compiled, "__file__", str(tmp_path / "contract/compiled.py"))
    before = compiled._contract_stamp.__wrapped__()
    assert before == compiled._contract_stamp()
    for path in sorted((tmp_path / "contract").glob("*.py")):
        text = path.read_text()
        path.write_text(text + "#")
        assert compiled._contract_stamp.__wrapped__() != before, path.name
        path.write_text(text)


def test_leaves_the_settings_of_others_alone() -> None:
    before = compiled.config.CACHE_LOCATOR_CLASSES
    compiled.compiled()(lambda: 1)
    assert before == compiled.config.CACHE_LOCATOR_CLASSES
