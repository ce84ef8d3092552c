"""What a wallet needs of the chain, handed in by the composition root."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

import msgspec

from unchained.node.consensus.coin_proof import CoinProof
from unchained.node.consensus.params import Network
from unchained.node.consensus.transfers import ProvenTransfer
from unchained.node.primitives.types import CoinId, Txid, Wid
from unchained.storage.kv import Snapshot


class ChainTip(msgspec.Struct, frozen=True, gc=False):
    """The present of the chain. `next_event` grows with everything that happens; `min_fee_rate`
    in grains per byte of size is what the mempool asks at present."""

    id: CoinId
    height: int
    next_event: int
    min_fee_rate: float


class WaitingFee(msgspec.Struct, frozen=True):
    """What one transfer of the mempool pays: `fee` in grains, `size` as fee rates count it;
    `children` are the txids of those that build on it."""

    fee: int
    size: int
    children: tuple[Txid, ...] = ()


class WaitingBids(msgspec.Struct, frozen=True):
    """What some transfers of the mempool pay, and those that go with them if they are replaced, by
    their txids."""

    fees: Mapping[bytes, WaitingFee]

    def of(self, txids: Iterable[bytes]) -> tuple[list[WaitingFee], list[WaitingFee]]:
        """Return what those of some transfers pay that wait, and what all pay that would go with
        them."""
        chosen = dict.fromkeys(txid for txid in txids if txid in self.fees)
        family: dict[bytes, WaitingFee] = {}
        behind = list(chosen)
        while behind:
            txid = behind.pop()
            if txid not in family and txid in self.fees:
                family[txid] = self.fees[txid]
                behind += family[txid].children
        return [self.fees[txid] for txid in chosen], list(family.values())


class RecentTransfers(Protocol):
    """The transfers that the chain has decoded not long ago."""

    def proven_transfer(self, wid: Wid) -> ProvenTransfer | None:
        """Return one of them by its wid; from any thread."""


class CoinProver(Protocol):
    """Makes proof files of coins (Protocol §12.1)."""

    def prove_coin(self, view: Snapshot, coin_id: CoinId) -> CoinProof | None:
        """Return the proof of a coin in a snapshot of the chain's store, None for a coin that its
        main chain does not include; blocks, in any thread.

        Raises `ReserveProofError` where none can be made.
        """


class ChainSnapshots(Protocol):
    """The store of a chain."""

    def snapshot(self) -> Snapshot:
        """Return the chain's store as it is at this moment; blocks, in any thread."""


class ChainLink(ChainSnapshots, RecentTransfers, CoinProver, Protocol):
    """The chain of one node, as wallets see it."""

    @property
    def network(self) -> Network:
        """Whose chain it is."""

    @property
    def tip(self) -> ChainTip:
        """The present."""

    async def wait_newer(self, next_event: int) -> ChainTip:
        """Return the present once its `next_event` differs from the one given."""

    async def waiting(self, txids: Collection[bytes]) -> WaitingBids:
        """Return what those of some transfers pay that wait in the mempool, and those that build on
        them."""

    async def submit(self, transfer: bytes | ProvenTransfer) -> bool:
        """Hand a transfer, encoded or proven, to the mempool, and so to peers; False if it is known
        already.

        Raises `TransferRefusedError`.
        """

    async def confirmations(self, last: CoinId, heights: Collection[int]) -> Mapping[int, int]:
        """Return, for each height at which the chain that ends in the anchor `last` has the main
        chain's anchor, the votes of that (Protocol §6): `last` is the one that a wallet has read
        last, and what was undone since has none."""

    async def fee_rate(self, target: int) -> int:
        """Return the rate (grains per byte of size) at which a transfer should be included within
        so many anchors."""
