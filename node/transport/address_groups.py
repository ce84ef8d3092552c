"""Which addresses belong together: what a ban covers, and what counts as one network."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final

from unchained.node.transport.contract import PeerId

_IPV4_NETWORK: Final = 16
_IPV6_HOST: Final = 64
_IPV6_NETWORK: Final = 32


def host_group(ip: str, peer: PeerId | None = None) -> str:
    """Return what bans and limits per address go by: an IPv4 address or an IPv6 /64.

    All of this machine's own nodes share its loopback address: there it is the peer's id that
    counts, and nothing while that is unknown (an empty group is never banned).
    """
    if is_loopback(ip):
        return "" if peer is None else f"loopback/{peer}"
    return address_group(ip)


@lru_cache(maxsize=4096)
def address_group(ip: str) -> str:
    """Return an IPv4 address or an IPv6 /64, loopback or not."""
    parsed = _parse(ip)
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    return str(ipaddress.ip_network((parsed, _IPV6_HOST), strict=False))


@lru_cache(maxsize=4096)
def network_group(ip: str) -> str:
    """Return what is likely in one hand: an IPv4 /16 or an IPv6 /32."""
    parsed = _parse(ip)
    bits = _IPV4_NETWORK if isinstance(parsed, ipaddress.IPv4Address) else _IPV6_NETWORK
    return str(ipaddress.ip_network((parsed, bits), strict=False))


@lru_cache(maxsize=4096)
def is_loopback(ip: str) -> bool:
    """Return whether an address is this machine's own."""
    return _parse(ip).is_loopback


@lru_cache(maxsize=4096)
def is_public(ip: str) -> bool:
    """Return whether an address means the same host everywhere. Limits per network are for such:
    a home or a testnet in containers is one network by nature."""
    return _parse(ip).is_global


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
