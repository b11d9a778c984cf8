"""Free ports on the loopback address, kept from others until the server has them."""

import random
import socket
from collections.abc import Sequence
from types import TracebackType

from deploy.local.errors import StackError

HOST = "127.0.0.1"
# Below the range from which Linux takes the near end of outgoing connections (32768 and up), so that none of those can take a
# port between the choice and the start of its server.
_RANGE = range(20_000, 32_000)


class PortReservation:
    """Distinct ports, each held by a bound socket that does not listen.

    Such a socket keeps every other reservation away, and yet lets a server that sets SO_REUSEADDR (Kafka, Triton and
    Prometheus all do) bind and listen on the same port. Close it when the servers are up.
    """

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self._sockets = list(sockets)
        self.ports: list[int] = [held.getsockname()[1] for held in sockets]

    def close(self) -> None:
        """Lets go of the ports."""
        while self._sockets:
            self._sockets.pop().close()

    def __enter__(self) -> "PortReservation":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def reserve_ports(count: int, base: int | None = None, wanted: Sequence[int] = ()) -> PortReservation:
    """Reserves `count` ports: `base`, `base` + 1, ... when a base is given; else the `wanted` ones when all are free; else any.

    Raises:
        StackError: a port from the base upwards is taken.
    """
    if base is not None:
        return PortReservation(_consecutive(base, count))
    if len(wanted) == count:
        try:
            return PortReservation(_each(wanted))
        except OSError:
            pass  # they were only a wish
    return PortReservation(_random(count))


def free_ports(count: int, base: int | None = None) -> list[int]:
    """Like `reserve_ports`, for a caller that binds them at once."""
    with reserve_ports(count, base) as reservation:
        return reservation.ports


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    try:
        _bound(port, shared=True).close()
    except OSError:
        return False
    return True


def _consecutive(base: int, count: int) -> list[socket.socket]:
    if not 1024 <= base <= 65536 - count:
        raise StackError(f"port base {base} is out of range: choose --port-base between 1024 and {65536 - count}")
    sockets: list[socket.socket] = []
    for port in range(base, base + count):
        try:
            sockets.append(_bound(port, shared=True))
        except OSError as error:
            for held in sockets:
                held.close()
            raise StackError(
                f"port {port} is taken ({error.strerror}): choose another --port-base ({base} needs {base} to {base + count - 1})"
            ) from error
    return sockets


def _each(ports: Sequence[int]) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        for port in ports:
            sockets.append(_bound(port, shared=True))
    except OSError:
        for held in sockets:
            held.close()
        raise
    return sockets


def _random(count: int) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    for port in random.sample(_RANGE, len(_RANGE)):
        try:
            sockets.append(_bound(port, shared=False))
        except OSError:
            continue
        if len(sockets) == count:
            return sockets
    for held in sockets:
        held.close()
    raise StackError(f"no {count} free ports among {_RANGE.start}-{_RANGE.stop}: give --port-base")


def _bound(port: int, shared: bool) -> socket.socket:
    """`shared` tolerates the closing connections of a server that just stopped; without it no other reservation is tolerated."""
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if shared:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((HOST, port))
        # Set in any case, or the server could not bind beside this socket.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except OSError:
        held.close()
        raise
    return held
