"""mempool.*: what waits for an anchor, and what it costs not to wait long."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from unchained.node.base.clock import Clock
from unchained.node.base.user_text import user_text
from unchained.node.chain.answers import WaitingTransfer
from unchained.node.chain.fee_estimate import ceil_rate, estimate_fee
from unchained.node.chain.service import ChainService
from unchained.node.rpc.core.errors import NotFoundError
from unchained.node.rpc.core.registry import Access, Scope, method
from unchained.node.rpc.core.values import Amount, Hash
from unchained.node.rpc.methods.parameters import Limit, Offset
from unchained.node.rpc.methods.store_reader import StoreReader
from unchained.node.rpc.methods.transfer import TransferId


@user_text(
    """How full the mempool is. `bytes` encoded, of `capacity`; `min_fee_rate` in grains per
    byte of size, rounded up: less is not taken in at present. `expiry_ms` after arrival."""
)
class MempoolInfo(msgspec.Struct, frozen=True):
    transfers: int
    bytes: int
    capacity: int
    fees: Amount
    min_fee_rate: int
    expiry_ms: int


@user_text(
    """A waiting transfer. `raw_size` in bytes, `size` as fee rates count it, `fee_rate` in grains
    per byte of that, rounded down; `time` of arrival. Parents and children are txids of waiting
    transfers that it builds on and that build on it."""
)
class MempoolEntry(msgspec.Struct, frozen=True):
    txid: Hash
    wid: Hash
    fee: Amount
    raw_size: int
    size: int
    fee_rate: int
    time: int
    inputs: int
    outputs: int
    parents: list[Hash]
    children: list[Hash]


@user_text(
    """A fee rate in whole grains per byte of size (Protocol §8.2: encoded bytes, and 1,024 for
    each output) and where it comes from."""
)
class FeeEstimate(msgspec.Struct, frozen=True):
    fee_rate: int
    target: int
    source: Literal["minimum", "mempool", "recent bodies"]
    min_fee_rate: int


class MempoolRoom:
    """Methods about waiting transfers."""

    def __init__(self, chain: ChainService, reader: StoreReader, clock: Clock) -> None:
        self._chain = chain
        self._reader = reader
        self._clock = clock

    @method("mempool.info", Access.READ)
    @user_text("Return how full the mempool is and what it asks for.")
    async def info(self) -> MempoolInfo:
        found = await self._chain.queries.mempool_state(self._clock.now_ms())
        return MempoolInfo(
            found.transfers,
            found.bytes,
            found.capacity,
            Amount(found.fees),
            ceil_rate(found.min_fee_rate),
            found.expiry_ms,
        )

    @method("mempool.list", Access.READ)
    @user_text(
        "Return waiting transfers: by fee rate, the best first, or by time, the latest first."
    )
    async def list_(
        self,
        sort: Literal["fee_rate", "time"] = "fee_rate",
        limit: Limit = 100,
        offset: Offset = 0,
    ) -> list[MempoolEntry]:
        found = await self._chain.queries.waiting_transfers(sort, limit, offset)
        return [_describe(entry) for entry in found]

    @method("mempool.entry", Access.READ, errors=(NotFoundError,))
    @user_text("Return one waiting transfer.")
    async def entry(self, txid: TransferId) -> MempoolEntry:
        found = await self._chain.queries.waiting_transfer(txid)
        if found is None:
            raise NotFoundError(f"the mempool has no transfer {txid.hex()}")
        return _describe(found)

    @method("mempool.fee_estimate", Access.READ, scope=Scope.READ)
    @user_text(
        """Return the fee rate at which a transfer should be included within so many anchors.

        The highest of three: the mempool's present minimum; one grain above the rate at which
        the waiting transfers, the best first, fill so many bodies, if they do; and the median of
        the lowest rates in those of the last eight bodies that were full, if so many were full
        that fewer than `target` of them had room.
        """
    )
    async def fee_estimate(
        self,
        target: Annotated[
            int, msgspec.Meta(ge=1, le=100, description="anchors within which to be included")
        ] = 2,
    ) -> FeeEstimate:
        network, height = self._chain.network, self._chain.status.value.height
        waiting = await self._chain.queries.waiting_fees(self._clock.now_ms())
        found = await self._reader.run(
            lambda store: estimate_fee(store, network, height, waiting, target)
        )
        return FeeEstimate(found.fee_rate, target, found.source, found.minimum)


def _describe(entry: WaitingTransfer) -> MempoolEntry:
    return MempoolEntry(
        Hash(entry.txid),
        Hash(entry.wid),
        Amount(entry.fee),
        entry.raw_size,
        entry.size,
        entry.fee // entry.size,
        entry.added_ms,
        entry.inputs,
        entry.outputs,
        [Hash(txid) for txid in entry.parents],
        [Hash(txid) for txid in entry.children],
    )
