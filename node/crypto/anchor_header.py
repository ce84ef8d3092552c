"""An anchor with what its body_root commits to (Protocol §5.1, §11)."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from unchained.node.crypto.merkle import MAX_LEAVES, merkle_top, root_of
from unchained.node.primitives.body import Body, body_root_of
from unchained.node.primitives.codec import CanonicalDecoder, encode
from unchained.node.primitives.coin import COIN_SIZE, Coin
from unchained.node.primitives.types import Bytes32

ANCHOR_HEADER_SIZE_MAX: Final = 400
"""Bytes of an encoded header, at most: five roots, three lengths and the coin."""


class ListDigest(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What commits to one list of a body: its length and the top of its Merkle tree."""

    n: Annotated[int, msgspec.Meta(ge=0, le=MAX_LEAVES)]
    top: Bytes32

    def root(self) -> bytes:
        """Return the list's Merkle root."""
        return root_of(self.n, self.top)


class AnchorHeader(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An anchor with what its body_root commits to: all that can be checked without its body."""

    coin: Annotated[bytes, msgspec.Meta(min_length=COIN_SIZE, max_length=COIN_SIZE)]
    fresh: ListDigest
    uncles: ListDigest
    transfers: ListDigest
    state_root: Bytes32
    history_root: Bytes32

    @classmethod
    def of(cls, coin: Coin, body: Body) -> AnchorHeader:
        """Return the header of an anchor whose body is known."""
        fresh, uncles, transfers = (
            ListDigest(len(ids), merkle_top(ids))
            for ids in (body.fresh, body.uncles, body.transfers)
        )
        return cls(coin.raw, fresh, uncles, transfers, body.state_root, body.history_root)

    @classmethod
    def from_bytes(cls, raw: bytes) -> AnchorHeader:
        """Decode a header. Raises `NonCanonicalError`."""
        return _DECODER.decode(raw)

    def to_bytes(self) -> bytes:
        """Return the canonical encoding: that of an announcement too (Protocol §11)."""
        return encode(self)

    def body_root(self) -> bytes:
        """Return what the coin's header has to commit to (Protocol §5.1)."""
        return body_root_of(
            self.fresh.root(),
            self.uncles.root(),
            self.transfers.root(),
            self.state_root,
            self.history_root,
        )

    def matches(self, body: Body) -> bool:
        """Return whether a body is the one that these digests are of."""
        return (
            body.state_root == self.state_root
            and body.history_root == self.history_root
            and all(
                digest.n == len(ids) and digest.top == merkle_top(ids)
                for digest, ids in (
                    (self.fresh, body.fresh),
                    (self.uncles, body.uncles),
                    (self.transfers, body.transfers),
                )
            )
        )


_DECODER = CanonicalDecoder(AnchorHeader, max_size=ANCHOR_HEADER_SIZE_MAX)
