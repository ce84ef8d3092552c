"""What the rooms share: reads of the store off the event loop, and the types of their answers.

Amounts are strings of decimal UNC, hashes hex digits, times milliseconds since the Unix epoch.
Numbers that may exceed 64 bits (work, scores) are decimal digits in a string.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final, TypeVar

import msgspec

from unchained.node.base.runner import Runner
from unchained.node.base.user_text import user_text
from unchained.node.consensus.params import Network, work
from unchained.node.crypto.addresses import PayeeError, address_lock, decode_address
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import Lock
from unchained.node.rpc.core.errors import InvalidParamsError, short
from unchained.node.rpc.core.values import Hash, Hex
from unchained.storage.kv import KeyValueStore, Snapshot

T = TypeVar("T")

MAX_NUMBER: Final = 2**63 - 1

Height = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER, description="anchors since genesis")]
Limit = Annotated[int, msgspec.Meta(ge=1, le=1000, description="most entries to return")]
Payee = Annotated[
    str, msgspec.Meta(min_length=1, max_length=128, description="an address of this network")
]


class Reading:
    """Runs reads in worker threads, each against the store as it is at one moment."""

    def __init__(self, store: KeyValueStore, runner: Runner) -> None:
        self._store = store
        self._runner = runner

    async def run(self, work: Callable[[Snapshot], T]) -> T:
        """Return ``work(snapshot)``. Raises a `StoreError`."""

        def read() -> T:
            with self._store.snapshot() as snapshot:
                return work(snapshot)

        return await self._runner.run(read)


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


def lock_of_payee(text: str, network: Network) -> Lock:
    """Return the lock of an address. Raises `InvalidParamsError` with the word BAD_ADDRESS."""
    try:
        return address_lock(decode_address(network, text))
    except PayeeError as error:
        raise InvalidParamsError(short(f"address: {error}"), error="BAD_ADDRESS") from None
