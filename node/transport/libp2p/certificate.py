"""The certificates of libp2p's TLS: which identity stands behind a key made for the encryption.

A peer proves its identity by an extension of a certificate that it has signed itself: its public
key, and its signature over the key of the certificate. The rules are those of libp2p/specs,
`tls/tls.md`, and all of them are checked: what is not understood is refused.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)
from google.protobuf.message import DecodeError
from libp2p.crypto.ed25519 import Ed25519PublicKey as Ed25519Identity
from libp2p.crypto.pb import crypto_pb2
from libp2p.peer.id import ID

from unchained.node.transport.contract import PeerId
from unchained.node.transport.identity import Identity
from unchained.node.transport.libp2p.secured import NotSecuredError

EXTENSION_OID: Final = x509.ObjectIdentifier("1.3.6.1.4.1.53594.1.1")
SIGNED_PREFIX: Final = b"libp2p-tls-handshake:"
IDENTITY_BYTES_MAX: Final = 1_024
"""Bytes of an encoded identity key: an RSA key of 4,096 bits has 560."""
RSA_BITS_MAX: Final = 4_096
RSA_EXPONENT_MAX: Final = 1 << 32
PROVEN_MAX: Final = 512
"""Certificates that are known to be in order."""
INLINE_IDENTITY_BYTES: Final = 42
"""Encoded keys of at most so many bytes are their own multihash."""

_NOT_BEFORE: Final = datetime(1975, 1, 1, tzinfo=UTC)
_NOT_AFTER: Final = datetime(4096, 1, 1, tzinfo=UTC)
"""As rust-libp2p has them: they tell nobody since when a node runs, and suit a wrong clock."""
_HASHES: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_NO_NAME: Final = x509.Name([])
_UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
)
"""What cryptography raises for a certificate or key that is none."""


class BadCertificateError(NotSecuredError):
    """A peer's certificate breaks a rule."""


@asn1.sequence
class SignedKey:
    """What the extension holds: a public key as a protobuf, and a signature by it."""

    public_key: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class OwnCertificate:
    """Our certificate, and the key that it is for; made anew whenever a node starts."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def of(cls, identity: Identity) -> OwnCertificate:
        """Make a certificate for an identity."""
        key = ec.generate_private_key(ec.SECP256R1())
        private = identity.key_pair.private_key
        signed = SignedKey(
            public_key=identity.key_pair.public_key.serialize(),
            signature=private.sign(SIGNED_PREFIX + _spki(key.public_key())),
        )
        extension = x509.UnrecognizedExtension(EXTENSION_OID, asn1.encode_der(signed))
        builder = x509.CertificateBuilder(
            issuer_name=_NO_NAME,
            subject_name=_NO_NAME,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=_NOT_BEFORE,
            not_valid_after=_NOT_AFTER,
        ).add_extension(extension, critical=False)
        return cls(builder.sign(key, hashes.SHA256()), key)


def peer_of(certificate: x509.Certificate, now: datetime) -> PeerId:
    """Return whom a certificate belongs to; raises `BadCertificateError`.

    That its key is the peer's is for the handshake to show."""
    try:
        since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if not since <= now <= until:
            raise BadCertificateError(
                f"the certificate is valid from {since:%Y-%m-%d} to {until:%Y-%m-%d}, not today"
            )
        return _proven(certificate)
    except _UNREADABLE as error:
        # What a library says of a stranger's bytes is its own affair.
        raise BadCertificateError(
            f"the certificate is malformed ({type(error).__name__})"
        ) from None


def require_cheap_key(certificate: x509.Certificate) -> None:
    """Check that it costs little to check a signature by a certificate's key. Raises
    `BadCertificateError`."""
    try:
        key = certificate.public_key()
    except _UNREADABLE as error:
        raise BadCertificateError(
            f"the certificate is malformed ({type(error).__name__})"
        ) from None
    _require_cheap(key)


def _require_cheap(key: object) -> None:
    if isinstance(key, rsa.RSAPublicKey) and (
        key.key_size > RSA_BITS_MAX or key.public_numbers().e > RSA_EXPONENT_MAX
    ):
        raise BadCertificateError(
            f"an RSA key above {RSA_BITS_MAX} bits, or with an exponent above {RSA_EXPONENT_MAX}"
        )


@lru_cache(maxsize=PROVEN_MAX)
def _proven(certificate: x509.Certificate) -> PeerId:
    """Return whom a certificate belongs to, whenever it may be valid.

    A peer has one for as long as it runs, so who comes again costs half as much."""
    if certificate.issuer != certificate.subject:
        raise BadCertificateError("the certificate is another's, not signed by its own key")
    signed = _signed_key(certificate)
    key = certificate.public_key()
    try:
        _verify_self(certificate, key)
    except InvalidSignature:
        raise BadCertificateError("the certificate is not signed by its own key") from None
    message = SIGNED_PREFIX + _spki(key)
    try:
        _verify(signed, message)
    except InvalidSignature:
        raise BadCertificateError(
            "the certificate's key is not signed by the identity that it names"
        ) from None
    return _peer_id(signed.public_key)


def _verify_self(certificate: x509.Certificate, key: CertificatePublicKeyTypes) -> None:
    """Check that a certificate is signed by its key. Raises InvalidSignature, and what `peer_of`
    takes for malformed."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(certificate.signature, certificate.tbs_certificate_bytes)
        return
    hashed = certificate.signature_hash_algorithm
    if not isinstance(hashed, _HASHES):
        raise BadCertificateError("the certificate is signed over a hash that is too weak")
    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(hashed))
    else:
        _require_cheap(key)
        certificate.verify_directly_issued_by(certificate)


def _signed_key(certificate: x509.Certificate) -> SignedKey:
    found: bytes | None = None
    for extension in certificate.extensions:
        if extension.oid == EXTENSION_OID:
            # One that cryptography knows by no name is given as it is.
            assert isinstance(extension.value, x509.UnrecognizedExtension)
            found = extension.value.value
        elif extension.critical:
            raise BadCertificateError(
                f"the certificate has a critical extension that is unknown here "
                f"({extension.oid.dotted_string})"
            )
    if found is None:
        raise BadCertificateError("the certificate has no libp2p extension")
    return asn1.decode_der(SignedKey, found)


def _verify(signed: SignedKey, message: bytes) -> None:
    """Check an identity's signature. Raises InvalidSignature, `BadCertificateError`, and for keys
    that are none ValueError, TypeError or UnsupportedAlgorithm."""
    if len(signed.public_key) > IDENTITY_BYTES_MAX:
        raise BadCertificateError(f"an identity key above {IDENTITY_BYTES_MAX} bytes")
    decoded = crypto_pb2.PublicKey()
    try:
        decoded.ParseFromString(signed.public_key)
    except DecodeError:
        raise BadCertificateError("an identity key that is no protobuf") from None
    canonical = crypto_pb2.PublicKey(key_type=decoded.key_type, data=decoded.data)
    _require_canonical(canonical.SerializeToString(deterministic=True), signed.public_key)
    kind, data = decoded.key_type, decoded.data
    sha256 = hashes.SHA256()
    if kind == crypto_pb2.Ed25519:
        # libsodium's takes half of OpenSSL's time, and nearly every peer has such a key.
        if not Ed25519Identity.from_bytes(data).verify(message, signed.signature):
            raise InvalidSignature
    elif kind == crypto_pb2.Secp256k1:
        point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), data)
        _require_canonical(point.public_bytes(Encoding.X962, PublicFormat.CompressedPoint), data)
        point.verify(signed.signature, message, ec.ECDSA(sha256))
    elif kind == crypto_pb2.ECDSA:
        key = load_der_public_key(data)
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise BadCertificateError("an identity key of another kind than it says")
        _require_canonical(_spki(key), data)
        key.verify(signed.signature, message, ec.ECDSA(sha256))
    else:
        key = load_der_public_key(data)
        if not isinstance(key, rsa.RSAPublicKey):
            raise BadCertificateError("an identity key of another kind than it says")
        _require_cheap(key)
        _require_canonical(_spki(key), data)
        key.verify(signed.signature, message, padding.PKCS1v15(), sha256)


def _require_canonical(canonical: bytes, found: bytes) -> None:
    """One identity would have many peer ids if its key could be encoded in many ways."""
    if canonical != found:
        raise BadCertificateError("an identity key that is not in its canonical form")


def _spki(key: CertificatePublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _peer_id(encoded: bytes) -> PeerId:
    """Return the peer id of an encoded public key: base58 of its multihash."""
    if len(encoded) <= INLINE_IDENTITY_BYTES:
        multihash = bytes((0, len(encoded))) + encoded
    else:
        digest = hashlib.sha256(encoded).digest()
        multihash = bytes((0x12, len(digest))) + digest
    return PeerId(ID(multihash).to_base58())
