"""The jars of Kafka: exactly those of deploy/kafka/jars.lock, each checked by its sha256, kept in the user's cache."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from deploy.local.errors import StackError

LOCK = Path(__file__).parents[1] / "kafka" / "jars.lock"
_DOWNLOADS = 8
_TIMEOUT_S = 60


@dataclass(frozen=True)
class Jar:
    """One line of the lock."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def filename(self) -> str:
        """The sha256's start is in the name, so that files of two locks never meet."""
        return f"{self.artifact}-{self.version}-{self.sha256[:12]}.jar"


def read_lock(path: Path = LOCK) -> list[Jar]:
    """The jars that the lock names. Raises StackError when a line is not `group:artifact:version sha256`."""
    jars = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        coordinate, _, sha256 = line.partition(" ")
        parts = coordinate.split(":")
        if len(parts) != 3 or len(sha256) != 64:
            raise StackError(
                f"{path} line {number} is not `group:artifact:version sha256`: make it again with deploy/kafka/lock.sh"
            )
        group, artifact, version = parts
        jars.append(Jar(group, artifact, version, sha256))
    return jars


def user_cache() -> Path:
    """Where downloads stay, outside of any clone, so that a second clone has them at once."""
    root = os.environ.get("XDG_CACHE_HOME")  # the desktop convention, not a setting of ours
    return (Path(root) if root else Path.home() / ".cache") / "inkling"


def ensure_jars(
    lock: Path = LOCK,
    cache: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
    remote: str | None = None,
) -> list[Path]:
    """The local files of the lock's jars, all verified, in the lock's order; what is missing is downloaded.

    Any number of callers may do this at once: a download goes to a file of its own and is renamed into place when it is right.

    Args:
        remote: the URL of a Maven repository to use instead of Maven Central.

    Raises:
        StackError: a jar cannot be had, or its content is not what the lock says.
    """
    jars = read_lock(lock)
    folder = (cache or user_cache()) / "jars"
    folder.mkdir(parents=True, exist_ok=True)
    missing = [jar for jar in jars if _sha256(folder / jar.filename) != jar.sha256]
    if missing:
        progress(f"downloading {len(missing)} jars of Kafka (once)")
        with ThreadPoolExecutor(_DOWNLOADS) as pool:
            for _ in pool.map(lambda jar: _download(jar, folder, remote), missing):
                pass
    return [folder / jar.filename for jar in jars]


def _download(jar: Jar, folder: Path, remote: str | None) -> None:
    from jgo.maven import MavenContext  # slow to import, and not needed when the cache is full

    with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as private:
        try:
            context = MavenContext(
                repo_cache=Path(private), remote_repos={"given": remote} if remote else None, timeout=_TIMEOUT_S
            )
            path = context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors
            reason = str(error).partition("\n")[0]
            raise StackError(
                f"cannot download {jar.artifact} {jar.version} from Maven Central ({reason}): check the network"
            ) from error
        found = _sha256(path)
        if found != jar.sha256:
            raise StackError(
                f"{jar.artifact} {jar.version} has sha256 {found}, the lock says {jar.sha256}: refused. "
                "Check the network for a meddling proxy, or make deploy/kafka/jars.lock again if it was changed on purpose"
            )
        shutil.move(path, folder / jar.filename)


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
