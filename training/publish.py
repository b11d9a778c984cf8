"""Publishing a version under load: first it is loaded beside the one that serves, then pointed at, then the old one goes.

A worker never waits for any of this: it follows the pointer once the version answers right, and has the old one until then.
"""

import asyncio
import logging
import time
from collections.abc import Collection
from pathlib import Path

from google.protobuf import text_format  # type: ignore[import-untyped]
from tritonclient.grpc import model_config_pb2

from training.repository import prune, publishing, take_in, take_out, write_file
from worker.control import Pointer, pointer_to, read_pointer, write_pointer
from worker.errors import ModelError, ScorerRejected, ScoringError
from worker.scoring.golden import check
from worker.scoring.triton import TritonScorer
from worker.settings import Settings
from worker.versions import Version, open_version

log = logging.getLogger(__name__)

_CONFIG = "config.pbtxt"
#: The test inference waits as long as a model's first request may take, and for one more version to warm up.
_CHECK_TIMEOUT_S = 10.0
#: A version is let go once nobody has asked it for so long; workers check theirs every 5 s, so none that lags is missed.
QUIET_S = 6.0
_QUIET_POLL_S = 0.5
#: Somebody who still asks after this long is not following; the version stays loaded for them.
MAX_DRAIN_S = 60.0
#: Version folders that stay, for rolling back and comparing.
KEEP_VERSIONS = 20


async def publish(settings: Settings, staged: Path, parent: str | None, by: str, why: str, quiet_s: float = QUIET_S) -> Pointer:
    """Take a staged version into the repository and make it the champion after `parent`. Returns the pointer written.

    Raises ModelError when the version is not sound, when the model server refuses it, or when the champion is no longer
    `parent`, as then another publisher won; the version is gone again then. Raises ScoringError or DeliveryError when the model
    server or Kafka is away: then it stays in the repository, whole, and can be promoted later.
    """
    folder = _model_folder(settings)
    async with publishing(folder):
        await _still_champion(settings, parent)
        version = take_in(folder, staged)
        try:
            return await _point(settings, version, parent, by, why, quiet_s)
        except (ModelError, ScorerRejected):
            take_out(folder, version)
            raise


async def promote(settings: Settings, version: str, by: str, why: str, quiet_s: float = QUIET_S) -> Pointer:
    """Make a version that lies in the repository the champion. Raises as `publish`, and leaves the version where it is."""
    async with publishing(_model_folder(settings)):
        now = await read_pointer(settings)
        return await _point(settings, version, now.champion if now else None, by, why, quiet_s)


async def rollback(settings: Settings, by: str, why: str, quiet_s: float = QUIET_S) -> Pointer:
    """Make the champion's predecessor the champion again. Raises ModelError when there is none."""
    now = await read_pointer(settings)
    if now is None or now.previous is None:
        raise ModelError(
            "there is no earlier champion to go back to; `inkling promote V` takes any version of `inkling models list`"
        )
    return await promote(settings, now.previous, by, why, quiet_s)


def configured_versions(model_folder: Path) -> list[str]:
    """The versions that config.pbtxt tells the model server to serve."""
    return [str(version) for version in _read_config(model_folder).version_policy.specific.versions]


async def _point(settings: Settings, version: str, parent: str | None, by: str, why: str, quiet_s: float) -> Pointer:
    """Load `version` beside `parent`, check it, point at it, let `parent` go. Only inside `publishing`."""
    folder = _model_folder(settings)
    server = await TritonScorer.connect(settings.triton.url, settings.model.name, _CHECK_TIMEOUT_S, settings.scoring.max_batch)
    try:
        # 1 nothing damaged gets near the model server
        found = open_version(folder, version)
        before = configured_versions(folder)
        both = {version, parent or version}
        try:
            # 2 loaded beside what serves  3 answers right  4 nobody else moved the pointer  5 point
            if set(before) != both or not await server.is_ready(version):
                await _serve(folder, server, both)
            await _check(server, found)
            pointer = await _write(settings, found, parent, by, why)
        except BaseException:
            # What was not pointed at is not served either: as it was before.
            if set(configured_versions(folder)) != set(before):
                await _restore(folder, server, before)
            raise
        # 6 wait for the workers  7 let go. Never 7 before 6.
        if both != {version}:
            await _let_go(folder, server, version, quiet_s)
    finally:
        await server.close()
    for old in prune(folder, KEEP_VERSIONS, {pointer.champion, pointer.previous}):
        log.info("removed version %s: only the newest %d are kept", old, KEEP_VERSIONS)
    return pointer


async def _still_champion(settings: Settings, parent: str | None) -> Pointer | None:
    now = await read_pointer(settings)
    champion = now.champion if now else None
    if champion != parent:
        raise ModelError(
            f"the champion changed from {parent} to {champion} while this version was made: another publisher won; run it again"
        )
    return now


async def _write(settings: Settings, version: Version, parent: str | None, by: str, why: str) -> Pointer:
    """As late as can be, the champion is compared once more: a publisher on another machine knows nothing of our lock."""
    pointer = pointer_to(version, await _still_champion(settings, parent), by, why)
    await write_pointer(settings, pointer)
    return pointer


async def _serve(model_folder: Path, server: TritonScorer, versions: Collection[str]) -> None:
    """Have just these versions served. Durable: a restarted server loads the same."""
    config = _read_config(model_folder)
    config.version_policy.specific.versions[:] = sorted(int(version) for version in versions)
    write_file(model_folder / _CONFIG, text_format.MessageToString(config))
    try:
        await server.load()
    except ScorerRejected as error:
        raise ModelError(f"the model server cannot load version {', '.join(versions)}: {error}") from error


async def _check(server: TritonScorer, version: Version) -> None:
    """The server's word that it loaded is not enough; its answers are."""
    name = version.manifest.version
    try:
        await check(server, name, version.golden)
    except ScoringError as error:
        # Broken, slow or wrong: the version's fault, unless the server is gone altogether.
        if isinstance(error, ScorerRejected) or await server.is_live():
            raise ModelError(f"version {name} is loaded but fails its test inference: {error}") from error
        raise


async def _restore(model_folder: Path, server: TritonScorer, versions: Collection[str]) -> None:
    try:
        await _serve(model_folder, server, versions)
    except (ModelError, ScoringError) as error:
        log.warning("could not have versions %s alone served again: %s", ", ".join(versions), error)


async def _let_go(model_folder: Path, server: TritonScorer, version: str, quiet_s: float) -> None:
    """Have `version` alone served, once nobody asks another one. The pointer is written: nothing here can fail the swap."""
    try:
        if await _drained(server, version, quiet_s):
            await _serve(model_folder, server, {version})
        else:
            log.warning("the version before %s is still asked for after %.0f s and stays loaded", version, MAX_DRAIN_S)
    except (ModelError, ScoringError) as error:
        log.warning("version %s is the champion, but the one before it stays loaded: %s", version, error)


async def _drained(server: TritonScorer, version: str, quiet_s: float) -> bool:
    """Wait until versions other than `version` have not been asked for `quiet_s`. False when that takes too long."""
    started = quiet_since = time.monotonic()
    counts: dict[str, int] = {}
    while time.monotonic() - started < MAX_DRAIN_S:
        others = {name: count for name, count in (await server.requests_served()).items() if name != version}
        if others != counts:
            counts, quiet_since = others, time.monotonic()
        if time.monotonic() - quiet_since >= quiet_s:
            return True
        await asyncio.sleep(_QUIET_POLL_S)
    return False


def _read_config(model_folder: Path) -> model_config_pb2.ModelConfig:
    path = model_folder / _CONFIG
    try:
        return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
    except OSError as error:
        raise ModelError(
            f"{path}: {error.strerror}; INKLING_MODEL__REPOSITORY must name the folder that the model server serves"
        ) from error
    except text_format.ParseError as error:
        raise ModelError(f"{path} is no model configuration: {error}") from error


def _model_folder(settings: Settings) -> Path:
    return settings.model.repository / settings.model.name
