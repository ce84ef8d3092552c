"""Sync: finds out what peers know that this node does not, and fetches it.

One task for each peer looks at its tip. An unknown tip is followed, headers first; a long chain
makes its finder the leader of a long sync, in which several peers' headers are compared and
bodies come from many at once. Whenever a peer's tip and our own are not on one chain, both are
asked for their votes (Protocol §6, §11). What a peer claims of its work decides nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.base.clock import Clock
from unchained.node.base.fanout import Watch
from unchained.node.chain.service import ChainService
from unchained.node.consensus.header_work import deserves_bodies
from unchained.node.crypto.anchor_header import AnchorHeader
from unchained.node.peers.manager import PeerManager
from unchained.node.peers.penalty import Penalty
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.errors import ProtocolError
from unchained.node.primitives.types import ZERO32, CoinId
from unchained.node.relay.fetcher import Fetcher, FetchError
from unchained.node.relay.penalty_table import decision_on
from unchained.node.sync.body_plan import SyncProgress
from unchained.node.sync.downloader import BranchTooLongError, Downloader
from unchained.node.sync.header_scan import HeaderScan, scan_peers
from unchained.node.sync.header_walk import HeaderWalk, Seen
from unchained.node.sync.votes import Votes
from unchained.node.transport.contract import PeerId

HELD_HEADERS_MAX: Final = 4_096
"""Headers held of a branch whose work does not suffice yet."""
LONG_SYNC_WINDOW_HEADERS: Final = 2_048
"""Headers whose bodies are fetched in one go during a long sync."""
LONG_SYNC_ANCHORS: Final = 512
"""Anchors that a node is behind from which on it is a long sync."""
TIP_FIRST_RETRY_S: Final = 5.0
TIP_LONGEST_RETRY_S: Final = 600.0
FOLLOWED_BY_OTHER_S: Final = 5.0
"""How long a tip is left to the peer that was asked for it first."""
USELESS_TIP_PRICE_MS: Final = 20.0
"""Price of a tip that leads nowhere."""
LEFT_TO_OPERATOR: Final = "a deep branch, left to the operator"
"""Why a tip is not followed that undoes too much (Protocol §6, last rule but one)."""
DEEP_PATIENCE_S: Final = 900.0
"""The longest that a branch may take to win which leaves the main chain below the tree."""
LOST_DEEP_BRANCH_PRICE_MS: Final = 1_500.0
"""Price of such a branch that does not win: hundreds of bodies for nothing."""
WANTED_ANCHORS_MAX: Final = 16
"""Unknown anchors of one peer that wait to be asked for."""
SYNC_REPORT_S: Final = 10.0


class SyncSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a node synchronizes. `assume_valid` names an anchor below which, on its chain, proofs
    of work are taken as verified; None verifies all."""

    assume_valid: CoinId | None = None
    alone_s: float = 60.0
    """Seconds after which a node that reaches nobody goes on by itself."""


class SyncStatistics(msgspec.Struct, frozen=True):
    """The present, and counts since the start. `rate` in anchors per second, `eta_s` None while
    unknown; `target_height` is that of the headers being followed."""

    synced: bool
    syncing: bool
    height: int
    target_height: int
    rate: float
    eta_s: float | None
    leader: PeerId | None
    in_flight: int
    followed: int
    headers: int
    bodies: int
    candidates: int
    proofs_skipped: int


class _PeerState:
    """What sync knows of one peer."""

    def __init__(self) -> None:
        self.wake = trio.Event()
        self.wanted: dict[CoinId, None] = {}
        self.retry: dict[CoinId, tuple[float, float]] = {}
        """Tips that led nowhere: when to try again, and how long the wait was."""
        self.tip: bytes | None = None
        self.compared: tuple[bytes, bytes, float] | None = None
        self.settled = False

    def may_try(self, anchor_id: CoinId) -> bool:
        """Return whether an anchor is to be followed now: not soon after it led nowhere."""
        retry_at, _ = self.retry.get(anchor_id, (0.0, 0.0))
        return trio.current_time() >= retry_at

    def tried(self, anchor_id: CoinId, followed: bool) -> None:
        """Note what following an anchor led to."""
        _, waited = self.retry.pop(anchor_id, (0.0, 0.0))
        if followed:
            return
        wait = min(max(2 * waited, TIP_FIRST_RETRY_S), TIP_LONGEST_RETRY_S)
        if len(self.retry) >= WANTED_ANCHORS_MAX:
            del self.retry[next(iter(self.retry))]
        self.retry[anchor_id] = (trio.current_time() + wait, wait)


class SyncService:
    """Keeps the chain up with its peers. `synced` says whether mining makes sense."""

    def __init__(
        self,
        chain: ChainService,
        peers: PeerManager,
        fetcher: Fetcher,
        *,
        settings: SyncSettings,
        clock: Clock,
        rng: random.Random,
        log: FilteringBoundLogger,
    ) -> None:
        self._chain = chain
        self._peers = peers
        self._fetcher = fetcher
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._log = log
        self._downloader = Downloader(chain, fetcher, peers, log=log)
        self._votes = Votes(chain, fetcher, penalizer=peers.reputation, follower=self, log=log)
        self.synced: Watch[bool] = Watch(not peers.knows_others)
        """False while the node is behind, or does not know yet whether it is."""
        self._states: dict[PeerId, _PeerState] = {}
        self._following: dict[CoinId, trio.Event] = {}
        self._leader: PeerId | None = None
        self._behind = 0
        self._target_height = 0
        self._progress = SyncProgress()
        self._followed = self._headers = 0
        self._epoch_s = chain.network.epoch_ms / 1000

    def news_from(self) -> int:
        """Return the least height of what is news to anybody: while much is being fetched, only
        what the next anchors may list."""
        if not self._behind:
            return 0
        return max(0, self._target_height - self._chain.network.window)

    def want(self, peer: PeerId, anchor_id: CoinId) -> bool:
        """Ask a peer for an anchor that it knows and we do not, and for what lies below it.

        Return whether that is something that it was not going to be asked for already.
        """
        state = self._states.get(peer)
        if state is None or anchor_id in state.wanted or anchor_id in self._following:
            return False
        if len(state.wanted) < WANTED_ANCHORS_MAX:
            state.wanted[anchor_id] = None
            state.wake.set()
        return True

    def statistics(self) -> SyncStatistics:
        """Return a snapshot."""
        height = self._chain.status.value.height
        syncing = self._behind > 0
        return SyncStatistics(
            synced=self.synced.value,
            syncing=syncing,
            height=height,
            target_height=max(self._target_height, height) if syncing else height,
            rate=self._progress.rate() if syncing else 0.0,
            eta_s=self._progress.eta_s(self._target_height) if syncing else None,
            leader=self._leader,
            in_flight=self._downloader.in_flight,
            followed=self._followed,
            headers=self._headers,
            bodies=self._downloader.bodies,
            candidates=self._votes.taken,
            proofs_skipped=self._downloader.proofs_skipped,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the peers until cancelled; what has been fetched and validated by then is kept."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wait_alone, name="sync.alone")
            nursery.start_soon(self._report, name="sync.report")
            task_status.started()
            version = -1
            while True:
                version, _ = await self._peers.changed.wait_newer(version)
                for peer in self._peers.greeted():
                    status = self._peers.status_of(peer)
                    state = self._states.get(peer)
                    if state is None:
                        self._states[peer] = _PeerState()
                        nursery.start_soon(self._attend, peer, name="sync.peer")
                    elif status is not None and status.tip != state.tip:
                        state.wake.set()

    async def _wait_alone(self) -> None:
        """Let a node that reaches nobody mine after a while."""
        while True:
            await trio.sleep(self._settings.alone_s)
            if not self._peers.greeted() and not self.synced.value and not self._behind:
                self._log.warning("sync.alone", seconds=self._settings.alone_s)
                self.synced.set(True)

    async def _report(self) -> None:
        while True:
            await trio.sleep(SYNC_REPORT_S)
            self._progress.note(trio.current_time(), self._chain.status.value.height)
            if self._behind:
                now = self.statistics()
                self._log.info(
                    "sync.progress",
                    height=now.height,
                    target=now.target_height,
                    rate=round(now.rate, 1),
                    eta_s=None if now.eta_s is None else round(now.eta_s),
                    peers=len(self._states),
                )

    # One peer

    async def _attend(self, peer: PeerId) -> None:
        state = self._states[peer]
        try:
            while (status := self._peers.status_of(peer)) is not None:
                state.wake = trio.Event()
                state.tip = status.tip
                await self._settle(peer, state, CoinId(status.tip))
                with trio.move_on_after(max(1.0, self._epoch_s / 2)):
                    await state.wake.wait()
        finally:
            del self._states[peer]

    async def _settle(self, peer: PeerId, state: _PeerState, tip: CoinId) -> None:
        """Catch up with what a peer knows."""
        wanted, state.wanted = state.wanted, {}
        for anchor_id in dict.fromkeys((tip, *wanted)):
            if not state.may_try(anchor_id):
                continue
            # Most often, and then nobody has to ask the writer.
            if anchor_id == self._chain.status.value.tip:
                continue
            if await self._chain.queries.is_known(anchor_id):
                continue
            before = self._chain.status.value.tip
            why = await self._try_to_follow(peer, anchor_id)
            state.tried(anchor_id, why is None)
            if why is None:
                await self._votes.ask(peer, before, anchor_id)
            else:
                self._log.debug("sync.not_followed", peer=peer, tip=anchor_id.hex(), why=why)
        if not state.settled:
            # What was found before we met is not gossiped any more.
            await self._votes.ask(peer, tip, tip)
        await self._compare(peer, state, tip)
        state.settled = True
        self._note_settled()

    def _note_settled(self) -> None:
        if self.synced.value or self._behind:
            return
        greeted = self._peers.greeted()
        chosen = [peer for peer in greeted if self._peers.is_outbound(peer)] or greeted
        states = [self._states.get(peer) for peer in chosen]
        if any(state is not None and state.settled for state in states):
            self._log.info("sync.synced", height=self._chain.status.value.height)
            self.synced.set(True)

    @contextmanager
    def _being_behind(self) -> Iterator[None]:
        self._behind += 1
        if self.synced.value:
            self.synced.set(False)
        try:
            yield
        finally:
            self._behind -= 1
            self._note_settled()

    async def follow_vote(self, peer: PeerId, anchor_id: CoinId) -> bool:
        """Follow an anchor that a peer gave as a vote; return whether that was possible."""
        state = self._states.get(peer)
        if state is None or not state.may_try(anchor_id):
            return False
        why = await self._try_to_follow(peer, anchor_id, is_offered=False)
        state.tried(anchor_id, why is None)
        return why is None

    async def _try_to_follow(
        self, peer: PeerId, tip: CoinId, *, is_offered: bool = True
    ) -> str | None:
        """Follow a tip; return why that was not possible, if it was not. A peer that has not
        offered it need not have it."""
        if (other := self._following.get(tip)) is not None:
            # Another peer is being asked. One that stalls must not keep us from asking this one.
            with trio.move_on_after(FOLLOWED_BY_OTHER_S):
                await other.wait()
            if await self._chain.queries.is_known(tip):
                return None
        done = self._following[tip] = trio.Event()
        try:
            return await self._follow(peer, tip)
        except FetchError as error:
            if is_offered:
                self._peers.reputation.penalize(
                    peer, Penalty.COST, f"sync: {error.why}", ms=USELESS_TIP_PRICE_MS
                )
            return error.why
        except ProtocolError as error:
            self._peers.reputation.penalize(
                peer, decision_on(error).served, f"sync: {error}", ms=USELESS_TIP_PRICE_MS
            )
            return str(error)
        finally:
            done.set()
            if self._following.get(tip) is done:
                del self._following[tip]

    async def _follow(self, peer: PeerId, tip: CoinId) -> str | None:
        """Fetch the headers of the chain that ends in a tip, then the bodies that are unknown."""
        walk = HeaderWalk(self._chain, self._fetcher, self._clock, peer, tip)
        held: list[tuple[Coin, AnchorHeader]] = []
        while not walk.at_end:
            page = await walk.next_page()
            self._headers += len(page)
            held += page
            weight = await walk.weigh()
            depth = weight.depth
            if weight.is_deep and self._is_refused(walk.fork_height):
                return LEFT_TO_OPERATOR
            if weight.gain > 0 and (
                weight.is_deep or (len(held) >= LONG_SYNC_ANCHORS and not walk.at_end)
            ):
                return await self._sync_long(peer)
            if not walk.at_end and len(held) < HELD_HEADERS_MAX:
                continue
            # What leaves the main chain below the tree has to be the better one by its headers.
            if weight.is_deep or not deserves_bodies(
                weight.branch, weight.main, depth, self._chain.network
            ):
                return "a branch of little work"
            if depth > self._chain.network.window or len(held) > self._chain.network.window:
                await self._downloader.verify_sample(peer, [coin for coin, _ in held], self._rng)
            if len(held) > 2 * self._chain.network.window and weight.gain > 0:
                with self._being_behind():
                    self._target_height = walk.height
                    await self._downloader.fetch(peer, held)
            elif held:
                await self._downloader.fetch(peer, held)
            held = []
        self._followed += 1
        return None

    # A long sync

    async def _sync_long(self, finder: PeerId) -> str | None:
        """Compare the headers of several peers, then fetch the chain of greatest work."""
        if self._leader is not None:
            return "a long sync is under way"
        self._leader = finder
        try:
            with self._being_behind():
                scans, seen = await scan_peers(
                    self._chain,
                    self._fetcher,
                    self._peers,
                    finder,
                    clock=self._clock,
                    rng=self._rng,
                    log=self._log,
                )
                if not scans:
                    return "no header chain that holds"
                best = max(scans, key=lambda scan: scan.gain)
                if best.is_deep and (why := await self._why_not_deep(best)) is not None:
                    return why
                self._leader = best.peer
                self._target_height = best.height
                self._log.info(
                    "sync.started",
                    peer=best.peer,
                    height=self._chain.status.value.height,
                    target=best.height,
                    compared=len(scans),
                )
                async with self._chain.bulk():
                    if best.is_deep:
                        why = await self._fetch_deep(best, seen)
                        if why is not None:
                            return why
                    else:
                        await self._fetch_long(best, seen)
            self._followed += 1
            return None
        finally:
            self._leader = None
            for state in self._states.values():
                state.wake.set()

    async def _why_not_deep(self, scan: HeaderScan) -> str | None:
        """Return why a branch that leaves the main chain below the tree is not followed."""
        if scan.gain <= 0:
            return "a branch of little work"
        may = await self._chain.may_undo(scan.fork_height, CoinId(scan.tip), scan.gain)
        return None if may else LEFT_TO_OPERATOR

    def _is_refused(self, fork_height: int) -> bool:
        refused = self._chain.status.value.refused
        return refused is not None and refused.fork_height == fork_height

    async def _fetch_deep(self, scan: HeaderScan, seen: Seen) -> str | None:
        """Fetch a branch that leaves the main chain below the tree; return why it has not won, if
        it has not. The peer that offered it pays for that."""
        above = scan.fork_height + 1
        before = await self._chain.queries.anchor_at(above)
        why = "a deep branch that did not win"
        try:
            async with self._chain.deepened(scan.fork_height):
                with trio.move_on_after(DEEP_PATIENCE_S):
                    await self._fetch_long(scan, seen)
        except BranchTooLongError:
            await self._chain.refuse(scan.fork_height, CoinId(scan.tip), scan.gain)
            return LEFT_TO_OPERATOR
        except FetchError as error:
            why = error.why
        except ProtocolError as error:
            self._peers.reputation.penalize(
                scan.peer, decision_on(error).served, f"deep branch: {error}"
            )
            why = str(error)
        if await self._chain.queries.anchor_at(above) != before:
            return None
        self._peers.reputation.penalize(
            scan.peer, Penalty.COST, f"deep branch: {why}", ms=LOST_DEEP_BRANCH_PRICE_MS
        )
        return why

    async def _fetch_long(self, scan: HeaderScan, seen: Seen) -> None:
        """Fetch a scanned chain; its headers come again, for the scan keeps none of them."""
        walk = HeaderWalk(self._chain, self._fetcher, self._clock, scan.peer, ZERO32)
        proven_height = scan.height_of(self._settings.assume_valid)
        held: list[tuple[Coin, AnchorHeader]] = []
        while not walk.at_end:
            page = await walk.next_page(seen)
            self._headers += len(page)
            self._target_height = max(self._target_height, walk.height)
            held += page
            if len(held) >= LONG_SYNC_WINDOW_HEADERS or walk.at_end:
                trusted = {
                    coin.id
                    for coin, _ in held
                    if coin.height <= proven_height and scan.has(coin.id, coin.height)
                }
                await self._downloader.fetch(scan.peer, held, trusted)
                held = []

    # Votes

    async def _compare(self, peer: PeerId, state: _PeerState, tip: CoinId) -> None:
        """Ask for votes if a peer's tip and our own are on different branches."""
        own = self._chain.status.value.tip
        if tip == own or not await self._chain.queries.are_apart(tip):
            return
        now = trio.current_time()
        if (
            state.compared is None
            or state.compared[:2] != (tip, own)
            or now - state.compared[2] >= self._epoch_s
        ):
            state.compared = (tip, own, now)
            await self._votes.ask(peer, own, tip)
