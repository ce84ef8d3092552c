"""Messages signed by the key of an address: one file that shows who says something (Protocol §9.1).

    file = "UNCHAINED-MESSAGE" ‖ 01 ‖ MessagePack array

The signature has a context of its own: nothing that is signed here can be taken for a transfer, and
no transfer for a message.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from unchained.node.base.randomness import SYSTEM, Randomness
from unchained.node.consensus.params import Network, network_for, other_network
from unchained.node.crypto.addresses import encode_address
from unchained.node.crypto.keys import MESSAGE_CONTEXT, SpendKey, key_hash, verify_signature
from unchained.node.primitives.codec import CanonicalDecoder, encode
from unchained.node.primitives.errors import NonCanonicalError
from unchained.node.primitives.hashing import SIGNED_MESSAGE
from unchained.node.primitives.transfer import Signature
from unchained.node.primitives.types import KeyHash, UInt64
from unchained.node.wallet.contracts import key_of
from unchained.node.wallet.errors import BadPaymentError, ContractError, SignedMessageError

SIGNED_MESSAGE_NAME: Final = b"UNCHAINED-MESSAGE"
"""What a file begins with, before the byte of its version."""

SIGNED_MESSAGE_VERSION: Final = 1
"""The only version of signed messages."""

MESSAGE_BYTES_MAX: Final = 16 << 10
"""Bytes of a message."""

SIGNED_MESSAGE_BYTES_MAX: Final = MESSAGE_BYTES_MAX + (8 << 10)
"""Bytes of a file that is looked at."""


class SignedMessage(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a file holds."""

    chain_id: UInt64
    message: Annotated[bytes, msgspec.Meta(max_length=MESSAGE_BYTES_MAX)]
    signature: Signature

    @classmethod
    def sign(
        cls, network: Network, message: bytes, key: SpendKey, randomness: Randomness = SYSTEM
    ) -> SignedMessage:
        """Sign a message. Raises `SignedMessageError` for one that is too long."""
        if len(message) > MESSAGE_BYTES_MAX:
            raise SignedMessageError(
                f"a message has at most {MESSAGE_BYTES_MAX} bytes, got {len(message)}"
            )
        signature = key.sign(_digest(network.chain_id, message), randomness, MESSAGE_CONTEXT)
        return cls(network.chain_id, message, Signature(key.public_key, signature))

    def to_file(self) -> bytes:
        """Return the file's content."""
        return SIGNED_MESSAGE_NAME + bytes((SIGNED_MESSAGE_VERSION,)) + encode(self)

    @classmethod
    def from_file(cls, raw: bytes, expected: Network | None) -> SignedMessage:
        """Read a file and check its signature; with None for the network expected it may be of any.
        Raises `SignedMessageError`."""
        head = SIGNED_MESSAGE_NAME + bytes((SIGNED_MESSAGE_VERSION,))
        if not raw.startswith(head):
            raise SignedMessageError(
                f"not a signed message of version {SIGNED_MESSAGE_VERSION}: it does not begin like "
                "one"
            )
        try:
            signed = _DECODER.decode(raw[len(head) :])
        except NonCanonicalError as error:
            why = error.in_words()
            raise SignedMessageError(f"the signed message is malformed: {why}") from None
        if network_for(signed.chain_id, expected) is None:
            raise SignedMessageError(other_network("the signed message", signed.chain_id, expected))
        digest = _digest(signed.chain_id, signed.message)
        public_key, signature = signed.signature.public_key, signed.signature.signature
        if not verify_signature(public_key, digest, signature, MESSAGE_CONTEXT):
            raise SignedMessageError("the signature does not verify: the message was altered")
        return signed

    @property
    def key_hash(self) -> KeyHash:
        """The key hash of who signed."""
        return key_hash(self.signature.public_key)

    def address(self, network: Network) -> str:
        """Return the address of who signed."""
        return encode_address(network, self.key_hash)

    def check_signer(self, network: Network, payee: str) -> None:
        """Raise `SignedMessageError` unless the holder of an address or a paycode signed, and
        `BadPaymentError` for what is neither."""
        try:
            expected = key_of(network, payee)
        except ContractError as error:
            raise BadPaymentError(f"no address or paycode: {error}") from None
        if expected != self.key_hash:
            raise SignedMessageError(
                f"signed by {self.address(network)}, expected {encode_address(network, expected)}"
            )


def _digest(chain_id: int, message: bytes) -> bytes:
    # Protocol §9.1
    return SIGNED_MESSAGE(encode((chain_id, message)))


_DECODER: CanonicalDecoder[SignedMessage] = CanonicalDecoder(
    SignedMessage, max_size=SIGNED_MESSAGE_BYTES_MAX
)
