"""Versions of the model as folders, and reading one so that nothing damaged gets past."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from worker.contract.features import FeatureSpec
from worker.contract.session import SessionPolicy
from worker.errors import ModelError
from worker.scoring.fallback import FallbackScorer
from worker.scoring.golden import Golden

MANIFEST = "manifest.json"
#: Without these a version cannot be served.
_NEEDED = ("model.py", "model.onnx", "fallback.json", "golden.json")
#: What the model server and the interpreter leave in a version folder.
_LEFT_BEHIND = ("__pycache__",)
_CHUNK_BYTES = 1 << 20


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a version says of itself. `files` has the sha256 of every other file in the folder."""

    format: int
    model: str
    version: str
    parent: str | None = None
    created_at: int | str | None = None
    code_revision: str | None = None
    data: dict[str, Any] = {}
    spec: FeatureSpec
    policy: SessionPolicy
    partitions: int
    architecture: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    calibration: dict[str, Any] = {}
    seed: int | None = None
    files: dict[str, str]

    @property
    def trained_until_ms(self) -> int:
        """Newest event time that training knew."""
        return int(self.data.get("until_ms") or 0)


class Version(NamedTuple):
    """One version, read and found sound."""

    path: Path
    manifest: Manifest
    manifest_sha256: str
    fallback: dict[str, Any]
    golden: Golden


def list_versions(model_folder: Path) -> list[str]:
    """Names of the version folders, oldest first."""
    if not model_folder.is_dir():
        return []
    names = [entry.name for entry in model_folder.iterdir() if entry.is_dir() and is_version(entry.name)]
    return sorted(names, key=int)


def is_version(name: str) -> bool:
    """Whether a name is a version's: a whole number from 1, as the model server wants it."""
    return name.isascii() and name.isdecimal() and not name.startswith("0")


def read_manifest(folder: Path) -> Manifest:
    """A version's manifest alone; its files are not looked at. Raises ModelError."""
    try:
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except OSError as error:
        raise ModelError(f"{folder / MANIFEST}: {error.strerror}; `inkling models list` shows the versions there are") from error
    except msgspec.MsgspecError as error:
        raise ModelError(f"{folder / MANIFEST} is damaged: {error}") from error


def open_version(model_folder: Path, version: str, folder: Path | None = None) -> Version:
    """Read version `version` of the model, from `folder` if it does not lie in its place yet.

    Raises ModelError unless every file is there, none is there unnamed, each has the bytes that the manifest says, the feature
    spec is of the layout that this code knows, and the fallback and the golden batch can be used.
    """
    if not is_version(version):
        raise ModelError(f"{version!r} is no version: versions are whole numbers; `inkling models list` shows them")
    folder = folder or model_folder / version
    manifest = read_manifest(folder)
    if manifest.model != model_folder.name or manifest.version != version:
        raise ModelError(f"{folder} says that it is version {manifest.version} of {manifest.model}")
    check_files(folder, manifest)
    check_spec(manifest.spec, f"version {version} of {manifest.model}")
    fallback, golden = (_document(folder / name) for name in ("fallback.json", "golden.json"))
    FallbackScorer.from_json(fallback)
    digest = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    return Version(folder, manifest, digest, fallback, Golden.from_json(golden))


def check_spec(spec: FeatureSpec, whose: str) -> None:
    """Raises ModelError when rows of this spec have another layout than those that this code makes."""
    known = FeatureSpec().version
    if spec.version < known:
        raise ModelError(
            f"{whose} wants rows by feature spec {spec.version}, this code makes those of {known}: train a new one with "
            "`inkling train` for a repository with this release's config.pbtxt, or use the release that made it"
        )
    if spec.version > known:
        raise ModelError(f"{whose} wants rows by feature spec {spec.version}, this code knows {known} and none above: upgrade it")


def sha256_of(path: Path) -> str:
    """The file's sha256 in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def check_files(folder: Path, manifest: Manifest) -> None:
    """Raises ModelError unless the folder holds what the manifest names, and nothing else."""
    if missing := [name for name in _NEEDED if name not in manifest.files]:
        raise ModelError(f"{folder}: the manifest does not name {', '.join(missing)}")
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
    present -= {name for name in present if Path(name).parts[0] in _LEFT_BEHIND} | {MANIFEST}
    # The model server runs what lies there, so nothing may lie there that the manifest does not vouch for.
    if strange := sorted(present - manifest.files.keys()):
        raise ModelError(f"{folder}: {strange[0]} is not named in the manifest")
    for name, expected in manifest.files.items():
        if name not in present:
            raise ModelError(f"{folder}: {name} is missing")
        if sha256_of(folder / name) != expected:
            raise ModelError(f"{folder}: {name} does not have the sha256 of the manifest; it is damaged or was changed")


def _document(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        return document
    except msgspec.MsgspecError as error:
        raise ModelError(f"{path} is damaged: {error}") from error
