"""Which addresses belong together: what a ban covers, and what counts as one network."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final

from blake3 import blake3

from unchained.node.transport.contract import PeerId

_IPV4_NETWORK: Final = 16
_IPV6_HOST: Final = 64
_IPV6_NETWORK: Final = 32
_STAND_INS: Final = ipaddress.IPv6Network("fd87:d87e:eb43::/48")
"""Of a private range, so nobody's: literals that stand for hosts that are known by name alone,
onion services above all, wherever limits go by address. Bitcoin Core used it likewise."""
ONION_VISITOR: Final = str(_STAND_INS[-1])
"""That for all who come through an onion service of ours, wherever they are."""
_STAND_IN_NETWORK: Final = 56
"""A key for an onion service costs nothing, so that these tell little: 256 networks."""


def stand_in(name: str) -> str:
    """Return the literal that stands for a host that is known by name."""
    low = int.from_bytes(blake3(name.lower().rstrip(".").encode()).digest(length=10), "big")
    return str(_STAND_INS[low])


def host_group(ip: str, peer: PeerId | None = None) -> str:
    """Return what bans and limits per address go by: an IPv4 address or an IPv6 /64.

    All of this machine's own nodes share its loopback address, and all visitors of an onion service
    one that stands for them: there it is the peer's id that counts, and nothing while that is
    unknown (an empty group is never banned).
    """
    if is_shared(ip):
        door = "loopback" if is_loopback(ip) else "onion"
        return "" if peer is None else f"{door}/{peer}"
    return address_group(ip)


@lru_cache(maxsize=4096)
def address_group(ip: str) -> str:
    """Return an IPv4 address or an IPv6 /64, loopback or not."""
    parsed = _parse(ip)
    if isinstance(parsed, ipaddress.IPv4Address) or parsed in _STAND_INS:
        return str(parsed)
    return str(ipaddress.ip_network((parsed, _IPV6_HOST), strict=False))


@lru_cache(maxsize=4096)
def network_of_host(group: str) -> str:
    """Return what network a `host_group` is of. All who come through one door and have no address
    here are of one, and so are all who are known by name alone: a peer's id, or a key for an onion
    service, costs nothing."""
    literal = group.partition("/")[0]
    try:
        return "name" if is_stand_in(literal) else network_group(literal)
    except ValueError:
        return literal


@lru_cache(maxsize=4096)
def network_group(ip: str) -> str:
    """Return what is likely in one hand: an IPv4 /16 or an IPv6 /32."""
    parsed = _parse(ip)
    bits = _IPV4_NETWORK if isinstance(parsed, ipaddress.IPv4Address) else _IPV6_NETWORK
    if parsed in _STAND_INS:
        bits = _STAND_IN_NETWORK
    return str(ipaddress.ip_network((parsed, bits), strict=False))


def is_stand_in(ip: str) -> bool:
    """Return whether a literal only stands for a host that is known by name."""
    return _parse(ip) in _STAND_INS


@lru_cache(maxsize=4096)
def is_loopback(ip: str) -> bool:
    """Return whether an address is this machine's own."""
    return _parse(ip).is_loopback


def is_shared(ip: str) -> bool:
    """Return whether many nodes have this address: no limits per address are for it."""
    return ip == ONION_VISITOR or is_loopback(ip)


@lru_cache(maxsize=4096)
def is_public(ip: str) -> bool:
    """Return whether an address means the same host everywhere. Limits per network are for such:
    a home or a testnet in containers is one network by nature."""
    parsed = _parse(ip)
    return parsed.is_global or parsed in _STAND_INS


@lru_cache(maxsize=4096)
def is_dialable(ip: str) -> bool:
    """Return whether an address can be a host's at all."""
    parsed = _parse(ip)
    return not (parsed.is_unspecified or parsed.is_multicast or parsed.is_reserved)


def _parse(ip: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    parsed = ipaddress.ip_address(ip)
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped
    return parsed
