"""Copying and clearing parts of arrays in compiled code, as fast as memory is. numba moves slices item by item, ten times slower.

Nobody looks whether a part lies within its array. Arrays are contiguous; if they have more than one dimension, places count as if
they had one.
"""

from typing import Any

import numpy.typing as npt
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from worker.contract.compiled import compiled

Array = npt.NDArray[Any]


@intrinsic
def _copy(_: Any, source: Any, start: Any, size: Any, target: Any, at: Any) -> Any:
    """What the compiler has for `memcpy`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, start, size, target, at = arguments
        source_type, *_, target_type, _ = signature.args
        from_, to = _place(context, builder, source_type, source, start), _place(context, builder, target_type, target, at)
        cgutils.raw_memcpy(builder, to, from_, size, source_type.dtype.bitwidth // 8)  # type: ignore[no-untyped-call]
        return context.get_dummy_value()

    return types.void(source, types.int64, types.int64, target, types.int64), generate


@intrinsic
def _clear(_: Any, target: Any, at: Any, size: Any) -> Any:
    """What the compiler has for `memset`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, at, size = arguments
        to, item = _place(context, builder, signature.args[0], target, at), signature.args[0].dtype.bitwidth // 8
        cgutils.memset(builder, to, builder.mul(size, size.type(item)), 0)  # type: ignore[no-untyped-call]
        return context.get_dummy_value()

    return types.void(target, types.int64, types.int64), generate


def _place(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    return builder.gep(context.make_array(kind)(context, builder, array).data, [at])


@compiled(inline="always")
def copy(source: Array, start: int, end: int, target: Array, at: int) -> int:
    """Copy a part, between arrays of one type; returns where in the target it ends."""
    size = end - start
    _copy(source, start, size, target, at)  # type: ignore[call-arg]  # numba gives the first
    return at + size


@compiled(inline="always")
def clear(target: Array, start: int, end: int) -> None:
    """Make a part zero."""
    _clear(target, start, end - start)  # type: ignore[call-arg]  # as above
