"""The chain as wallets see it, and the way on which their transfers go out."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from unchained.node.base.clock import Clock
from unchained.node.base.runner import Runner
from unchained.node.chain.coin_proofs import CoinNotProvableError, CoinProofs
from unchained.node.chain.fee_estimate import estimate_fee
from unchained.node.chain.results import Outcome, TransferIntake
from unchained.node.chain.service import ChainService
from unchained.node.chain.status import ChainStatus
from unchained.node.consensus.coin_proof import CoinProof
from unchained.node.consensus.params import Network
from unchained.node.consensus.policy import PolicyError
from unchained.node.consensus.transfers import ProvenTransfer
from unchained.node.primitives.errors import ProtocolError
from unchained.node.primitives.types import CoinId, Wid
from unchained.node.wallet.errors import ReserveProofError, TransferRefusedError
from unchained.node.wallet.link import ChainTip, WaitingBids, WaitingFee
from unchained.storage.kv import KeyValueStore, Snapshot


class WalletLink:
    """A `ChainService` and the store under it as wallets see them (`wallet.link.ChainLink`).
    `intake` takes transfers that are made here."""

    def __init__(
        self,
        chain: ChainService,
        store: KeyValueStore,
        intake: TransferIntake,
        *,
        clock: Clock,
        runner: Runner,
    ) -> None:
        self._chain = chain
        self._store = store
        self._intake = intake
        self._proofs = CoinProofs(chain.network)
        self._clock = clock
        self._runner = runner

    @property
    def network(self) -> Network:
        """Whose chain it is."""
        return self._chain.network

    @property
    def tip(self) -> ChainTip:
        """The present."""
        return _tip_of(self._chain.status.value)

    async def wait_newer(self, next_event: int) -> ChainTip:
        """Return the present once its `next_event` differs; cancelling loses nothing."""
        status = await self._chain.status.wait_for(lambda now: now.next_event != next_event)
        return _tip_of(status)

    def snapshot(self) -> Snapshot:
        """Return the store as it is at this moment."""
        return self._store.snapshot()

    def prove_coin(self, view: Snapshot, coin_id: CoinId) -> CoinProof | None:
        """Return the proof of a coin; from any thread. Raises `ReserveProofError`."""
        try:
            return self._proofs.prove(view, coin_id)
        except CoinNotProvableError as error:
            raise ReserveProofError(f"coin {coin_id.hex()}: {error}") from None

    def proven_transfer(self, wid: Wid) -> ProvenTransfer | None:
        """Return a transfer that the chain has decoded not long ago; from any thread."""
        return self._chain.proven_transfer(wid)

    async def waiting(self, txids: Collection[bytes]) -> WaitingBids:
        """Return what those of some transfers pay that wait, and those that build on them."""
        found: dict[bytes, WaitingFee] = {}
        behind = list(txids)
        while behind:
            txid = behind.pop()
            entry = None if txid in found else await self._chain.queries.waiting_transfer(txid)
            if entry is not None:
                found[txid] = WaitingFee(entry.fee, entry.size, entry.children)
                behind += entry.children
        return WaitingBids(found)

    async def submit(self, transfer: bytes | ProvenTransfer) -> bool:
        """Hand a transfer to the mempool. Raises `TransferRefusedError`."""
        try:
            return await self._intake.submit_transfer(transfer) is Outcome.ACCEPTED
        except (ProtocolError, PolicyError) as error:
            raise TransferRefusedError(error.name, error.in_words()) from None

    async def confirmations(self, last: CoinId, heights: Collection[int]) -> Mapping[int, int]:
        """Return the votes of the anchors at some heights of the chain that ends in `last`."""
        return await self._chain.queries.confirmations(last, heights)

    async def fee_rate(self, target: int) -> int:
        """Return the rate at which a transfer should be included within so many anchors."""
        height = self._chain.status.value.height
        waiting = await self._chain.queries.waiting_fees(self._clock.now_ms())

        def estimate() -> int:
            with self._store.snapshot() as view:
                return estimate_fee(view, self.network, height, waiting, target).fee_rate

        return await self._runner.run(estimate)


def _tip_of(status: ChainStatus) -> ChainTip:
    return ChainTip(status.tip, status.height, status.next_event, status.mempool.min_fee_rate)
