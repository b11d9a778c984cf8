"""A publisher killed at each of its steps, on genuine Kafka and Triton: no half version is ever seen, and the next one works."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.stack import LocalStack
from tests.conformance.laws import random_inputs
from tests.support.model_stack import model_folder, model_stack, settings_for
from tests.support.model_versions import vary
from training.publish import configured_versions, promote, publish
from training.repository import staging
from worker.control import read_pointer
from worker.scoring.triton import TritonScorer
from worker.settings import Settings
from worker.versions import list_versions, open_version

QUIET_S = 0.5
#: What is called at each step of `publish`, and whether the killed publisher's version is the champion by then.
STEPS = [
    ("training.publish.take_in", False),
    ("training.repository.open_version", False),
    ("training.publish.write_file", False),
    ("training.publish._check", False),
    ("training.publish.write_pointer", False),
    ("training.publish._drained", True),
]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """This module's own: its versions change."""
    with model_stack(tmp_path_factory.mktemp("stack")) as started:
        yield started


@pytest.fixture(scope="module")
def settings(stack: LocalStack) -> Settings:
    found = settings_for(stack)
    asyncio.run(promote(found, "1", "test", "start", QUIET_S))
    return found


@pytest.fixture(scope="module")
def made(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version to publish, again and again: it gets another number each time."""
    folder = tmp_path_factory.mktemp("made") / "version"
    vary(model_folder(settings) / "1", folder, 0.2)
    return folder


def publish_and_die_at(step: str, settings: Settings, made: Path, parent: str) -> None:
    """In a process of its own, which kills itself where `step` is called."""
    script = f"""
        import asyncio, os, pathlib, shutil, signal
        from unittest.mock import patch
        from training.publish import publish
        from training.repository import staging
        from worker.settings import Settings

        with staging(pathlib.Path({str(model_folder(settings))!r})) as staged:
            shutil.copytree({str(made)!r}, staged, dirs_exist_ok=True)
            with patch({step!r}, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)):
                asyncio.run(publish(Settings(), staged, {parent!r}, "test", "killed", {QUIET_S}))
    """
    environment = os.environ | {
        "INKLING_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "INKLING_TOPICS__CONTROL": settings.topics.control,
        "INKLING_TRITON__URL": settings.triton.url,
        "INKLING_MODEL__REPOSITORY": str(settings.model.repository),
    }
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=environment, capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


async def champion_scores(settings: Settings) -> str:
    """The champion, after it has scored."""
    pointer = await read_pointer(settings)
    assert pointer is not None
    scorer = await TritonScorer.connect(settings.triton.url, settings.model.name, 10.0, 16)
    try:
        assert (await scorer.score(random_inputs(2, seed=1), pointer.champion)).version == pointer.champion
    finally:
        await scorer.close()
    return pointer.champion


@pytest.mark.parametrize(("step", "pointed"), STEPS, ids=[step for step, _ in STEPS])
def test_killed_at(step: str, pointed: bool, settings: Settings, made: Path) -> None:
    """What is listed is whole, what is pointed at scores, and the next publisher goes through and tidies up."""
    before = asyncio.run(champion_scores(settings))
    publish_and_die_at(step, settings, made, before)
    folder = model_folder(settings)
    for version in list_versions(folder):
        open_version(folder, version)
    champion = asyncio.run(champion_scores(settings))
    assert (champion != before) == pointed

    with staging(folder) as staged:
        shutil.copytree(made, staged, dirs_exist_ok=True)
        pointer = asyncio.run(publish(settings, staged, champion, "test", "after", QUIET_S))
    assert asyncio.run(champion_scores(settings)) == pointer.champion
    assert configured_versions(folder) == [pointer.champion]
    assert [entry.name for entry in folder.iterdir() if entry.name.startswith((".staged", ".gone"))] == []
