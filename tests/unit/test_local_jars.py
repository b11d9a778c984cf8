"""The jars: exactly what the lock says, or nothing."""

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy.local.errors import StackError
from deploy.local.jars import ensure_jars, read_lock

_CONTENT = {"one": b"the first jar" * 1000, "two": b"the second jar" * 1000}


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """The terminal belongs to pytest."""


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[str]:
    """A Maven repository on this machine with two jars in version 1.0."""
    for artifact, content in _CONTENT.items():
        folder = tmp_path / "remote" / "org" / "example" / artifact / "1.0"
        folder.mkdir(parents=True)
        (folder / f"{artifact}-1.0.jar").write_bytes(content)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=tmp_path / "remote"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def written_lock(folder: Path, **sha256: str) -> Path:
    """A lock for the two jars, with other hashes where given."""
    hashes = {artifact: hashlib.sha256(content).hexdigest() for artifact, content in _CONTENT.items()} | sha256
    path = folder / "jars.lock"
    path.write_text("# a comment\n" + "".join(f"org.example:{artifact}:1.0 {value}\n" for artifact, value in hashes.items()))
    return path


def test_jars_are_fetched_and_verified(tmp_path: Path, remote: str) -> None:
    """The files of the lock come, in its order, and nothing else is left in the cache."""
    paths = ensure_jars(written_lock(tmp_path), tmp_path / "cache", remote=remote)
    assert [path.read_bytes() for path in paths] == list(_CONTENT.values())
    assert sorted((tmp_path / "cache" / "jars").iterdir()) == sorted(paths)


def test_full_cache_needs_no_network(tmp_path: Path, remote: str) -> None:
    """The second start asks nobody."""
    lock = written_lock(tmp_path)
    first = ensure_jars(lock, tmp_path / "cache", remote=remote)
    assert ensure_jars(lock, tmp_path / "cache", remote="http://127.0.0.1:9") == first


def test_jar_with_another_sha256_is_refused(tmp_path: Path, remote: str) -> None:
    """A jar that is not what the lock says is named, and never reaches the cache."""
    with pytest.raises(StackError, match=r"two 1\.0 has sha256 .* the lock says 0{64}: refused"):
        ensure_jars(written_lock(tmp_path, two="0" * 64), tmp_path / "cache", remote=remote)
    assert not list((tmp_path / "cache" / "jars").glob("*two*"))


def test_damaged_file_in_the_cache_is_fetched_again(tmp_path: Path, remote: str) -> None:
    """The cache is verified at every start."""
    lock = written_lock(tmp_path)
    damaged = ensure_jars(lock, tmp_path / "cache", remote=remote)[0]
    damaged.write_bytes(b"half a j")
    assert ensure_jars(lock, tmp_path / "cache", remote=remote)[0].read_bytes() == _CONTENT["one"]


def test_starts_at_the_same_time_do_not_disturb_each_other(tmp_path: Path, remote: str) -> None:
    """Eight starts with one empty cache all get whole jars."""
    lock = written_lock(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: ensure_jars(lock, tmp_path / "cache", remote=remote), range(8)))
    for paths in found:
        assert [path.read_bytes() for path in paths] == list(_CONTENT.values())
    assert len(list((tmp_path / "cache" / "jars").iterdir())) == 2


def test_no_network_is_one_line(tmp_path: Path) -> None:
    """Without a network the error names the jar and says what to do."""
    with pytest.raises(StackError, match=r"cannot download \w+ 1\.0 .*check the network") as caught:
        ensure_jars(written_lock(tmp_path), tmp_path / "cache", remote="http://127.0.0.1:9")
    assert "\n" not in str(caught.value)


def test_bad_line_in_the_lock_is_named(tmp_path: Path) -> None:
    """A line that is no coordinate with a hash is an error, not a jar left out."""
    (tmp_path / "jars.lock").write_text("org.example:one:1.0 abc\n")
    with pytest.raises(StackError, match=r"jars\.lock line 1 is not"):
        read_lock(tmp_path / "jars.lock")


def test_lock_holds_one_kafka_and_no_host() -> None:
    """All of Kafka's own jars have one version, no artifact comes twice, and no line names a place to fetch from."""
    jars = read_lock()
    assert {jar.version for jar in jars if jar.group == "org.apache.kafka"} == {"4.1.0"}
    assert len({(jar.group, jar.artifact) for jar in jars}) == len(jars)
    assert not any("/" in f"{jar.group}{jar.artifact}{jar.version}" for jar in jars)
