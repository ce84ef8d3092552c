"""An anchor's body: what its header commits to (Protocol §5.1)."""

from __future__ import annotations

from typing import Final

import msgspec

from unchained.node.primitives.codec import CanonicalDecoder, encode
from unchained.node.primitives.hashing import BODY
from unchained.node.primitives.types import Bytes32

MAX_BODY_ENCODED: Final = 1 << 20
"""Bytes of an encoded body that a decoder looks at. The lists that a network allows need far
less: 16 K coin ids each, and at most one wid per 1,024 bytes of the 4 MiB limit on transfers."""


class Body(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Fresh and uncle ids ascending, wids of the transfers in order, and the two commitments
    after the anchor's parent was applied."""

    fresh: tuple[Bytes32, ...]
    uncles: tuple[Bytes32, ...]
    transfers: tuple[Bytes32, ...]
    state_root: Bytes32
    history_root: Bytes32

    def to_bytes(self) -> bytes:
        """Return the canonical encoding."""
        return encode(self)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Body:
        """Decode a body. Raises `NonCanonicalError`."""
        return _DECODER.decode(raw)


def body_root_of(
    fresh_root: bytes,
    uncles_root: bytes,
    transfers_root: bytes,
    state_root: bytes,
    history_root: bytes,
) -> bytes:
    """Return what the header of an anchor commits to, from the Merkle roots of the three lists
    and the two commitments (Protocol §5.1). All are 32 bytes."""
    return BODY(fresh_root + uncles_root + transfers_root + state_root + history_root)


_DECODER = CanonicalDecoder(Body, max_size=MAX_BODY_ENCODED)
