from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from libp2p.crypto.pb import crypto_pb2

from tests.framework.p2p_certificates import NOW, UNKNOWN_OID, Forge, new_key, spki_of
from tests.framework.vectors import label, load
from unchained.node.transport.identity import Identity
from unchained.node.transport.libp2p.certificate import (
    IDENTITY_BYTES_MAX,
    RSA_BITS_MAX,
    SIGNED_PREFIX,
    BadCertificateError,
    OwnCertificate,
    SignedKey,
    peer_of,
)

ME = Identity.from_seed(b"1" * 32)
OTHER = Identity.from_seed(b"2" * 32)


@pytest.mark.parametrize("case", load("libp2p_tls")["certificates"], ids=label)
def test_certificates_of_the_specification(case: dict[str, Any]) -> None:
    certificate = x509.load_der_x509_certificate(bytes.fromhex(case["der"]))
    if case["peer"] is None:
        with pytest.raises(BadCertificateError, match="not signed by the identity"):
            peer_of(certificate, NOW)
    else:
        assert peer_of(certificate, NOW) == case["peer"]


def test_our_own_certificate_names_us() -> None:
    own = OwnCertificate.of(ME)
    assert peer_of(own.certificate, NOW) == ME.peer
    assert own.key.public_key() == own.certificate.public_key()
    assert OwnCertificate.of(ME).certificate.public_key() != own.certificate.public_key()
    assert "EllipticCurvePrivateKey" not in repr(own)


def test_what_is_in_order_is_taken() -> None:
    usage = x509.BasicConstraints(ca=False, path_length=None)
    unknown = x509.UnrecognizedExtension(UNKNOWN_OID, b"\x05\x00")
    for forge in (
        Forge(ME),
        Forge(ME, is_critical=True),
        Forge(ME, further=((usage, False), (unknown, False))),
        Forge(ME, key=ec.generate_private_key(ec.SECP384R1()), hash=hashes.SHA384()),
        Forge(ME, key=ed25519.Ed25519PrivateKey.generate(), hash=None),
        Forge(ME, key=rsa.generate_private_key(65537, 2048)),
    ):
        assert peer_of(forge.make(), NOW) == ME.peer


def test_a_certificate_is_taken_from_its_first_second_to_its_last() -> None:
    certificate = Forge(ME).make()
    since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    assert peer_of(certificate, since) == peer_of(certificate, until) == ME.peer
    second = timedelta(seconds=1)
    for moment in (since - second, until + second):
        with pytest.raises(BadCertificateError, match="valid from 2025-12-31 to 2026-01-02"):
            peer_of(certificate, moment)


def usage() -> x509.ExtensionType:
    return x509.BasicConstraints(ca=False, path_length=None)


BROKEN: dict[str, tuple[Callable[[], Forge], str]] = {
    "expired": (lambda: Forge(ME, until=NOW - timedelta(seconds=1)), "valid from"),
    "not yet valid": (lambda: Forge(ME, since=NOW + timedelta(seconds=1)), "valid from"),
    "signed by another key": (lambda: Forge(ME, signer=new_key()), "not signed by its own key"),
    "of another issuer": (lambda: Forge(ME, issuer="an authority"), "another's"),
    "over a weak hash": (lambda: Forge(ME, hash=hashes.SHA224()), "a hash that is too weak"),
    "without the extension": (lambda: Forge(ME, has_extension=False), "no libp2p extension"),
    "with an unknown critical extension": (
        lambda: Forge(ME, further=((x509.UnrecognizedExtension(UNKNOWN_OID, b"\x05\x00"), True),)),
        rf"critical extension that is unknown here \({UNKNOWN_OID.dotted_string}\)",
    ),
    "with a critical extension that others know": (
        lambda: Forge(ME, further=((usage(), True),)),
        "critical extension",
    ),
    "for another key": (
        lambda: Forge(ME, message=SIGNED_PREFIX + spki_of(new_key())),
        "not signed by the identity",
    ),
    "without the prefix": (
        lambda: Forge(ME, key=(key := new_key()), message=spki_of(key)),
        "not signed by the identity",
    ),
    "of an identity that did not sign": (
        lambda: Forge(ME, public_key=OTHER.key_pair.public_key.serialize()),
        "not signed by the identity",
    ),
    "with an extension of no bytes": (lambda: Forge(ME, extension=b""), "malformed"),
    "with an extension that is no sequence": (
        lambda: Forge(ME, extension=b"\x04\x00"),
        "malformed",
    ),
    "with more than the two in it": (
        lambda: Forge(ME, extension=b"\x30\x06\x04\x00\x04\x00\x04\x00"),
        "malformed",
    ),
    "with no identity": (
        lambda: Forge(ME, extension=b"\x30\x04\x04\x00\x04\x00"),
        "canonical form",
    ),
    "with an identity that is no protobuf": (
        lambda: Forge(ME, public_key=b"\xff\xff"),
        "no protobuf",
    ),
    "with an identity of no known kind": (
        lambda: Forge(ME, public_key=b"\x08\x09\x12\x01x"),
        "canonical form",
    ),
    "with an identity that has more": (
        lambda: Forge(ME, public_key=ME.key_pair.public_key.serialize() + b"\x18\x01"),
        "canonical form",
    ),
    "with too long an identity": (
        lambda: Forge(ME, public_key=encoded(crypto_pb2.RSA, bytes(IDENTITY_BYTES_MAX))),
        f"above {IDENTITY_BYTES_MAX} bytes",
    ),
    "with a short Ed25519 identity": (
        lambda: Forge(ME, public_key=encoded(crypto_pb2.Ed25519, bytes(31))),
        "malformed",
    ),
    "with an RSA identity of no RSA": (
        lambda: Forge(ME, public_key=encoded(crypto_pb2.RSA, spki_of(new_key()))),
        "another kind",
    ),
    "with an RSA identity that takes long": (
        lambda: Forge(ME, public_key=encoded(crypto_pb2.RSA, rsa_spki(65537, RSA_BITS_MAX + 8))),
        f"above {RSA_BITS_MAX} bits",
    ),
    "with an RSA exponent that takes long": (
        lambda: Forge(ME, public_key=encoded(crypto_pb2.RSA, rsa_spki((1 << 2000) + 1, 2048))),
        f"above {RSA_BITS_MAX} bits",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_certificate_is_refused(what: str) -> None:
    forge, words = BROKEN[what]
    certificate = forge().make()
    for _ in range(2):
        # The second time it is no better.
        with pytest.raises(BadCertificateError, match=words):
            peer_of(certificate, NOW)


def encoded(kind: Any, data: bytes) -> bytes:
    return crypto_pb2.PublicKey(key_type=kind, data=data).SerializeToString()


def rsa_spki(exponent: int, bits: int) -> bytes:
    numbers = rsa.RSAPublicNumbers(exponent, (1 << bits - 1) + 1)
    return numbers.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def signed_by(kind: Any, data: bytes, sign: Callable[[bytes], bytes]) -> Forge:
    """Return a certificate of an identity that is no Ed25519 key."""
    key = new_key()
    signed = SignedKey(public_key=encoded(kind, data), signature=sign(SIGNED_PREFIX + spki_of(key)))
    return Forge(ME, key=key, extension=asn1.encode_der(signed))


def test_identities_of_other_kinds() -> None:
    sha256 = hashes.SHA256()
    with_rsa = rsa.generate_private_key(65537, 2048)
    forge = signed_by(
        crypto_pb2.RSA,
        spki_of(with_rsa),
        lambda message: with_rsa.sign(message, padding.PKCS1v15(), sha256),
    )
    assert peer_of(forge.make(), NOW).startswith("Qm")
    with_ec = new_key()
    forge = signed_by(
        crypto_pb2.ECDSA, spki_of(with_ec), lambda message: with_ec.sign(message, ec.ECDSA(sha256))
    )
    assert peer_of(forge.make(), NOW).startswith("Qm")


def test_a_key_in_another_of_its_forms_is_another_peer_to_nobody() -> None:
    sha256 = ec.ECDSA(hashes.SHA256())
    curve = ec.generate_private_key(ec.SECP256K1())
    forms = {
        form: curve.public_key().public_bytes(Encoding.X962, form)
        for form in (PublicFormat.CompressedPoint, PublicFormat.UncompressedPoint)
    }
    made = {
        form: signed_by(crypto_pb2.Secp256k1, data, lambda message: curve.sign(message, sha256))
        for form, data in forms.items()
    }
    assert peer_of(made[PublicFormat.CompressedPoint].make(), NOW).startswith("16Uiu2")
    with pytest.raises(BadCertificateError, match="canonical form"):
        peer_of(made[PublicFormat.UncompressedPoint].make(), NOW)
