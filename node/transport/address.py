"""Peer addresses: the few multiaddr forms that are dialled, parsed without a network."""

from __future__ import annotations

import base64
import ipaddress
import re
from dataclasses import dataclass
from hashlib import sha3_256
from typing import Final

from unchained.node.base.ports import EXAMPLE
from unchained.node.transport.address_groups import stand_in
from unchained.node.transport.contract import BadAddressError, PeerId

ADDRESS_FORM: Final = f"/ip4|ip6|dns|dns4|dns6/HOST/tcp/PORT[/p2p/PEER], such as {EXAMPLE}"
ONION_FORM: Final = "/onion3/56 LETTERS AND DIGITS:PORT[/p2p/PEER]"

_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?\Z")
_ONION = re.compile(r"[a-z2-7]{56}\Z")
_PEER = re.compile(r"[1-9A-HJ-NP-Za-km-z]{40,64}\Z")
ADDRESS_LENGTH_MAX: Final = 400
"""Characters of an address that are looked at."""


@dataclass(frozen=True, slots=True)
class Address:
    """One way to reach a peer, or to listen."""

    kind: str
    """``ip4``, ``ip6``, ``dns``, ``dns4``, ``dns6`` or ``onion3``."""
    host: str
    """A literal, a name, or an onion service's without ``.onion``."""
    port: int
    peer: PeerId | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read a multiaddr. IP literals come out in their canonical form; raises
        `BadAddressError`."""
        parts = text.split("/") if len(text) <= ADDRESS_LENGTH_MAX else []
        if parts[1:2] == ["onion3"]:
            host, _, port_text = "".join(parts[2:3]).partition(":")
            parts[2:3] = [host, "tcp", port_text]
            if not _is_onion(host):
                raise BadAddressError(text, ONION_FORM)
        if len(parts) not in (5, 7) or parts[0] or parts[3] != "tcp":
            raise BadAddressError(text[:ADDRESS_LENGTH_MAX], ADDRESS_FORM)
        _, kind, host, _, port_text, *rest = parts
        if not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5):
            raise BadAddressError(text, "a port from 0 to 65535")
        port = int(port_text)
        if port > 0xFFFF:
            raise BadAddressError(text, "a port from 0 to 65535")
        if kind in ("ip4", "ip6"):
            host = _literal(kind, host, text)
        elif kind != "onion3" and (kind not in ("dns", "dns4", "dns6") or not _NAME.match(host)):
            raise BadAddressError(text, ADDRESS_FORM)
        if rest and (rest[0] != "p2p" or not _PEER.match(rest[1])):
            raise BadAddressError(text, "a base58 peer id after /p2p/")
        return cls(kind, host, port, PeerId(rest[1]) if rest else None)

    @classmethod
    def of_ip(cls, ip: str, port: int, peer: PeerId | None = None) -> Address:
        """Return the address of an IP literal."""
        parsed = ipaddress.ip_address(ip)
        return cls(f"ip{parsed.version}", str(parsed), port, peer)

    @property
    def is_name(self) -> bool:
        """Whether the host is a name that must be resolved."""
        return self.kind.startswith("dns")

    @property
    def dial_host(self) -> str:
        """The literal or the name to connect to."""
        return f"{self.host}.onion" if self.kind == "onion3" else self.host

    @property
    def ip(self) -> str:
        """The IP literal that limits, groups and bans go by; of a name, one that stands for it."""
        return self.host if self.kind in ("ip4", "ip6") else stand_in(self.dial_host)

    def with_peer(self, peer: PeerId) -> Address:
        """Return the same place with a peer's id."""
        return Address(self.kind, self.host, self.port, peer)

    def __str__(self) -> str:
        suffix = "" if self.peer is None else f"/p2p/{self.peer}"
        if self.kind == "onion3":
            return f"/onion3/{self.host}:{self.port}{suffix}"
        return f"/{self.kind}/{self.host}/tcp/{self.port}{suffix}"


def _is_onion(host: str) -> bool:
    """Return whether this is an onion service's address, version 3: its key, a checksum of two
    bytes, and the version (Tor's rend-spec-v3, [ONIONADDRESS])."""
    if not _ONION.match(host):
        return False
    raw = base64.b32decode(host.upper())
    key, checksum, version = raw[:32], raw[32:34], raw[34:]
    return version == b"\3" and checksum == sha3_256(b".onion checksum" + key + b"\3").digest()[:2]


def _literal(kind: str, host: str, text: str) -> str:
    try:
        parsed = ipaddress.IPv4Address(host) if kind == "ip4" else ipaddress.IPv6Address(host)
    except ValueError:
        raise BadAddressError(text, f"an {kind} literal") from None
    if getattr(parsed, "scope_id", None):
        raise BadAddressError(text, "an ip6 literal without a zone")
    return str(parsed)
