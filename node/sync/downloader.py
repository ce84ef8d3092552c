"""Bodies from several peers in parallel, proofs verified ahead, anchors connected in order."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.chain.results import Package, ProvenAnchor
from unchained.node.chain.service import ChainService
from unchained.node.consensus.coins import passes_alone
from unchained.node.consensus.errors import BadMixError
from unchained.node.peers.manager import PeerManager
from unchained.node.peers.penalty import Penalty
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId
from unchained.node.relay.fetcher import (
    Anchors,
    Fetcher,
    FetchError,
    NotNowError,
    NotServedByPeerError,
)
from unchained.node.relay.penalty_table import decision_on
from unchained.node.sync.body_plan import BodyPlan, DownloadBatch, cut
from unchained.node.transport.contract import PeerId

SYNC_BATCH_ANCHORS: Final = 32
"""Anchors asked for together."""
SYNC_BATCH_IDS_MAX: Final = 2_048
"""Ids that the bodies of a batch list at most: a page of coins."""
SYNC_BATCH_BYTES_MAX: Final = 8 << 20
"""Bytes that the transfers of a batch can have at most, two full bodies: with `SYNC_BATCHES_AHEAD`,
what bodies fetched ahead may take of memory."""
SYNC_BATCHES_AHEAD: Final = 16
"""Batches fetched and verified ahead of the one to be connected."""
PEER_BATCHES_FIRST: Final = 2
PEER_BATCHES_MAX: Final = 6
"""Batches on their way from one peer at a time."""
SYNC_SOURCES_MAX: Final = 8
"""Peers asked at a time."""
SYNC_STALL_S: Final = 15.0
"""Who takes longer for a batch is not waited for."""
SYNC_HEDGE_S: Final = 2.0
"""A batch that takes longer is asked of one more peer, if there is one with nothing to do."""
STALL_PRICE_MS: Final = 50.0
"""Price of a stall."""


class BranchTooLongError(FetchError):
    """A branch from below the tree has not won in as many anchors as there is room for."""


class Downloader:
    """Fetches the bodies of checked headers and submits them."""

    def __init__(
        self,
        chain: ChainService,
        fetcher: Fetcher,
        peers: PeerManager,
        *,
        log: FilteringBoundLogger,
    ) -> None:
        self._chain = chain
        self._fetcher = fetcher
        self._peers = peers
        self._log = log
        self.in_flight = 0
        self.bodies = 0
        self.proofs_skipped = 0

    async def fetch(
        self, leader: PeerId, anchors: Anchors, trusted: Collection[CoinId] = ()
    ) -> None:
        """Fetch and connect the bodies of anchors that follow one another.

        The proofs of `trusted` anchors and of what they list are taken as verified. Raises
        `FetchError` when nobody delivers (`NotNowError` where somebody only did not in time), and
        the `ProtocolError` that rules an anchor out; what has been connected by then stays.
        """
        run = _Run(self, leader, anchors, trusted)
        await run.finish()

    def sources(self, leader: PeerId, top: int) -> list[PeerId]:
        """Return whom to ask: the peer that led here, then those that claim to be as high."""
        others = [
            peer
            for peer in self._peers.greeted()
            if peer != leader
            and (status := self._peers.status_of(peer)) is not None
            and status.height >= top
        ]
        return [leader, *others[: SYNC_SOURCES_MAX - 1]]


class _Run:
    """One call of `Downloader.fetch`."""

    def __init__(
        self,
        owner: Downloader,
        leader: PeerId,
        anchors: Anchors,
        trusted: Collection[CoinId],
    ) -> None:
        batches = cut(
            anchors,
            owner._chain.network,
            size=SYNC_BATCH_ANCHORS,
            most_ids=SYNC_BATCH_IDS_MAX,
            most_bytes=SYNC_BATCH_BYTES_MAX,
        )
        self._owner = owner
        self._leader = leader
        self._trusted = trusted
        self._count = len(batches)
        self._plan: BodyPlan[PeerId] = BodyPlan(
            batches,
            ahead=SYNC_BATCHES_AHEAD,
            first_window=PEER_BATCHES_FIRST,
            window=PEER_BATCHES_MAX,
            hedge_s=SYNC_HEDGE_S,
        )
        self._sources = owner.sources(leader, anchors[-1][0].height)
        self._ready: dict[int, list[ProvenAnchor]] = {}
        self._changed = trio.Event()
        self._error: Exception | None = None
        self._is_late = False
        """Whether somebody who was asked did not say that he lacks it."""

    async def finish(self) -> None:
        async with trio.open_nursery() as nursery:
            for peer in self._sources:
                for _ in range(PEER_BATCHES_MAX):
                    nursery.start_soon(self._work, peer, nursery)
            nursery.start_soon(self._connect, nursery.cancel_scope)
        if self._error is not None:
            raise self._error

    def _wake(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def _work(self, peer: PeerId, nursery: trio.Nursery) -> None:
        """Ask one peer for batches, one at a time; several of these run for each peer."""
        while not self._plan.is_done:
            if self._plan.is_stuck(self._sources):
                kind = NotNowError if self._is_late else NotServedByPeerError
                self._error = kind(self._leader, "nobody delivers its bodies")
                nursery.cancel_scope.cancel()
            batch = self._plan.next_for(peer, trio.current_time())
            if batch is None:
                with trio.move_on_at(self._plan.look_again_at(peer)):
                    await self._changed.wait()
                continue
            packages = await self._ask(peer, batch)
            if packages is None:
                self._plan.failed(batch, peer)
                self._wake()
            elif self._plan.arrived(batch, peer, trio.current_time()):
                # While it is verified, the next one is on its way.
                nursery.start_soon(self._take, peer, batch, packages)

    async def _take(self, peer: PeerId, batch: DownloadBatch, packages: list[Package]) -> None:
        """Verify what a peer was the first to deliver."""
        anchors = await self._verify(peer, packages)
        if anchors is not None:
            self._plan.delivered(batch, peer)
            self._ready[batch.number] = anchors
        else:
            self._plan.failed(batch, peer)
        self._wake()

    async def _ask(self, peer: PeerId, batch: DownloadBatch) -> list[Package] | None:
        """Return a whole batch, or None."""
        owner = self._owner
        owner.in_flight += 1
        try:
            with trio.move_on_after(SYNC_STALL_S):
                packages = await owner._fetcher.packages(peer, batch.headers)
                return packages if len(packages) == len(batch.headers) else None
            self._is_late = True
            owner._peers.reputation.penalize(peer, Penalty.COST, "stalled", ms=STALL_PRICE_MS)
        except FetchError as error:
            self._is_late = self._is_late or isinstance(error, NotNowError)
            owner._log.debug("sync.batch_failed", peer=peer, why=error.why)
        finally:
            owner.in_flight -= 1
        return None

    async def _verify(self, peer: PeerId, packages: Sequence[Package]) -> list[ProvenAnchor] | None:
        """Verify the proofs of a batch, and its transfers' signatures; who gave a forged proof
        pays for it, and None is returned."""
        coins: dict[CoinId, Coin] = {}
        for package in packages:
            own = {package.anchor.id: package.anchor, **package.coins}
            if package.anchor.id in self._trusted:
                self._owner.proofs_skipped += len(own)
            else:
                # Protocol §5.2: all cheap checks before any Argon2; what fails them is refused when
                # it is submitted
                coins.update(
                    (coin_id, coin)
                    for coin_id, coin in own.items()
                    if passes_alone(coin, self._owner._chain.network)
                )
        try:
            if coins:
                await self._owner._chain.verify_mixes(list(coins.values()))
        except BadMixError as error:
            self._owner._peers.reputation.penalize(
                peer, decision_on(error).served, f"batch: {error}"
            )
            return None
        await self._owner._chain.validate_transfers(
            {wid: raw for package in packages for wid, raw in package.transfers.items()}
        )
        return [ProvenAnchor(package) for package in packages]

    async def _connect(self, all_of_it: trio.CancelScope) -> None:
        chain = self._owner._chain
        for number in range(self._count):
            while number not in self._ready:
                await self._changed.wait()
            anchors = self._ready.pop(number)
            outcome = await chain.submit_batch(anchors)
            if outcome.error is not None or outcome.is_full:
                too_long = BranchTooLongError(self._leader, "too long to be weighed")
                self._error = outcome.error or too_long
                all_of_it.cancel()
                return
            self._owner.bodies += len(anchors)
            self._plan.took_in(number)
            self._wake()
        # A peer that is still being asked was too slow.
        all_of_it.cancel()
