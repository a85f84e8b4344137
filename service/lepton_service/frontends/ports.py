"""Ports that the front ends of one server share, and nobody else.

SO_REUSEPORT alone would let a second server of the same user share a port by accident. So the first front end binds the
port without it, which fails when anybody has it, whatever their options; only then the option is set on that socket,
and the front ends bind beside it. It never listens, so no connection comes to it, and it is held to the end: there is
no moment in which another server could take the port, even when every front end is being restarted.
"""

import argparse
import socket

from lepton_service.server import PortInUseError


class ReservedPort:
    """A port of an address.

    Args:
        port: 0 takes a free one.

    Attributes:
        port: the port.

    Raises:
        PortInUseError: somebody has it, or the address is none of this machine.
    """

    def __init__(self, host: str, port: int) -> None:
        self.port = port
        self._sockets: list[socket.socket] = []
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, kind, protocol, _, address in found:
                self._bind(socket.socket(family, kind, protocol), address)
        except OSError as error:
            self.close()
            reason = error.strerror or str(error)
            raise PortInUseError(f"cannot listen on {host}:{port}: {reason}") from error

    def _bind(self, one: socket.socket, address: tuple[object, ...]) -> None:
        self._sockets.append(one)
        if one.family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # over connections that a former server has left
        one.bind((address[0], self.port, *address[2:]))
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.port = one.getsockname()[1]

    def close(self) -> None:
        """Give the port back."""
        for one in self._sockets:
            one.close()
        self._sockets = []


def reserve(args: argparse.Namespace) -> list[ReservedPort]:
    """Reserves the ports of a command line that all front ends listen on, and writes into it which they are.

    Raises:
        PortInUseError.
    """
    held = [ReservedPort(args.host, args.port)]
    args.port = held[0].port
    if args.http_port is not None:
        try:
            held.append(ReservedPort(args.http_host, args.http_port))
        except PortInUseError:
            held[0].close()
            raise
        args.http_port = held[1].port
    return held
