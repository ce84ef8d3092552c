"""Sockets to listen on, addresses to announce, and names to resolve."""

from __future__ import annotations

import errno
import ipaddress
import math
import os
import resource
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Protocol

import psutil
import trio

from unchained.node.base.ports import AUTO_PORTS_TRIED, with_port
from unchained.node.base.token_bucket import TokenBucket
from unchained.node.transport.address import Address
from unchained.node.transport.contract import BadAddressError, CannotListenError, PeerId
from unchained.node.transport.libp2p.arrivals import (
    ARRIVALS_WAITING_MAX,
    ARRIVALS_WAITING_PER_IP_MAX,
    Arrivals,
)

BACKLOG_CONNECTIONS: Final = 4_096
"""Connections that wait in the kernel, first come first served: as many as most systems allow."""
ACCEPTED_PER_S: Final = 10_000.0
"""Connections taken from there per second. Nobody but who makes more of them keeps others out."""
ACCEPTED_AT_ONCE: Final = 64
"""Of them, those that are taken in one step."""
ARRIVALS_BURST: Final = 64
ARRIVALS_PER_S: Final = 500.0
"""Connections looked at per second, after a burst: of networks in turn."""
ARRIVALS_SHARE: Final = 1 / 16
"""Of the files that the process may have open, at most so many are connections that wait for a
listener. A node has three as a rule: of IPv4, of IPv6 and of its onion service."""
RESOLVED_ADDRESSES_MAX: Final = 8
"""Addresses of a name that are tried."""

_GONE_BEFORE: Final = frozenset(
    {
        errno.ECONNABORTED,
        errno.EPERM,
        errno.EPROTO,
        errno.ENETDOWN,
        errno.ENOPROTOOPT,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EOPNOTSUPP,
        errno.ENETUNREACH,
    }
)
"""What `accept` says of a connection that is broken already (accept(2))."""
_FAMILIES: Final = {"dns4": socket.AF_INET, "dns6": socket.AF_INET6, "dns": socket.AF_UNSPEC}


class Resolve(Protocol):
    """Blocking look-up of a name."""

    def __call__(self, host: str, port: int, family: int, /) -> Sequence[str]:
        """Return IP literals, by host, port and address family. Raises OSError."""


def resolve(host: str, port: int, family: int) -> Sequence[str]:
    """Ask the system, /etc/hosts included."""
    found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    return [str(place[0]) for *_, place in found]


async def places(
    address: Address, resolver: Resolve, limiter: trio.CapacityLimiter
) -> Sequence[str]:
    """Return the IP literals of an address; a look-up runs in a thread. Raises OSError.

    Cancelling leaves the look-up to end by itself."""
    if not address.is_name:
        return (address.host,)
    found = await trio.to_thread.run_sync(
        resolver,
        address.host,
        address.port,
        _FAMILIES[address.kind],
        abandon_on_cancel=True,
        limiter=limiter,
    )
    return list(dict.fromkeys(plain(ip) for ip in found))[:RESOLVED_ADDRESSES_MAX]


def plain(ip: str) -> str:
    """Return an IP literal as limits go by: no zone, IPv4 as IPv4."""
    parsed = ipaddress.ip_address(ip.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(parsed)


@dataclass(frozen=True, slots=True)
class ListenPlace:
    """Where to listen; the next free port will do as well if `takes_next`."""

    address: Address
    takes_next: bool = False


def parse_listen(text: str, auto_port: int = 0) -> ListenPlace:
    """Read an address to listen on, whose port may be `auto`; raises `CannotListenError`."""
    filled, takes_next = with_port(text, auto_port)
    try:
        address = Address.parse(filled)
    except BadAddressError as error:
        raise CannotListenError(text, str(error)) from None
    if address.kind not in ("ip4", "ip6"):
        raise CannotListenError(text, "expected an ip4 or ip6 literal, not a name")
    return ListenPlace(address, takes_next)


async def listen(places: Iterable[ListenPlace]) -> list[tuple[Address, socket.socket]]:
    """Bind every address, or none, without blocking; raises `CannotListenError`.

    Fault 12: libp2p shares ports (SO_REUSEPORT) and starts with no address where one is taken.
    It can go when libp2p's listener fails for a port in use."""
    bound: list[tuple[Address, socket.socket]] = []
    try:
        for place in places:
            listening = await _bind_place(place)
            bound.append((place.address, listening))
    except BaseException:
        # One that is taken, or whoever starts it is cancelled between two.
        for _, listening in bound:
            listening.close()
        raise
    return [
        (Address(address.kind, address.host, listening.getsockname()[1]), listening)
        for address, listening in bound
    ]


async def _bind_place(place: ListenPlace) -> socket.socket:
    address = place.address
    last = min(address.port + AUTO_PORTS_TRIED - 1, 0xFFFF) if place.takes_next else address.port
    for port in range(address.port, last):
        with suppress(PortInUseError):
            return await _bind(replace(address, port=port))
    return await _bind(replace(address, port=last))


class PortInUseError(CannotListenError):
    """Somebody else listens there."""


async def _bind(address: Address) -> socket.socket:
    family = socket.AF_INET if address.kind == "ip4" else socket.AF_INET6
    await trio.lowlevel.checkpoint()
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise CannotListenError(str(address), _why(error)) from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind((address.host, address.port))
        sock.listen(BACKLOG_CONNECTIONS)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(str(address), "the port is in use") from None
        raise CannotListenError(str(address), _why(error)) from None
    return sock


class Doorkeeper(Protocol):
    """Says which connections are looked at: the transport."""

    def may_connect(self, ip: str) -> bool:
        """Return whether a connection from an address may go on to its handshake."""


class ThrottledListener(trio.abc.Listener[trio.SocketStream]):
    """A listener that nobody keeps busy, or others away from, by connecting.

    What comes is taken from the kernel, whose queue is one for all, as fast as it comes, and waits
    in `Arrivals`, where each network has its share. Of these so many connections per second are
    looked at, and closed at once, without a task, if its doorkeeper does not let them in."""

    def __init__(self, listening: socket.socket, doorkeeper: Doorkeeper, ip: str = "") -> None:
        """`listening` does not block; `ip` stands for all who come, if given."""
        self._socket = listening
        self._doorkeeper = doorkeeper
        self._ip = ip
        self._arrivals = Arrivals[tuple[str, socket.socket]](_arrivals_waiting())
        now = trio.current_time()
        self._accepted = TokenBucket(ACCEPTED_AT_ONCE, ACCEPTED_PER_S, now)
        self._pace = TokenBucket(ARRIVALS_BURST, ARRIVALS_PER_S, now)

    async def accept(self) -> trio.SocketStream:
        """Wait for a connection that is let in."""
        while True:
            await trio.lowlevel.checkpoint()
            self._take_in()
            now = trio.current_time()
            due = now + self._pace.delay(now) if len(self._arrivals) else math.inf
            if due > now:
                with trio.move_on_at(due):
                    await self._more()
                continue
            self._pace.spend(now)
            ip, arrived = self._arrivals.next()
            if self._doorkeeper.may_connect(ip):
                return trio.SocketStream(trio.socket.from_stdlib_socket(arrived))
            arrived.close()

    async def _more(self) -> None:
        """Wait until there are connections in the kernel that may be taken: where there are as many
        as that, some together, since each step costs as much as a few of them."""
        now = trio.current_time()
        if self._accepted.level(now) < 1:
            await trio.sleep(self._accepted.delay(now, ACCEPTED_AT_ONCE / 4))
        await trio.lowlevel.wait_readable(self._socket)

    def _take_in(self) -> None:
        """Take what waits in the kernel. Raises OSError where there is no room for any."""
        now = trio.current_time()
        while self._accepted.level(now) >= 1:
            try:
                arrived, (host, *_) = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _GONE_BEFORE:
                    continue
                if len(self._arrivals):
                    # Room comes with those who are looked at: it is not asked for at once again.
                    self._accepted.spend(now, ACCEPTED_AT_ONCE)
                    return
                raise
            self._accepted.spend(now)
            ip = self._ip or plain(host)
            left = self._arrivals.add(ip, (ip, arrived))
            if left is not None:
                left[1].close()

    async def aclose(self) -> None:
        """Stop listening, and close what waits."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Do the same at once."""
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()
        while len(self._arrivals):
            self._arrivals.next()[1].close()


def _arrivals_waiting() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return ARRIVALS_WAITING_MAX
    return max(ARRIVALS_WAITING_PER_IP_MAX, min(ARRIVALS_WAITING_MAX, int(files * ARRIVALS_SHARE)))


def dial_problem(error: OSError) -> str:
    """Return in words why nobody was reached: of several attempts, the first one's reason."""
    cause: BaseException = error.__cause__ or error
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return _why(cause if isinstance(cause, OSError) else error)


def _why(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def announced(bound: Iterable[Address], peer: PeerId) -> list[str]:
    """Return what others can dial: an unspecified address stands for this machine's own."""
    given: dict[str, None] = {}
    for address in bound:
        here = ipaddress.ip_address(address.host)
        hosts = interfaces(here.version) if here.is_unspecified else [address.host]
        for host in hosts:
            given[str(Address.of_ip(host, address.port, peer))] = None
    return list(given)


def outer(bound: Iterable[Address], ip: str, peer: PeerId) -> list[str]:
    """Return how others may reach what listens on all addresses, at a public one: behind a NAT, if
    that hands the port on."""
    place = Address.of_ip(ip, 0)
    return [
        str(Address(place.kind, place.host, address.port, peer))
        for address in bound
        if address.kind == place.kind and ipaddress.ip_address(address.host).is_unspecified
    ]


def interfaces(version: int) -> list[str]:
    """Return this machine's addresses; loopback only if there is no other."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    found = [
        ipaddress.ip_address(entry.address.partition("%")[0])
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family == family
    ]
    usable = [ip for ip in found if not ip.is_loopback and not ip.is_link_local]
    return [str(ip) for ip in usable or found]
