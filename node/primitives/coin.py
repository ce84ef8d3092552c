"""Coin headers and coins, and the bytes of both (Protocol §3.1)."""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from unchained.node.primitives.hashing import COIN_HASH
from unchained.node.primitives.types import CoinId, Lock

HEADER_SIZE: Final = 166
"""Bytes of a coin header."""

MIX_SIZE: Final = 32
"""Bytes of a coin's Argon2id tag."""

COIN_SIZE: Final = HEADER_SIZE + MIX_SIZE
"""Bytes of a coin on the wire: header, then mix."""

NONCE_OFFSET: Final = HEADER_SIZE - 8
"""Where the nonce begins: a header is what a mining job fixes, then the nonce."""

_HEADER = struct.Struct(">IH32sQQQ32s32s32sQ")
assert _HEADER.size == HEADER_SIZE, "a layout's own arithmetic"


class CoinHeader(msgspec.Struct, frozen=True, gc=False):
    """What a miner commits to. `time` in ms since the Unix epoch, `target` an integer."""

    chain_id: int
    version: int
    parent: CoinId
    height: int
    time: int
    n_total: int
    target: int
    lock: Lock
    body_root: bytes
    nonce: int

    def to_bytes(self) -> bytes:
        """Return the header's 166 bytes."""
        return _HEADER.pack(
            self.chain_id,
            self.version,
            self.parent,
            self.height,
            self.time,
            self.n_total,
            self.target.to_bytes(32, "big"),
            self.lock,
            self.body_root,
            self.nonce,
        )

    @classmethod
    def from_bytes(cls, raw: bytes) -> CoinHeader:
        """Read a header from exactly 166 bytes. Any 166 bytes are a header."""
        chain_id, version, parent, height, time, n_total, target, lock, body_root, nonce = (
            _HEADER.unpack(raw)
        )
        return cls(
            chain_id,
            version,
            parent,
            height,
            time,
            n_total,
            int.from_bytes(target, "big"),
            lock,
            body_root,
            nonce,
        )


class Coin(msgspec.Struct, frozen=True, gc=False):
    """One solved proof of work: header, mix, the 198 bytes of both, and the id."""

    header: CoinHeader
    mix: bytes
    raw: bytes
    id: CoinId

    @classmethod
    def from_bytes(cls, raw: bytes) -> Coin:
        """Read a coin from exactly 198 bytes and hash its id. Any 198 bytes are a coin."""
        header = CoinHeader.from_bytes(raw[:HEADER_SIZE])
        return cls(header, raw[HEADER_SIZE:], raw, CoinId(COIN_HASH(raw)))

    @classmethod
    def assemble(cls, header: CoinHeader, mix: bytes) -> Coin:
        """Join a header and the mix that was computed for it."""
        raw = header.to_bytes() + mix
        return cls(header, mix, raw, CoinId(COIN_HASH(raw)))

    @property
    def height(self) -> int:
        """Anchors between genesis and this coin; its parent's height + 1."""
        return self.header.height

    @property
    def parent(self) -> CoinId:
        """Id of the anchor that the coin is bound to."""
        return self.header.parent
