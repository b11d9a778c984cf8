"""Where Triton's own server is found, and the folder that its python backend needs: all out of the `nvidia-pytriton` wheel."""

import importlib.util
import os
import shutil
import stat
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from deploy.local.errors import StackError

_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
_LIBPYTHON = f"libpython{_VERSION}.so.1.0"  # what the stub is linked to


@dataclass(frozen=True)
class TritonFiles:
    """The server's binary, the python backend's parts, and the libraries they are linked to."""

    server: Path
    backend: Path
    stub: Path
    libraries: Path
    libpython: Path


def find_triton() -> TritonFiles:
    """The files of the installed wheel. Raises StackError when something is missing."""
    package = importlib.util.find_spec("pytriton")
    if package is None or package.origin is None:
        raise StackError("no Triton: install the `local` extra (pip install -e '.[local]')")
    root = Path(package.origin).parent
    folder = root / "tritonserver"
    files = TritonFiles(
        server=folder / "bin" / "tritonserver",
        backend=folder / "backends" / "python",
        stub=folder / "python_backend_stubs" / _VERSION / "triton_python_backend_stub",
        libraries=root.parent / "nvidia_pytriton.libs",
        libpython=find_libpython(),
    )
    for path in (files.server, files.backend, files.stub, files.libraries):
        if not path.exists():
            raise StackError(
                f"the nvidia-pytriton package has no {path.name} for Python {_VERSION}: install version 0.7.0 of it again"
            )
    return files


def find_libpython() -> Path:
    """The shared library of this very Python version, which Triton's stub process is linked to.

    First the running interpreter's own, then the system's. An interpreter may come without (Debian's python3.11 does).

    Raises:
        StackError: there is none on this machine.
    """
    folders = [sysconfig.get_config_var("LIBDIR"), f"{sys.base_prefix}/lib", f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}"]
    folders += ["/usr/lib64", "/usr/lib", "/usr/local/lib"]
    for folder in folders:
        path = Path(folder or "") / _LIBPYTHON
        if folder and path.exists():
            return path.resolve()
    raise StackError(
        f"Triton needs {_LIBPYTHON}, which is nowhere here: install it (Debian: apt-get install libpython{_VERSION})"
    )


def make_backend_folder(files: TritonFiles, folder: Path) -> None:
    """Lays out `folder`/python as Triton expects it, with the stub for this Python, and `folder`/lib with libpython alone."""
    python = folder / "python"
    shutil.rmtree(folder, ignore_errors=True)
    python.mkdir(parents=True)
    for part in files.backend.iterdir():
        if part.is_file():  # installers that compile leave a folder there
            shutil.copy(part, python / part.name)
    shutil.copy(files.stub, python / files.stub.name)
    _make_executable(python / files.stub.name)
    _make_executable(files.server)
    (folder / "lib").mkdir()
    (folder / "lib" / _LIBPYTHON).symlink_to(files.libpython)


def environment(files: TritonFiles, folder: Path) -> dict[str, str]:
    """What the server and its stubs inherit.

    The stub's interpreter is isolated: it ignores PYTHONPATH and PYTHONHOME, but looks for `python3` on the PATH as any
    embedded Python does, and follows the `pyvenv.cfg` beside it. So the packages (with their NumPy 1.26) are those of the
    environment whose `bin` comes first.
    """
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        "LD_LIBRARY_PATH": f"{files.libraries}:{folder / 'lib'}",
    }


def _make_executable(path: Path) -> None:
    mode = path.stat().st_mode
    if mode & stat.S_IXUSR:
        return
    try:
        path.chmod(mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    except OSError as error:
        raise StackError(f"{path} is not executable and cannot be made so ({error.strerror}): chmod +x it") from error
