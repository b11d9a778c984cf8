"""The model repository as files: staging, numbering and taking in versions, so that only whole ones are ever seen.

What is not a version has a name that begins with a dot; the model server looks at numbers only. A version comes in by one
rename. Locks are the kernel's, so a killed publisher leaves none.
"""

import asyncio
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec

from worker.errors import ModelError
from worker.versions import MANIFEST, list_versions, open_version

_LOCK = ".publish.lock"
_STAGED = ".staged-"
_LOCK_POLL_S = 0.2


@contextmanager
def staging(model_folder: Path) -> Iterator[Path]:
    """An empty folder on the repository's file system in which to build a version. Gone afterwards, unless it was taken in.

    What killed publishers left is swept on entry. Raises ModelError when the repository cannot be written.
    """
    try:
        model_folder.mkdir(parents=True, exist_ok=True)
        _sweep(model_folder)
        name = f"{_STAGED}{secrets.token_hex(4)}"
        lock = model_folder / f".new-{name}"
        # Locked before it has the name that a sweep looks for.
        descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_RDWR)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        lock = lock.rename(model_folder / f"{name}.lock")
        folder = model_folder / name
        folder.mkdir()
    except OSError as error:
        raise _unwritable(model_folder, error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.unlink(missing_ok=True)
        os.close(descriptor)


@asynccontextmanager
async def publishing(model_folder: Path, wait_s: float = 120.0) -> AsyncIterator[None]:
    """One publisher at a time. Raises ModelError when another has not finished within `wait_s` seconds."""
    try:
        model_folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(model_folder / _LOCK, os.O_CREAT | os.O_RDWR)
    except OSError as error:
        raise _unwritable(model_folder, error) from error
    try:
        until = time.monotonic() + wait_s
        while not _locked(descriptor):
            if time.monotonic() > until:
                raise ModelError(f"another publisher has been at work on {model_folder} for {wait_s:.0f} s; try again later")
            await asyncio.sleep(_LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)


def take_in(model_folder: Path, staged: Path) -> str:
    """Give a staged version the next number and rename it into its place. Returns the number.

    Raises ModelError when it is not sound. Only inside `publishing`.
    """
    version = str(max((int(name) for name in list_versions(model_folder)), default=0) + 1)
    try:
        _number(staged, version)
        open_version(model_folder, version, folder=staged)
        for path in (*staged.rglob("*"), staged):
            _sync(path)
        staged.rename(model_folder / version)
        _sync(model_folder)
    except OSError as error:
        raise _unwritable(model_folder, error) from error
    return version


def take_out(model_folder: Path, version: str) -> None:
    """Remove a version, so that it is seen whole or not at all."""
    gone = model_folder / f".gone-{version}-{secrets.token_hex(4)}"
    (model_folder / version).rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def prune(model_folder: Path, keep: int, needed: Collection[str | None]) -> list[str]:
    """Remove all but the newest `keep` versions and those that are `needed`. Returns what was removed."""
    versions = list_versions(model_folder)
    removed = [version for version in versions[: max(len(versions) - keep, 0)] if version not in needed]
    for version in removed:
        take_out(model_folder, version)
    return removed


def write_file(path: Path, content: str) -> None:
    """Replace a file in one step."""
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_text(content)
        _sync(new)
        new.rename(path)
        _sync(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error


def _number(staged: Path, version: str) -> None:
    """Write the number into the manifest: it is known only now, when no other publisher can take it."""
    path = staged / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=dict[str, object])
    except msgspec.MsgspecError as error:
        raise ModelError(f"{path} is damaged: {error}") from error
    path.write_bytes(msgspec.json.format(msgspec.json.encode(manifest | {"version": version}), indent=1))


def _sweep(model_folder: Path) -> None:
    for gone in model_folder.glob(".gone-*"):
        shutil.rmtree(gone, ignore_errors=True)
    for lock in model_folder.glob(f"{_STAGED}*.lock"):
        try:
            descriptor = os.open(lock, os.O_RDWR)
        except FileNotFoundError:
            continue
        if _locked(descriptor):  # so its publisher is dead
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> ModelError:
    return ModelError(f"cannot write {path}: {error.strerror}; mend the disk or its permissions and run this again")
