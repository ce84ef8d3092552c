"""Bodies from several peers in parallel, proofs verified ahead, anchors connected in order."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.chain.cheap_checks import split_fitting
from unchained.node.chain.results import Package, ProvenAnchor
from unchained.node.chain.service import ChainService
from unchained.node.consensus.errors import BadMixError
from unchained.node.peers.manager import PeerManager
from unchained.node.peers.penalty import Penalty
from unchained.node.primitives.coin import COIN_SIZE, Coin
from unchained.node.primitives.errors import ProtocolError
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
from unchained.node.sync.proof_sample import HeaderProofs
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
SYNC_UNVERIFIED_BYTES_MAX: Final = 64 << 20
"""Bytes of batches from all peers that wait to be verified, from which on no more are asked for."""
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


class _Verified(msgspec.Struct, frozen=True):
    """The anchors of a batch that have been verified; and where one of them breaks a rule before
    its proofs need be looked at, that one and the rule: what follows it was not verified."""

    anchors: list[ProvenAnchor]
    broken: Package | None
    error: ProtocolError | None


class _Backlog:
    """What has come and is not verified yet, of all peers together."""

    def __init__(self) -> None:
        self.bytes = 0
        self._fell = trio.Event()

    @contextmanager
    def holding(self, packages: Sequence[Package]) -> Iterator[None]:
        """Count some packages while the context lasts."""
        size = sum(
            len(it.coins) * COIN_SIZE + sum(map(len, it.transfers.values())) for it in packages
        )
        self.bytes += size
        try:
            yield
        finally:
            self.bytes -= size
            fell, self._fell = self._fell, trio.Event()
            fell.set()

    async def wait_for_room(self) -> None:
        """Return when more may be asked for."""
        while self.bytes >= SYNC_UNVERIFIED_BYTES_MAX:
            await self._fell.wait()


class Downloader:
    """Fetches the bodies of checked headers and submits them."""

    def __init__(
        self,
        chain: ChainService,
        fetcher: Fetcher,
        peers: PeerManager,
        proofs: HeaderProofs,
        *,
        log: FilteringBoundLogger,
    ) -> None:
        self._chain = chain
        self._fetcher = fetcher
        self._peers = peers
        self._proofs = proofs
        self._backlog = _Backlog()
        self._log = log
        self.in_flight = 0
        self.bodies = 0
        self.proofs_skipped = 0

    async def fetch(
        self, leader: PeerId, anchors: Anchors, trusted: Collection[CoinId] = ()
    ) -> None:
        """Fetch and connect the bodies of anchors that follow one another, once proofs of their
        headers have been verified: of a few of all, of many so many as find a forged part.

        The proofs of `trusted` anchors and of what they list are taken as verified. Raises
        `FetchError` when nobody delivers (`NotNowError` where somebody only did not in time),
        `BadMixError` for a forged header, and the other `ProtocolError` that rules an anchor out;
        what has been connected by then stays.
        """
        headers = [coin for coin, _ in anchors if coin.id not in trusted]
        await self._proofs.verify(leader, headers, self._proofs.sample())
        below = await self._chain.queries.targets_through(
            anchors[0][0].parent, self._chain.network.window
        )
        run = _Run(self, leader, anchors, trusted, below)
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
        below: Mapping[int, int],
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
        self._targets = {**below, **{coin.height: coin.header.target for coin, _ in anchors}}
        self._lines: dict[PeerId, trio.Lock] = {}
        """Whose batch is being verified: a peer's one after the other."""
        self._forgers: set[PeerId] = set()
        self._ready: dict[int, _Verified] = {}
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
            # Before a peer is asked: it does not pay for the time that we take.
            await self._owner._backlog.wait_for_room()
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
        with self._owner._backlog.holding(packages):
            verified = await self._verify(peer, packages)
        if verified is not None:
            self._plan.delivered(batch, peer)
            self._ready[batch.number] = verified
        else:
            self._plan.failed(batch, peer)
        self._wake()

    async def _ask(self, peer: PeerId, batch: DownloadBatch) -> list[Package] | None:
        """Return a whole batch, or None."""
        owner = self._owner
        owner.in_flight += 1
        try:
            with trio.move_on_after(SYNC_STALL_S) as patience:
                packages = await owner._fetcher.packages(peer, batch.headers, patience=patience)
                return packages if len(packages) == len(batch.headers) else None
            self._is_late = True
            owner._peers.reputation.penalize(peer, Penalty.COST, "stalled", ms=STALL_PRICE_MS)
        except FetchError as error:
            self._is_late = self._is_late or isinstance(error, NotNowError)
            owner._log.debug("sync.batch_failed", peer=peer, why=error.why)
        finally:
            owner.in_flight -= 1
        return None

    async def _verify(self, peer: PeerId, packages: Sequence[Package]) -> _Verified | None:
        """Verify the proofs of a batch, and its transfers' signatures; who gave a forged proof
        pays for it, and None is returned."""
        owner = self._owner
        # Protocol §5.2: "all cheap checks before any Argon2"
        fitting, error = split_fitting(packages, self._targets, owner._chain.network)
        coins: dict[CoinId, Coin] = {}
        for package in fitting:
            own = {package.anchor.id: package.anchor, **package.coins}
            if package.anchor.id in self._trusted:
                owner.proofs_skipped += len(own)
            else:
                if owner._proofs.is_proven(package.anchor.id):
                    del own[package.anchor.id]
                coins.update(own)
        async with self._lines.setdefault(peer, trio.Lock()):
            # What else has come from a forger is not worth a look.
            if peer in self._forgers:
                return None
            try:
                await owner._chain.verify_mixes(list(coins.values()), peer)
            except BadMixError as forged:
                self._forgers.add(peer)
                owner._peers.reputation.penalize(
                    peer, decision_on(forged).served, f"batch: {forged}"
                )
                return None
        await owner._chain.validate_transfers(
            {wid: raw for package in fitting for wid, raw in package.transfers.items()}
        )
        broken = packages[len(fitting)] if error is not None else None
        return _Verified([ProvenAnchor(package) for package in fitting], broken, error)

    async def _connect(self, all_of_it: trio.CancelScope) -> None:
        chain = self._owner._chain
        for number in range(self._count):
            while number not in self._ready:
                await self._changed.wait()
            verified = self._ready.pop(number)
            outcome = await chain.submit_batch(verified.anchors)
            error = outcome.error
            if error is None and verified.broken is not None:
                # By the ordinary way it is ruled out for good, by the rule that it breaks first.
                _, error = await chain.submit_chain([verified.broken])
                error = error or verified.error
            if error is not None or outcome.is_full:
                too_long = BranchTooLongError(self._leader, "too long to be weighed")
                self._error = error or too_long
                all_of_it.cancel()
                return
            self._owner.bodies += len(verified.anchors)
            self._plan.took_in(number)
            self._wake()
        # A peer that is still being asked was too slow.
        all_of_it.cancel()
