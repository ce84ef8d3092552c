"""Spares the process what libp2p brings along and nobody here uses.

libp2p's packages import all of it: QUIC, WebSocket, mDNS, a DHT, AutoTLS with an HTTP client, keys
of kinds that no peer has. That is 35 MB and 700 modules of which a node runs none.
"""

from __future__ import annotations

from typing import Final

from unchained.node.base.deferred_modules import defer

PACKAGES: Final = (
    "libp2p",
    "libp2p.identity",
    "libp2p.identity.identify",
    "libp2p.network",
    "libp2p.security",
    "libp2p.transport",
    "libp2p.transport.quic",
)
"""Packages whose ``__init__`` imports what is not used, each after the one that it lies in."""

CLASSES: Final = {
    "libp2p.crypto.rsa": ("RSAPrivateKey", "RSAPublicKey"),
    "libp2p.crypto.secp256k1": ("Secp256k1PrivateKey", "Secp256k1PublicKey"),
    "libp2p.transport.quic.stream": ("QUICStream",),
}
"""Modules of which libp2p names some classes wherever it is used."""


def defer_unused() -> None:
    """Put packages and modules in place unless they are there already; calling it again changes
    nothing."""
    defer(PACKAGES, CLASSES)
