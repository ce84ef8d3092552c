"""Records of TLS 1.3 as no library sends them, on a connection that OpenSSL has made."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from OpenSSL import SSL

HANDSHAKE: Final = 0x16
DATA: Final = 0x17
KEY_UPDATE: Final = b"\x18\x00\x00\x01"


class Keylog:
    """Takes down the secrets of the connections that a context makes from here on."""

    def __init__(self, context: SSL.Context) -> None:
        self._secrets: dict[str, bytes] = {}
        context.set_keylog_callback(self._note)

    def _note(self, _connection: object, line: bytes) -> None:
        label, _, secret = line.decode().split()
        self._secrets[label] = bytes.fromhex(secret)

    def sealer(self, connection: SSL.Connection) -> RecordSealer:
        """Return what seals records as the side that opened the last connection."""
        return RecordSealer(
            self._secrets["CLIENT_TRAFFIC_SECRET_0"], connection.get_cipher_name() or ""
        )


class RecordSealer:
    """Seals records of a client that has sent none since its handshake."""

    def __init__(self, secret: bytes, cipher: str) -> None:
        self._hash = hashes.SHA384() if "SHA384" in cipher else hashes.SHA256()
        self._kind = ChaCha20Poly1305 if "CHACHA20" in cipher else AESGCM
        self._key_bytes = 16 if "AES_128" in cipher else 32
        self._use(secret)

    def seal(self, kind: int, data: bytes) -> bytes:
        """Return a record."""
        plain = data + bytes([kind])
        head = b"\x17\x03\x03" + (len(plain) + 16).to_bytes(2, "big")
        nonce = (self._iv ^ self._number).to_bytes(12, "big")
        self._number += 1
        return head + self._cipher.encrypt(nonce, plain, head)

    def key_update(self, *, asks: bool) -> bytes:
        """Return a change of keys, which may ask the other side for one; the next record has the
        new ones."""
        record = self.seal(HANDSHAKE, KEY_UPDATE + bytes([asks]))
        self._use(self._expand(b"traffic upd", self._hash.digest_size))
        return record

    def _use(self, secret: bytes) -> None:
        self._secret = secret
        self._cipher = self._kind(self._expand(b"key", self._key_bytes))
        self._iv = int.from_bytes(self._expand(b"iv", 12), "big")
        self._number = 0

    def _expand(self, label: bytes, size: int) -> bytes:
        info = size.to_bytes(2, "big") + bytes([6 + len(label)]) + b"tls13 " + label + b"\0"
        return HKDFExpand(self._hash, size, info).derive(self._secret)
