"""A coin's header as answers show it.

Amounts are strings of decimal UNC, hashes hex digits, times milliseconds since the Unix epoch.
Numbers that may exceed 64 bits (work, scores) are decimal digits in a string.
"""

from __future__ import annotations

import msgspec

from unchained.node.base.user_text import user_text
from unchained.node.consensus.fork_choice import work
from unchained.node.primitives.coin import Coin
from unchained.node.rpc.core.values import Hash, Hex


@user_text(
    """The header of a coin, and its mix. `work` is the hashes that a coin of its target stands
    for on average; `nonce` has 8 bytes."""
)
class Header(msgspec.Struct, frozen=True):
    id: Hash
    chain_id: int
    version: int
    parent: Hash
    height: int
    time: int
    n_total: int
    target: Hash
    work: str
    lock: Hash
    body_root: Hash
    nonce: Hex
    mix: Hash

    @classmethod
    def of(cls, coin: Coin) -> Header:
        """Describe a coin."""
        header = coin.header
        return cls(
            Hash(coin.id),
            header.chain_id,
            header.version,
            Hash(header.parent),
            header.height,
            header.time,
            header.n_total,
            shown_target(header.target),
            str(work(header.target)),
            Hash(header.lock),
            Hash(header.body_root),
            Hex(header.nonce.to_bytes(8, "big")),
            Hash(coin.mix),
        )


def shown_target(target: int) -> Hash:
    """Return a target as an answer has it: 32 bytes, big-endian."""
    return Hash(target.to_bytes(32, "big"))
