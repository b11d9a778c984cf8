"""Ports: distinct, free, and kept until the server has them."""

import socket

import pytest

from deploy.local.errors import StackError
from deploy.local.ports import HOST, free_ports, is_free, reserve_ports


def listening_on(port: int) -> socket.socket:
    """A server as Kafka, Triton and Prometheus make theirs."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((HOST, port))
    server.listen()
    return server


def test_ports_are_distinct_and_free() -> None:
    """Each port can be listened on."""
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        listening_on(port).close()


def test_reserved_ports_are_given_to_no_one_else() -> None:
    """While a reservation is held, no other one gets any of its ports."""
    with reserve_ports(300) as first, reserve_ports(300) as second:
        assert not set(first.ports) & set(second.ports)


def test_server_may_listen_on_a_port_that_is_held_for_it() -> None:
    """No moment lies between the end of the reservation and the server: they overlap."""
    with reserve_ports(1) as reservation, listening_on(reservation.ports[0]):
        assert not is_free(reservation.ports[0])


def test_base_gives_consecutive_ports() -> None:
    """With a base the ports are the base and those above it."""
    base = next(port for port in range(21_000, 30_000, 10) if all(is_free(port + step) for step in range(4)))
    assert free_ports(4, base) == [base, base + 1, base + 2, base + 3]


def test_taken_port_is_named_with_the_flag_that_helps() -> None:
    """The error says which port and which flag, in one line, and holds nothing afterwards."""
    base = next(port for port in range(21_005, 30_000, 10) if all(is_free(port + step) for step in range(4)))
    with listening_on(base + 2), pytest.raises(StackError, match=rf"port {base + 2} is taken .*--port-base") as caught:
        reserve_ports(4, base)
    assert "\n" not in str(caught.value)
    assert is_free(base)


def test_ports_of_last_time_are_taken_again_when_free() -> None:
    """A stack that starts anew keeps its addresses; when one of them is taken it gets others."""
    wanted = free_ports(3)
    with reserve_ports(3, wanted=wanted) as again:
        assert again.ports == wanted
    with listening_on(wanted[1]), reserve_ports(3, wanted=wanted) as others:
        assert wanted[1] not in others.ports


@pytest.mark.parametrize("base", [80, 65_534])
def test_base_out_of_range_is_refused(base: int) -> None:
    """Ports that need a privilege, or that do not exist, are refused in one line."""
    with pytest.raises(StackError, match="--port-base between 1024 and"):
        reserve_ports(4, base)
