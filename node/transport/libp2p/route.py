"""The way to a peer: straight over TCP, or through a SOCKS5 proxy such as Tor's.

Through a proxy nothing is looked up here: names, those of onion services among them, are the
proxy's to resolve, and each peer gets a circuit of its own, since Tor keeps apart what comes with
different user names (its `IsolateSOCKSAuth`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Protocol

import trio
from python_socks import ProxyType
from python_socks.async_.trio import Proxy

from unchained.node.base.randomness import SYSTEM
from unchained.node.transport.address import Address
from unchained.node.transport.libp2p.listener import dial_problem

ISOLATION_PASSWORD: Final = "unchained"  # noqa: S105 - a proxy keeps circuits apart by it
KINDS: Final = {"ip4": "ipv4", "ip6": "ipv6", "onion3": "onion"}
"""The kind of network, as `network.only` names it, of each kind of address but a name."""


class RouteError(Exception):
    """Nobody was reached; the message says why."""


class Route(Protocol):
    """Opens connections."""

    @property
    def resolves(self) -> bool:
        """Whether names are left to it."""

    def refusal(self, address: Address) -> str | None:
        """Return why no address of this kind can be reached; None if it can."""

    async def open(self, host: str, port: int) -> trio.SocketStream:
        """Connect to an IP literal or, if it `resolves`, to a name. Raises `RouteError`."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Which kinds of network a node dials: `onion`, `ipv4`, `ipv6`; none given means all."""

    only: Collection[str] = ()

    def refusal(self, address: Address) -> str | None:
        """Return why an address is not dialled."""
        if not self.only or (address.is_name and set(self.only) != {"onion"}):
            return None
        if KINDS.get(address.kind) in self.only:
            return None
        return f"network.only is {', '.join(sorted(self.only))}"


class DirectRoute:
    """Straight over TCP."""

    resolves = False

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    def refusal(self, address: Address) -> str | None:
        """Return why no address of this kind can be reached; None if it can."""
        if address.kind == "onion3":
            return "an onion address takes a proxy (network.proxy)"
        return self._reach.refusal(address)

    async def open(self, host: str, port: int) -> trio.SocketStream:
        """Connect to an IP literal. Raises `RouteError`."""
        try:
            return await trio.open_tcp_stream(host, port)
        except OSError as error:
            raise RouteError(dial_problem(error)) from None


class ProxiedRoute:
    """Through a SOCKS5 proxy."""

    resolves = True

    def __init__(self, host: str, port: int, reach: Reach) -> None:
        self._host = host
        self._port = port
        self._reach = reach
        self._secret = SYSTEM.token_bytes(16)

    def refusal(self, address: Address) -> str | None:
        """Return why no address of this kind can be reached; None if it can."""
        return self._reach.refusal(address)

    async def open(self, host: str, port: int) -> trio.SocketStream:
        """Connect to an IP literal or a name, on a circuit of its own. Raises `RouteError`."""
        proxy = Proxy(
            proxy_type=ProxyType.SOCKS5,
            host=self._host,
            port=self._port,
            username=self._user(host, port),
            password=ISOLATION_PASSWORD,
            rdns=True,
        )
        try:
            sock = await proxy.connect(dest_host=host, dest_port=port)
        except Exception as error:  # noqa: BLE001 - of whatever the proxy or its library says
            raise RouteError(f"by the proxy {self._host}:{self._port}: {_why(error)}") from None
        return trio.SocketStream(sock)

    def _user(self, host: str, port: int) -> str:
        """Return the user name for a place: always the same, of no other node's, and as long for
        any name, since SOCKS has room for 255 bytes."""
        place = f"{host}:{port}".encode()
        return hashlib.blake2b(place, digest_size=16, key=self._secret).hexdigest()


def _why(error: Exception) -> str:
    """Return what went wrong, in one line."""
    if isinstance(error, OSError):
        return dial_problem(error)
    return " ".join(str(error).split()) or f"it says no more than {type(error).__name__}"


def route_of(proxy: str, only: Collection[str]) -> Route:
    """Return the way to peers that settings name: through ``HOST:PORT``, or straight."""
    reach = Reach(only)
    if not proxy:
        return DirectRoute(reach)
    host, _, port = proxy.rpartition(":")
    return ProxiedRoute(host.strip("[]"), int(port), reach)
