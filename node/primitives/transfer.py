"""Transfers: spend coins, create coins (Protocol §8.2)."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from unchained.node.primitives.codec import CanonicalDecoder, encode
from unchained.node.primitives.hashing import OUTPUT, SIGHASH, TRANSFER_FULL, TRANSFER_HASH
from unchained.node.primitives.types import Bytes32, CoinId, Txid, UInt64, Wid

MAX_TRANSFER_ENCODED: Final = 256 * 1024
"""Bytes of an encoded transfer (Protocol §8.3, `TRANSFER_TOO_LARGE`)."""

OUTPUT_SIZE_SURCHARGE: Final = 1_024
"""Bytes that each output adds to a transfer's size: it lives in every node's coin set."""

PUBLIC_KEY_SIZE: Final = 1_952
"""Bytes of an ML-DSA-65 public key."""

SIGNATURE_SIZE: Final = 3_309
"""Bytes of an ML-DSA-65 signature."""


class Input(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A coin to spend, the condition that its lock commits to, and the salt of that lock."""

    coin_id: Bytes32
    condition: bytes
    salt: Bytes32


class Output(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A coin to create: value in grains, lock, and a note to its owner (empty or sealed)."""

    value: UInt64
    lock: Bytes32
    note: bytes


class Signature(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An ML-DSA-65 public key and its signature of the transfer's sighash."""

    public_key: Annotated[
        bytes, msgspec.Meta(min_length=PUBLIC_KEY_SIZE, max_length=PUBLIC_KEY_SIZE)
    ]
    signature: Annotated[bytes, msgspec.Meta(min_length=SIGNATURE_SIZE, max_length=SIGNATURE_SIZE)]


class Transfer(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Spends coins, creates coins. Amounts in grains, `lock_height` in anchors."""

    version: UInt64
    chain_id: UInt64
    lock_height: UInt64
    fee: UInt64
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    signatures: tuple[Signature, ...]
    preimages: tuple[Bytes32, ...]

    def to_bytes(self) -> bytes:
        """Return the canonical encoding, signatures included."""
        return encode(self)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Transfer:
        """Decode a transfer. Raises `NonCanonicalError`."""
        return _DECODER.decode(raw)

    @classmethod
    def from_stored(cls, raw: bytes) -> Transfer:
        """Decode a transfer that was validated before it was stored."""
        return _STORED_DECODER.decode(raw)

    def unsigned_bytes(self) -> bytes:
        """Return the encoding of the first six fields: what txid and sighash are hashes of."""
        return encode(
            (
                self.version,
                self.chain_id,
                self.lock_height,
                self.fee,
                self.inputs,
                self.outputs,
            )
        )


class SizedTransfer(msgspec.Struct, frozen=True, gc=False):
    """A transfer with its bytes and the names and size that follow from them.

    `size` in bytes as fee rates and the body limit count it (Protocol §8.2).
    """

    transfer: Transfer
    raw: bytes
    txid: Txid
    wid: Wid
    sighash: bytes
    size: int

    @classmethod
    def from_bytes(cls, raw: bytes, wid: Wid | None = None) -> SizedTransfer:
        """Decode a transfer and derive its names, but for the wid where the caller has hashed all
        of it already. Raises `NonCanonicalError`."""
        transfer = Transfer.from_bytes(raw)
        return cls._of(transfer, raw, wid_of(raw) if wid is None else wid)

    @classmethod
    def from_stored(cls, raw: bytes, wid: Wid) -> SizedTransfer:
        """Decode a transfer that was validated before it was stored: to encode it again, to see
        whether that gives the same bytes, would only take time."""
        return cls._of(Transfer.from_stored(raw), raw, wid)

    @classmethod
    def of(cls, transfer: Transfer) -> SizedTransfer:
        """Encode a transfer and derive its names."""
        raw = transfer.to_bytes()
        return cls._of(transfer, raw, wid_of(raw))

    @classmethod
    def _of(cls, transfer: Transfer, raw: bytes, wid: Wid) -> SizedTransfer:
        unsigned = transfer.unsigned_bytes()
        return cls(
            transfer,
            raw,
            Txid(TRANSFER_HASH(unsigned)),
            wid,
            SIGHASH(unsigned),
            len(raw) + OUTPUT_SIZE_SURCHARGE * len(transfer.outputs),
        )


def output_id(txid: Txid, index: int) -> CoinId:
    """Return the id of a transfer's output (Protocol §4)."""
    return CoinId(OUTPUT(txid + index.to_bytes(4, "big")))


def wid_of(raw: bytes) -> Wid:
    """Return the wid of a transfer's whole encoding, without decoding it (Protocol §5.1)."""
    return Wid(TRANSFER_FULL(raw))


_DECODER = CanonicalDecoder(Transfer, max_size=MAX_TRANSFER_ENCODED)
_STORED_DECODER = msgspec.msgpack.Decoder(Transfer)
