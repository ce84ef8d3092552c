"""Certificates of libp2p's TLS, in order or broken in one way, and handshakes with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from unchained.node.transport.identity import Identity
from unchained.node.transport.libp2p.certificate import EXTENSION_OID, SIGNED_PREFIX, SignedKey

NOW = datetime(2026, 1, 1, tzinfo=UTC)
UNKNOWN_OID = x509.ObjectIdentifier("1.3.6.1.4.1.53594.9.9")


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def spki_of(key: Any) -> bytes:
    spki: bytes = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return spki


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)] if text else [])


@dataclass
class Forge:
    """Makes certificates; each field is one thing that can be wrong."""

    identity: Identity
    key: Any = field(default_factory=new_key)
    signer: Any = None
    """What signs the certificate, if not its own key."""
    since: datetime = NOW - timedelta(days=1)
    until: datetime = NOW + timedelta(days=1)
    hash: Any = field(default_factory=hashes.SHA256)
    issuer: str = ""
    subject: str = ""
    public_key: bytes | None = None
    """The identity as it is encoded, if another one than `identity`'s."""
    message: bytes | None = None
    """What the identity signs, if not the certificate's key."""
    extension: bytes | None = None
    """The extension's bytes, if not the two."""
    has_extension: bool = True
    is_critical: bool = False
    further: tuple[tuple[x509.ExtensionType, bool], ...] = ()

    def make(self) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .issuer_name(_name(self.issuer))
            .subject_name(_name(self.subject))
            .public_key(self.key.public_key())
            .serial_number(7)
            .not_valid_before(self.since)
            .not_valid_after(self.until)
        )
        if self.has_extension:
            value = x509.UnrecognizedExtension(EXTENSION_OID, self._extension())
            builder = builder.add_extension(value, critical=self.is_critical)
        for extension, critical in self.further:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(self.signer or self.key, self.hash)

    def _extension(self) -> bytes:
        if self.extension is not None:
            return self.extension
        pair = self.identity.key_pair
        message = SIGNED_PREFIX + spki_of(self.key) if self.message is None else self.message
        signed = SignedKey(
            public_key=self.public_key or pair.public_key.serialize(),
            signature=pair.private_key.sign(message),
        )
        return asn1.encode_der(signed)
