"""Compiling by numba: without the interpreter's lock, and kept on disk for the next start.

numba compiles anew when the function's own file has changed. Constants and functions of other files are compiled in as well
(where in a row a thing lies is said by `features`), so here every file of this package counts.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from numba import config, njit
from numba.core.caching import InTreeCacheLocator, UserProvidedCacheLocator, UserWideCacheLocator

_Function = TypeVar("_Function", bound=Callable[..., Any])


@cache
def _contract_stamp() -> bytes:
    """SHA-256 of this package's sources, by name and text."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.digest()


class _Stamped:
    """What is kept is of use as long as this stamp is the same."""

    def get_source_stamp(self) -> tuple[object, bytes]:
        return super().get_source_stamp(), _contract_stamp()  # type: ignore[misc]


class InFolderOfUser(_Stamped, UserProvidedCacheLocator):
    """Kept where NUMBA_CACHE_DIR says."""


class BesideSource(_Stamped, InTreeCacheLocator):
    """Kept in `__pycache__`."""


class InHome(_Stamped, UserWideCacheLocator):
    """Kept in the user's own cache, where the source's folder cannot be written to."""


_PLACES = ",".join(f"{__name__}.{place.__name__}" for place in (InFolderOfUser, BesideSource, InHome))


def compiled(**options: Any) -> Callable[[_Function], _Function]:
    """`numba.njit` and its options. Where it keeps things is numba's own setting, and ours only while a function is declared."""

    def declare(function: _Function) -> _Function:
        others = config.CACHE_LOCATOR_CLASSES  # type: ignore[attr-defined]  # from the environment
        config.CACHE_LOCATOR_CLASSES = _PLACES  # type: ignore[attr-defined]
        try:
            return njit(cache=True, nogil=True, **options)(function)  # type: ignore[no-any-return]
        finally:
            config.CACHE_LOCATOR_CLASSES = others  # type: ignore[attr-defined]

    return declare
