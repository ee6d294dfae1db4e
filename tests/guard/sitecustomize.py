"""Refuses every connection that is not loopback, in this process and, by ``PYTHONPATH``, in its children.

Python imports ``sitecustomize`` at start-up. An audit hook cannot be removed again, but ``connect`` resolves a name
in C before it is audited, so the methods that take an address are wrapped as well. What was refused is written down
(``MYSTOCKS_GUARD_LOG``), for a caller may swallow the error.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import socket
import sys

_EVENTS = frozenset(
    {
        "socket.connect",
        "socket.sendto",
        "socket.sendmsg",
        "socket.getaddrinfo",
        "socket.gethostbyname",
    }
)


class NotLoopback(PermissionError):
    """A connection to another machine was tried."""


def _is_loopback(host: object) -> bool:
    if host in (None, "", b"", "localhost", b"localhost"):
        return True
    text = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False  # a name: resolving it would ask another machine
    return address.is_loopback or address.is_unspecified


def _target(event: str, args: tuple[object, ...]) -> object:
    """The host an audited call is about; None where it names none (a Unix socket, a connected one)."""
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        return args[0]
    address = args[1]
    return address[0] if isinstance(address, tuple) else None


def _refuse(event: str, args: tuple[object, ...]) -> None:
    if event not in _EVENTS:
        return
    host = _target(event, args)
    if _is_loopback(host):
        return
    if log := os.environ.get("MYSTOCKS_GUARD_LOG"):
        with open(log, "a", encoding="utf-8") as file:  # noqa: PTH123 - start-up: pathlib is not loaded yet
            file.write(f"{os.getpid()} {event} {host!r}\n")
    raise NotLoopback(f"{event} to {host!r}: only loopback may be contacted here")


def _asking_first(name: str) -> None:
    method = getattr(socket.socket, name)

    @functools.wraps(method)
    def asked(self: socket.socket, *args: object) -> object:
        _refuse("socket.connect", (self, args[-1]))  # the address is the last argument of each
        return method(self, *args)

    setattr(socket.socket, name, asked)


if not getattr(sys, "mystocks_guarded", False):
    sys.mystocks_guarded = True  # type: ignore[attr-defined]
    sys.addaudithook(_refuse)
    for _name in ("connect", "connect_ex", "sendto"):
        _asking_first(_name)
