"""What others ask of the chain, by name.

What is settled, and so on disk for good, is read of a store's snapshot without asking here (the
`Reading` of RPC). All that depends on the tip, on branches or on what waits is answered in one
trip to the chain's writer, by one pure function of `anchor_reads` or `coin_reads`: see
`LiveQueries`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

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
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.transfer import SizedTransfer
from unchained.node.primitives.types import CoinId, Txid, Wid


class ChainQueries(Protocol):
    """The chain as sync, relay, RPC and mining read it. Any of these may raise a `StoreError`, or
    `trio.ClosedResourceError` once the chain has stopped."""

    # What is known

    async def is_known(self, anchor_id: CoinId) -> bool:
        """Return whether there is nothing to ask about an anchor."""

    async def missing_votes(self, coins: Sequence[Coin]) -> list[Coin]:
        """Return the coins that are not known, or could be votes and are none."""

    async def unknown_coins(self, coins: Sequence[Coin]) -> list[Coin]:
        """Return the coins that are not known."""

    async def without_bodies(self, ids: Collection[CoinId]) -> list[CoinId]:
        """Return those of some coins that are anchors whose bodies are unknown."""

    async def targets_through(self, anchor_id: CoinId, count: int) -> dict[int, int]:
        """Return the targets of a known anchor and of those before it, `count` in all, by height:
        nothing where it is not known to be in the tree or on the main chain."""

    async def deserves_body(self, anchor_id: CoinId, listed: int) -> bool:
        """Return whether a known anchor's body, which lists so many coins, is unknown and to be
        asked for (Protocol §11)."""

    async def lacking(self, bodies: Sequence[Body]) -> Lacking:
        """Return what bodies list and is not on disk, or is hidden from peers: they are asked for
        it, and must not be able to tell the one from the other. The writer is asked only where some
        transfer is on disk. What a long sync took in a moment ago may be among it."""

    # The main chain and its branches

    async def anchor_at(self, height: int) -> CoinId | None:
        """Return the main chain's anchor at a height."""

    async def main_weight(self, height: int) -> MainWeight:
        """Return what the main chain has above a height."""

    async def locator(self) -> tuple[CoinId, ...]:
        """Return ids of the main chain from the tip downwards, genesis last: every one at first,
        then in steps that double, and the lowest ones of the tree and of what can be undone."""

    async def header_page(
        self, base_id: CoinId | None, ids: Sequence[CoinId]
    ) -> tuple[HeaderBase | None, list[AnchorStanding | None]]:
        """Return an anchor, if one is named, as the headers above it see it (None unless it counts
        and is on the main chain or in the tree); and where anchors stand, None for each that is
        unknown."""

    async def are_apart(self, tip_id: CoinId) -> bool:
        """Return whether a known tip and our own are not on one chain."""

    async def above_fork(self, one_id: CoinId, other_id: CoinId) -> list[CoinId]:
        """Return the anchors above the last common ancestor of two that count, lowest first: the
        whole tree that grows from it, dead and lost branches too, as far as §11 has their votes
        asked for. Where one descends from the other, what grows from W below the higher one, that
        anchor included."""

    async def branch_ends(self, limit: int) -> list[BranchEnd]:
        """Return the ends of all known branches, the main chain's first, at most `limit`."""

    async def anchor_votes(
        self, first: int, last: int, anchors_max: int, coins_max: int
    ) -> list[AnchorVotes]:
        """Return the anchors from one height up to another with the coins bound to each, lowest
        first and the main chain's before others: of the tree on every branch, below it of the main
        chain. At most `anchors_max` anchors, and `coins_max` coins of each."""

    async def anchor_place(self, coin: Coin, recorded_votes: int) -> AnchorPlace:
        """Return where an anchor stands. `recorded_votes`: of one that has left the tree."""

    async def confirmations(self, last: CoinId, heights: Collection[int]) -> dict[int, int]:
        """Return, for each height at which the chain that ends in the anchor `last` has the main
        chain's anchor, its confirmations in votes (`chain.confirmations`). Nothing for what has
        been undone, or is not known."""

    # What peers ask for

    async def anchors_above(
        self, known: Sequence[CoinId], tip_id: CoinId, limit: int
    ) -> list[int | tuple[Coin, Body]] | None:
        """Return the anchors of the chain that ends in a tip of the tree, lowest first, above the
        first of `known` that is on it: at most `limit`. None if there is no such tip. Of anchors
        below the tree, which are the main chain's, the heights."""

    async def bodies(self, ids: Sequence[CoinId], most_bytes: int) -> list[bytes]:
        """Return the encoded bodies of anchors that count, empty bytes for others: as many of the
        first as have `most_bytes` together, one at least."""

    async def coin_bytes(self, ids: Sequence[CoinId]) -> list[bytes]:
        """Return known coins, empty bytes for others."""

    async def transfers(self, wids: Sequence[Wid], most_bytes: int) -> list[bytes]:
        """Return the encodings of transfers for peers, empty bytes for those that are unknown or
        hidden from them: as many of the first as have `most_bytes` together, one at least."""

    async def votes(self, anchors: Sequence[CoinId], after: bytes, limit: int) -> VotesFound:
        """Return the votes for anchors that count, by anchor and then by id, at most `limit`: for
        the first anchor those whose ids come after `after`."""

    # Coins and transfers

    async def coin(self, coin_id: CoinId) -> KnownCoin | None:
        """Return what is known of a coin: minted, or an output of a transfer."""

    async def coin_fates(self, ids: Collection[CoinId]) -> CoinFates:
        """Return which coins the main chain includes."""

    async def transfer_bytes(self, transfer_id: bytes) -> bytes | None:
        """Return the encoding of a transfer that is named by its txid or its wid."""

    async def transfer(self, transfer_id: bytes) -> TransferEncoding | None:
        """Return a transfer of the main chain or the mempool, named by its txid or its wid."""

    async def input_values(self, sized: SizedTransfer) -> list[int | None]:
        """Return the values (grains) of the coins that a transfer spends, where known."""

    async def try_transfer(self, sized: SizedTransfer, now_ms: int) -> list[Txid] | None:
        """Check a transfer for the mempool by all but its witness; return the txids that it would
        replace, None if it is known already. Raises a `PolicyError` or a `TransferError`."""

    # The mempool

    async def mempool_state(self, now_ms: int) -> MempoolState:
        """Return how full the mempool is and what it asks for."""

    async def waiting_fees(self, now_ms: int) -> WaitingFees:
        """Return what all waiting transfers pay."""

    async def waiting_transfers(
        self, order: WaitingOrder, limit: int, offset: int
    ) -> list[WaitingTransfer]:
        """Return waiting transfers in an order, `limit` of them after the first `offset`."""

    async def hidden_transfers(self) -> list[Wid]:
        """Return the waiting transfers that are hidden from peers, in no order."""

    async def waiting_transfer(self, transfer_id: bytes) -> WaitingTransfer | None:
        """Return one waiting transfer, named by its txid or its wid."""
