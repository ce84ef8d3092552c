"""The answers of a running chain: each is one function of the reads, and one trip to the writer
unless the store can answer by itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Protocol, TypeVar

from unchained.node.base.runner import Runner
from unchained.node.chain import anchor_reads, coin_reads, confirmations, tree_reads
from unchained.node.chain.answers import (
    AnchorPlace,
    AnchorStanding,
    AnchorVotes,
    BranchEnd,
    CoinFates,
    HeaderBase,
    KnownCoin,
    Lacking,
    MainWeight,
    MempoolState,
    TransferEncoding,
    VotesFound,
    WaitingFees,
    WaitingOrder,
    WaitingTransfer,
)
from unchained.node.chain.view import ChainView
from unchained.node.consensus.params import Network
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.transfer import SizedTransfer
from unchained.node.primitives.types import CoinId, Txid, Wid
from unchained.storage.kv import Getter

T = TypeVar("T")


class ViewReader(Protocol):
    """Runs reads between the operations that change the chain."""

    async def read(self, work: Callable[[ChainView], T]) -> T:
        """Return ``work(view)``, one trip to the chain's writer."""


class LiveQueries:
    """`ChainQueries` of a running chain; what each method returns is said there."""

    def __init__(self, reader: ViewReader, store: Getter, runner: Runner, network: Network) -> None:
        self._reader = reader
        self._network = network
        self._store = store
        self._runner = runner

    # What is known

    async def is_known(self, anchor_id: CoinId) -> bool:
        return await self._reader.read(partial(anchor_reads.is_known, anchor_id=anchor_id))

    async def missing_votes(self, coins: Sequence[Coin]) -> list[Coin]:
        return await self._reader.read(partial(anchor_reads.missing_votes, coins=coins))

    async def unknown_coins(self, coins: Sequence[Coin]) -> list[Coin]:
        return await self._reader.read(partial(anchor_reads.unknown_coins, coins=coins))

    async def without_bodies(self, ids: Collection[CoinId]) -> list[CoinId]:
        return await self._reader.read(partial(anchor_reads.without_bodies, ids=ids))

    async def targets_through(self, anchor_id: CoinId, count: int) -> dict[int, int]:
        return await self._reader.read(
            partial(anchor_reads.targets_through, anchor_id=anchor_id, count=count)
        )

    async def deserves_body(self, anchor_id: CoinId, listed: int) -> bool:
        return await self._reader.read(
            partial(anchor_reads.deserves_body, anchor_id=anchor_id, listed=listed)
        )

    async def lacking(self, bodies: Sequence[Body]) -> Lacking:
        most = self._network.max_body_size
        unseen: set[Wid] = set()
        while True:
            found = await self._runner.run(
                coin_reads.lacking, self._store, bodies, most, frozenset(unseen)
            )
            # Only the writer knows what is hidden: and had it left since, it would be on disk yet.
            if not found.lengths:
                return found
            here = list(found.lengths)
            hidden = await self._reader.read(partial(coin_reads.unseen_of, wids=here))
            if not hidden:
                return found
            # Without these more of a body may have to be looked at.
            unseen |= hidden

    # The main chain and its branches

    async def anchor_at(self, height: int) -> CoinId | None:
        return await self._reader.read(partial(anchor_reads.anchor_at, height=height))

    async def main_weight(self, height: int) -> MainWeight:
        return await self._reader.read(partial(anchor_reads.main_weight, height=height))

    async def locator(self) -> tuple[CoinId, ...]:
        return await self._reader.read(anchor_reads.locator)

    async def header_page(
        self, base_id: CoinId | None, ids: Sequence[CoinId]
    ) -> tuple[HeaderBase | None, list[AnchorStanding | None]]:
        return await self._reader.read(partial(anchor_reads.header_page, base_id=base_id, ids=ids))

    async def are_apart(self, tip_id: CoinId) -> bool:
        return await self._reader.read(partial(anchor_reads.are_apart, tip_id=tip_id))

    async def above_fork(self, one_id: CoinId, other_id: CoinId) -> list[CoinId]:
        return await self._reader.read(
            partial(anchor_reads.above_fork, one_id=one_id, other_id=other_id)
        )

    async def branch_ends(self, limit: int) -> list[BranchEnd]:
        return await self._reader.read(partial(anchor_reads.branch_ends, limit=limit))

    async def anchor_votes(
        self, first: int, last: int, anchors_max: int, coins_max: int
    ) -> list[AnchorVotes]:
        return await self._reader.read(
            partial(
                tree_reads.anchor_votes,
                first=first,
                last=last,
                anchors_max=anchors_max,
                coins_max=coins_max,
            )
        )

    async def anchor_place(self, coin: Coin, recorded_votes: int) -> AnchorPlace:
        return await self._reader.read(
            partial(confirmations.anchor_place, coin=coin, recorded_votes=recorded_votes)
        )

    async def confirmations(self, last: CoinId, heights: Collection[int]) -> dict[int, int]:
        return await self._reader.read(
            partial(confirmations.confirmations, last=last, heights=heights)
        )

    # What peers ask for

    async def anchors_above(
        self, known: Sequence[CoinId], tip_id: CoinId, limit: int
    ) -> list[int | tuple[Coin, Body]] | None:
        return await self._reader.read(
            partial(anchor_reads.anchors_above, known=known, tip_id=tip_id, limit=limit)
        )

    async def bodies(self, ids: Sequence[CoinId], most_bytes: int) -> list[bytes]:
        return await self._reader.read(partial(anchor_reads.bodies, ids=ids, most_bytes=most_bytes))

    async def coin_bytes(self, ids: Sequence[CoinId]) -> list[bytes]:
        return await self._reader.read(partial(anchor_reads.coin_bytes, ids=ids))

    async def transfers(self, wids: Sequence[Wid], most_bytes: int) -> list[bytes]:
        return await self._reader.read(
            partial(coin_reads.transfers, wids=wids, most_bytes=most_bytes)
        )

    async def votes(self, anchors: Sequence[CoinId], after: bytes, limit: int) -> VotesFound:
        return await self._reader.read(
            partial(anchor_reads.votes, anchors=anchors, after=after, limit=limit)
        )

    # Coins and transfers

    async def coin(self, coin_id: CoinId) -> KnownCoin | None:
        return await self._reader.read(partial(coin_reads.known_coin, coin_id=coin_id))

    async def coin_fates(self, ids: Collection[CoinId]) -> CoinFates:
        return await self._reader.read(partial(coin_reads.coin_fates, ids=ids))

    async def transfer_bytes(self, transfer_id: bytes) -> bytes | None:
        return await self._reader.read(partial(coin_reads.transfer_named, transfer_id=transfer_id))

    async def transfer(self, transfer_id: bytes) -> TransferEncoding | None:
        return await self._reader.read(partial(coin_reads.find_transfer, transfer_id=transfer_id))

    async def input_values(self, sized: SizedTransfer) -> list[int | None]:
        return await self._reader.read(partial(coin_reads.input_values, sized=sized))

    async def try_transfer(self, sized: SizedTransfer, now_ms: int) -> list[Txid] | None:
        return await self._reader.read(partial(coin_reads.try_transfer, sized=sized, now_ms=now_ms))

    # The mempool

    async def mempool_state(self, now_ms: int) -> MempoolState:
        return await self._reader.read(partial(coin_reads.mempool_state, now_ms=now_ms))

    async def waiting_fees(self, now_ms: int) -> WaitingFees:
        return await self._reader.read(partial(coin_reads.waiting_fees, now_ms=now_ms))

    async def waiting_transfers(
        self, order: WaitingOrder, limit: int, offset: int
    ) -> list[WaitingTransfer]:
        return await self._reader.read(
            partial(coin_reads.waiting_transfers, order=order, limit=limit, offset=offset)
        )

    async def hidden_transfers(self) -> list[Wid]:
        return await self._reader.read(coin_reads.hidden_transfers)

    async def waiting_transfer(self, transfer_id: bytes) -> WaitingTransfer | None:
        return await self._reader.read(
            partial(coin_reads.waiting_transfer, transfer_id=transfer_id)
        )
