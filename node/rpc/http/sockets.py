"""What the server listens on: TCP, the owner's Unix socket, TLS."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from unchained.node.base.randomness import SYSTEM

SOCKET_PATH_BYTES_MAX: Final = 107
"""Longest path of a Unix socket on Linux."""

SOCKET_BACKLOG: Final = 128
_SUFFIX_BYTES: Final = 4


class ListenError(Exception):
    """The address cannot be listened on; the message is one line for the operator."""


async def listen(host: str, port: int, last: int = 0) -> list[trio.SocketListener]:
    """Open the sockets for `host` (an address, or a name such as localhost) and `port` (0: any), or
    the next free one up to `last`.

    Raises ListenError.
    """
    if host == "localhost":
        host = "127.0.0.1"
    try:
        if not 0 <= port <= 0xFFFF:
            raise OverflowError("a port is from 0 to 65535")
        return await trio.open_tcp_listeners(port, host=host)
    except (OSError, OverflowError, UnicodeError) as error:
        if getattr(error, "errno", None) == errno.EADDRINUSE and port < last:
            return await listen(host, port + 1, last)
        reason = getattr(error, "strerror", None) or str(error)
        raise ListenError(
            f"cannot listen for RPC on {shown(host, port)}: {reason} "
            "(choose another address with --rpc-listen HOST:PORT)"
        ) from None


def fits_socket(path: Path) -> bool:
    """Return whether a Unix socket can have a path, and the one that it is made under."""
    return len(os.fsencode(path)) + len("..") + 2 * _SUFFIX_BYTES <= SOCKET_PATH_BYTES_MAX


def listen_at(path: Path) -> trio.SocketListener:
    """Open a Unix socket that its owner alone can connect to, in place of one that was left over.

    Raises ListenError.
    """
    beside = path.with_name(f".{path.name}.{SYSTEM.token_bytes(_SUFFIX_BYTES).hex()}")
    if not fits_socket(path):
        raise ListenError(
            f"{path}: the path of a socket has at most {SOCKET_PATH_BYTES_MAX} bytes "
            "(choose another with the setting rpc.socket)"
        )
    made = socket.socket(socket.AF_UNIX)
    try:
        if path.exists() and not path.is_socket():
            raise ListenError(f"{path} is there and no socket (see the setting rpc.socket)")
        _remove_unfinished(path)
        made.bind(os.fspath(beside))
        # Nobody knows the name yet: it has its mode before anybody can connect.
        beside.chmod(0o600)
        made.listen(SOCKET_BACKLOG)
        beside.replace(path)
    except OSError as error:
        made.close()
        with suppress(OSError):
            beside.unlink()
        raise ListenError(f"cannot listen for RPC on {path}: {error.strerror}") from None
    except BaseException:
        made.close()
        raise
    return trio.SocketListener(trio.socket.from_stdlib_socket(made))


def _remove_unfinished(path: Path) -> None:
    """Remove what processes that were killed as they made the socket have left beside it. Raises
    OSError."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{{2 * _SUFFIX_BYTES}}}")
    for found in path.parent.iterdir():
        if name.fullmatch(found.name) and found.is_socket():
            found.unlink(missing_ok=True)


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return what connections are encrypted by, from PEM files. Raises ListenError."""
    for path in (certificate, key):
        try:
            with path.open("rb"):
                pass
        except OSError as error:
            raise ListenError(f"cannot read {path}: {error.strerror}") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # An encrypted key would have Python ask for its passphrase on the terminal.
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except (ssl.SSLError, ValueError, OSError):
        raise ListenError(
            f"{certificate} and {key} are no certificate and its key without a passphrase, in PEM "
            "(see rpc.tls_certificate and rpc.tls_key)"
        ) from None
    return context


def _no_passphrase() -> str:
    raise ValueError("the key is encrypted")


def shown(host: str, port: int) -> str:
    """Return `host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Return whether `host` is an address that only this machine reaches."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
