"""Ports that nodes listen on unless they are told otherwise: one pair for each network, so that
nodes of several networks run beside each other on one machine."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Final, NamedTuple

from msgspec import Meta

AUTO: Final = "auto"
"""In place of an address or a port: the network's own, or the next free one."""
EXAMPLE: Final = "/ip4/192.0.2.7/tcp/4001"
"""A multiaddress; RFC 5737 keeps its network for documentation."""
Multiaddress = Annotated[
    str, Meta(pattern=r"^/\S+$", extra={"expected": f"multiaddress, as {EXAMPLE}"})
]
AUTO_PORTS_TRIED: Final = 64
"""Ports that are tried, one after the other, where `auto` stands."""


class DefaultPorts(NamedTuple):
    """Where a network's nodes answer calls, and where they meet each other."""

    rpc: int
    peers: int


DEFAULT_PORTS: Final[Mapping[str, DefaultPorts]] = MappingProxyType(
    {
        "local": DefaultPorts(8645, 4001),
        "reg": DefaultPorts(8655, 4011),
        "test": DefaultPorts(8665, 4021),
        "main": DefaultPorts(8675, 4031),
    }
)

LONE_NETWORKS: Final = ("local", "reg")
"""Networks that every machine has one of its own of: a node may be alone there, and `auto` keeps it
on loopback."""


def places_to_listen(
    listen: Iterable[str], network: str, *, has_ipv6: bool = True, is_hidden: bool = False
) -> tuple[str, ...]:
    """Return the multiaddresses that are meant, with what a lone `auto` stands for: of a node that
    `is_hidden` behind a proxy loopback alone."""
    hosts = ["/ip4/0.0.0.0", "/ip6/::"] if has_ipv6 else ["/ip4/0.0.0.0"]
    if network in LONE_NETWORKS or is_hidden:
        hosts = ["/ip4/127.0.0.1"]
    places: dict[str, None] = {}
    for text in listen:
        for place in [f"{host}/tcp/{AUTO}" for host in hosts] if text == AUTO else [text]:
            places[place] = None
    return tuple(places)


def machine_has_ipv6() -> bool:
    """Return whether this machine has addresses of IPv6."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


def with_port(place: str, port: int) -> tuple[str, bool]:
    """Return a multiaddress with this port where `auto` stands for one, and whether it did."""
    ending = f"/tcp/{AUTO}"
    if not place.endswith(ending):
        return place, False
    return f"{place.removesuffix(AUTO)}{port}", True


def rpc_place(listen: str, network: str) -> tuple[str, int, bool]:
    """Return host and port of a valid ``HOST:PORT``, ``HOST:auto`` or ``auto``, and whether the
    next free port will do as well."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if port == AUTO:
        return host, DEFAULT_PORTS[network].rpc, True
    return host, int(port), False
