"""mempool.*: what waits for an anchor, and what it costs not to wait long."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from unchained.node.base.clock import Clock
from unchained.node.base.user_text import user_text
from unchained.node.chain.answers import WaitingTransfer
from unchained.node.chain.service import ChainService
from unchained.node.primitives.body import Body
from unchained.node.primitives.transfer import SizedTransfer
from unchained.node.rpc.core.errors import NotFoundError
from unchained.node.rpc.core.registry import Access, method
from unchained.node.rpc.core.values import Amount, Hash
from unchained.node.rpc.methods.parameters import Limit, Offset
from unchained.node.rpc.methods.store_reader import StoreReader
from unchained.node.rpc.methods.transfer import TransferId
from unchained.storage import schema
from unchained.storage.kv import Reader

LOOKED_BACK: Final = 8
"""Bodies of the main chain that an estimate looks at."""

FULL_SHARE: Final = 0.9
"""From this share of its limit on, a body counts as full: something may have been left out."""

MICROGRAINS: Final = 1_000_000


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
            _ceil(found.min_fee_rate),
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

    @method("mempool.fee_estimate", Access.READ)
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
        network = self._chain.network
        waiting = await self._chain.queries.waiting_fees(self._clock.now_ms())
        minimum = _ceil(waiting.min_fee_rate)
        height = self._chain.status.value.height
        full_rates = await self._reader.run(
            lambda store: _full_bodies(store, height, int(network.max_body_size * FULL_SHARE))
        )
        options: list[tuple[int, Literal["minimum", "mempool", "recent bodies"]]] = [
            (minimum, "minimum"),
            (_rate_to_beat(waiting.fees, target * network.max_body_size), "mempool"),
        ]
        if full_rates and min(height, LOOKED_BACK) - len(full_rates) < target:
            options.append((sorted(full_rates)[len(full_rates) // 2], "recent bodies"))
        rate, source = max(options, key=lambda option: option[0])
        return FeeEstimate(rate, target, source, minimum)


def _ceil(rate: float) -> int:
    return -(-int(rate * MICROGRAINS) // MICROGRAINS)


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


def _rate_to_beat(sizes: list[tuple[int, int]], room: int) -> int:
    """Return a grain above the rate at which transfers, as (fee, size), fill a room of bytes; 0
    if they do not fill it."""
    for fee, size in sorted(sizes, key=lambda item: item[0] / item[1], reverse=True):
        room -= size
        if room <= 0:
            return fee // size + 1
    return 0


def _full_bodies(store: Reader, height: int, full: int) -> list[int]:
    """Return the lowest fee rate in each of the last bodies that holds `full` bytes or more."""
    rates = []
    for number in range(height, max(0, height - LOOKED_BACK), -1):
        anchor_id = schema.HEIGHT.get(store, number)
        record = None if anchor_id is None else schema.ANCHOR.get(store, anchor_id)
        if record is None or not record.body:
            continue
        wids = Body.from_bytes(record.body).transfers
        raws = [raw for raw in schema.TRANSFER.get_many(store, wids) if raw is not None]
        transfers = [SizedTransfer.from_bytes(raw) for raw in raws]
        if sum(sized.size for sized in transfers) >= full:
            rates.append(min(sized.transfer.fee // sized.size for sized in transfers))
    return rates
