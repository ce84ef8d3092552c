"""Sync: finds out what peers know that this node does not, and fetches it.

One task for each peer looks at its tip. An unknown tip is followed, headers first; a long chain
makes its finder the leader of a long sync, in which several peers' headers are compared and
bodies come from many at once. Whenever a peer's tip and our own are not on one chain, both are
asked for their votes (Protocol §6, §11). What a peer claims of its work decides nothing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.base.clock import Clock
from unchained.node.base.fanout import Watch
from unchained.node.base.spans import span
from unchained.node.chain.service import ChainService
from unchained.node.crypto.anchor_header import AnchorHeader
from unchained.node.peers.manager import PeerManager
from unchained.node.peers.penalty import Penalty
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.errors import ProtocolError
from unchained.node.primitives.types import CoinId
from unchained.node.relay.fetcher import (
    Fetcher,
    FetchError,
    NotNowError,
    NotServedByPeerError,
)
from unchained.node.relay.penalty_table import decision_on
from unchained.node.sync.alone import ALONE_S, NOBODY_ANSWERS
from unchained.node.sync.body_plan import SyncProgress
from unchained.node.sync.comparison_limits import ComparisonLimits
from unchained.node.sync.downloader import Downloader
from unchained.node.sync.header_walk import HeaderWalk
from unchained.node.sync.late_rest import LateRest
from unchained.node.sync.long_sync import (
    LEFT_TO_OPERATOR,
    LITTLE_WORK,
    LongSync,
    SyncTarget,
)
from unchained.node.sync.peer_state import OTHER_FIRST, UNTRIED, WANTED_ANCHORS_MAX, PeerState
from unchained.node.sync.proof_sample import HeaderProofs
from unchained.node.sync.votes import Votes
from unchained.node.transport.contract import PeerId

HELD_HEADERS_MAX: Final = 4_096
"""Headers held of a branch whose work does not suffice yet."""
LONG_SYNC_ANCHORS: Final = 512
"""Anchors that a node is behind from which on it is a long sync."""
FOLLOWED_BY_OTHER_S: Final = 5.0
"""How long a tip is left to the peer that was asked for it first."""
AGREED_S: Final = 15.0
"""Seconds after which a peer is looked at again that is where we are, unless it says something."""
USELESS_TIP_PRICE_MS: Final = 20.0
"""Price of a tip that leads nowhere."""
USELESS_HEADER_PRICE_MS: Final = 0.1
"""Price of each header that was read of a chain which is not followed."""
SYNC_REPORT_S: Final = 10.0


class SyncSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a node synchronizes. `assume_valid` names an anchor below which, on its chain, proofs
    of work are taken as verified; None verifies all."""

    assume_valid: CoinId | None = None
    alone_s: float | None = ALONE_S
    """Seconds after which a node that reaches nobody goes on by itself, at once if it knows of
    nobody; None: never."""


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
    votes: int
    proofs_skipped: int


class _Followed(msgspec.Struct, frozen=True, gc=False):
    """The anchor up to which a tip was followed, None for none; why no further, if so; and whether
    its chain has more work than ours and only did not come in time."""

    reached: CoinId | None
    why: str | None
    is_late: bool = False


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
        self._log = log
        self._proofs = HeaderProofs(chain, rng)
        self._downloader = Downloader(chain, fetcher, peers, self._proofs, log=log)
        self._votes = Votes(chain, fetcher, penalizer=peers.reputation, follower=self, log=log)
        self.synced: Watch[bool] = Watch(settings.alone_s is not None and not peers.knows_others)
        """False while the node is behind, or does not know yet whether it is."""
        self._states: dict[PeerId, PeerState] = {}
        self._following: dict[CoinId, trio.Event] = {}
        self._behind = 0
        self._looks_at = math.inf
        """When a node that has reached nobody is looked at, in Trio's time."""
        self._rest = LateRest()
        self._target = SyncTarget()
        self._long_sync = LongSync(
            chain,
            peers,
            fetcher,
            self._downloader,
            self._proofs,
            self._target,
            assume_valid=settings.assume_valid,
            clock=clock,
            log=log,
        )
        self._progress = SyncProgress()
        self._followed = 0
        self._epoch_s = chain.network.epoch_ms / 1000
        self._comparisons = ComparisonLimits(self._epoch_s)

    def news_from(self) -> int:
        """Return the least height of what is news to anybody: while much is being fetched, only
        what the next anchors may list."""
        if not self._behind:
            return 0
        return max(0, self._target.height - self._chain.network.window)

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

    @property
    def lag(self) -> int:
        """Anchors that sync has still to fetch."""
        return max(0, self._target.height - self._chain.status.value.height) if self._behind else 0

    def alone_in_s(self) -> float | None:
        """Return after how many seconds a node that no peer has answered goes on by itself; None:
        it does not."""
        if self._settings.alone_s is None:
            return None
        return min(self._settings.alone_s, max(0.0, self._looks_at - trio.current_time()))

    def statistics(self) -> SyncStatistics:
        """Return a snapshot."""
        height = self._chain.status.value.height
        syncing = self._behind > 0
        return SyncStatistics(
            synced=self.synced.value,
            syncing=syncing,
            height=height,
            target_height=max(self._target.height, height) if syncing else height,
            rate=self._progress.rate() if syncing else 0.0,
            eta_s=self._progress.eta_s(self._target.height) if syncing else None,
            leader=self._long_sync.leader,
            in_flight=self._downloader.in_flight,
            followed=self._followed,
            headers=self._target.headers,
            bodies=self._downloader.bodies,
            votes=self._votes.taken,
            proofs_skipped=self._downloader.proofs_skipped,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the peers until cancelled; what has been fetched and validated by then is kept."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wait_alone, self._settings.alone_s, name="sync.alone")
            nursery.start_soon(self._report, name="sync.report")
            task_status.started()
            version = -1
            while True:
                version, _ = await self._peers.changed.wait_newer(version)
                for peer in self._peers.greeted():
                    status = self._peers.status_of(peer)
                    state = self._states.get(peer)
                    if state is None:
                        self._states[peer] = PeerState()
                        nursery.start_soon(self._attend, peer, name="sync.peer")
                    elif status is not None and status.tip != state.tip:
                        state.wake.set()

    async def _wait_alone(self, seconds: float | None) -> None:
        """Let a node that reaches nobody mine after a while, or say that it does not."""
        # Where nobody is known that was said at the start.
        is_told = not self._peers.knows_others
        if seconds and self._peers.knows_others:
            self._log.info("sync.waits_for_peers", seconds=seconds)
        while True:
            self._looks_at = trio.current_time() + (ALONE_S if seconds is None else seconds)
            await trio.sleep_until(self._looks_at)
            if self._peers.greeted() or self.synced.value or self._behind:
                is_told = False
            elif seconds is not None:
                self._log.warning("sync.alone", seconds=seconds)
                self.synced.set(True)
            elif not is_told:
                self._log.warning("mining.refused", why=NOBODY_ANSWERS)
                is_told = True

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
            with span("peer", peer):
                while (status := self._peers.status_of(peer)) is not None:
                    state.wake = trio.Event()
                    state.tip = status.tip
                    await self._settle(peer, state, CoinId(status.tip))
                    with trio.move_on_after(self._patience_s(peer, state)):
                        await state.wake.wait()
        finally:
            del self._states[peer]
            self._votes.forget(peer)
        # Nobody waits any more for what it showed.
        self._note_settled()

    def _patience_s(self, peer: PeerId, state: PeerState) -> float:
        """Return after how many seconds to look at a peer again that says nothing."""
        again_s = max(1.0, self._epoch_s / 2)
        is_owed = state.unasked is not None or self._votes.has_more(peer)
        is_at_rest = not (state.retry or state.wanted or is_owed)
        if is_at_rest and state.tip == self._chain.status.value.tip:
            return max(AGREED_S, again_s)
        return again_s

    async def _settle(self, peer: PeerId, state: PeerState, tip: CoinId) -> None:
        """Catch up with what a peer knows."""
        wanted, state.wanted = state.wanted, {}
        is_ahead = False
        for anchor_id in dict.fromkeys((tip, *wanted)):
            followed, before = None, self._chain.status.value.tip
            is_known = await self._is_known(anchor_id)
            if state.may_try(anchor_id) and not is_known:
                with span("anchor", anchor_id):
                    followed = await self._try_to_follow(peer, anchor_id)
                state.tried(anchor_id, followed.why, is_late=followed.is_late)
            if anchor_id == tip and not is_known:
                is_untried = followed is not None and followed.why in UNTRIED
                is_ahead = is_untried or (
                    state.is_late(tip) and self._rest.is_on(trio.current_time())
                )
            # While it is asked for votes, nobody waits for what has been tried.
            state.is_ahead = is_ahead
            self._note_settled()
            if followed is None:
                continue
            if followed.why is not None:
                why = followed.why
                self._log.debug("sync.not_followed", peer=peer, tip=anchor_id, why=why)
            if followed.reached is not None:
                state.owe(before, followed.reached)
                await self._ask_unasked(peer, state)
        if not state.settled:
            # What was found before we met is not gossiped any more.
            state.owe(tip, tip)
        await self._ask_unasked(peer, state)
        await self._compare(peer, state, tip)
        state.settled, state.is_ahead = True, is_ahead
        self._note_settled()

    async def _is_known(self, anchor_id: CoinId) -> bool:
        # Most often, and then nobody has to ask the writer.
        if anchor_id == self._chain.status.value.tip:
            return True
        return await self._chain.queries.is_known(anchor_id)

    def _note_settled(self) -> None:
        if self.synced.value or self._behind:
            return
        greeted = self._peers.greeted()
        chosen = [peer for peer in greeted if self._peers.is_outbound(peer)] or greeted
        found = (self._states.get(peer) for peer in chosen)
        states = [state for state in found if state is not None]
        # What is shown to be better is tried, or fails by whoever shows it.
        if any(state.is_ahead for state in states):
            return
        if any(state.settled for state in states):
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
        """Follow an anchor that a peer says counts; return whether it counts here as well now."""
        state = self._states.get(peer)
        if state is None or not state.may_try(anchor_id):
            return False
        is_ahead = state.is_ahead
        followed = await self._try_to_follow(peer, anchor_id)
        state.tried(anchor_id, followed.why, is_late=followed.is_late)
        state.is_ahead = is_ahead
        self._note_settled()
        return followed.why is None

    async def _try_to_follow(self, peer: PeerId, tip: CoinId) -> _Followed:
        """Follow a tip as far as that is possible."""
        if (other := self._following.get(tip)) is not None:
            # Another peer is being asked. One that stalls must not keep us from asking this one.
            with trio.move_on_after(FOLLOWED_BY_OTHER_S):
                await other.wait()
            if await self._chain.queries.is_known(tip):
                return _Followed(tip, None)
        done = self._following[tip] = trio.Event()
        before = self._downloader.bodies
        walk = HeaderWalk(
            self._chain.network, self._chain.queries, self._fetcher, self._clock, peer, tip
        )
        try:
            followed = await self._follow(peer, tip, walk)
            self._charge(peer, followed, walk.headers)
        except FetchError as error:
            self._peers.reputation.penalize(
                peer, Penalty.COST, f"sync: {error.why}", ms=USELESS_TIP_PRICE_MS
            )
            # Of this very chain: what the peer showed before says nothing of it.
            state = self._states.get(peer)
            was_shown = walk.is_ahead or (state is not None and state.is_late(tip))
            followed = _Followed(None, error.why, was_shown and isinstance(error, NotNowError))
        except ProtocolError as error:
            self._peers.reputation.penalize(
                peer, decision_on(error).served, f"sync: {error}", ms=USELESS_TIP_PRICE_MS
            )
            return _Followed(None, str(error))
        finally:
            done.set()
            if self._following.get(tip) is done:
                del self._following[tip]
        if followed.is_late:
            came = walk.is_ahead and self._downloader.bodies > before
            self._rest.note_late(trio.current_time(), came=came)
        return followed

    def _charge(self, peer: PeerId, followed: _Followed, headers: int) -> None:
        """Let a peer pay for so many headers of a chain that is not followed for its work, or that
        is left to the operator: an honest one offers that once for each of its tips."""
        if followed.why not in {LITTLE_WORK, LEFT_TO_OPERATOR}:
            return
        price = USELESS_HEADER_PRICE_MS * headers
        if followed.why == LITTLE_WORK:
            price += USELESS_TIP_PRICE_MS
        self._peers.reputation.penalize(peer, Penalty.COST, f"sync: {followed.why}", ms=price)

    async def _follow(self, peer: PeerId, tip: CoinId, walk: HeaderWalk) -> _Followed:
        """Fetch the headers of the chain that ends in a tip, then the bodies that are unknown."""
        window = self._chain.network.window
        held: list[tuple[Coin, AnchorHeader]] = []
        reached: CoinId | None = None
        while not walk.at_end:
            page = await walk.next_page()
            self._target.headers += len(page)
            held += page
            weight = await walk.weigh()
            if weight.is_deep and self._is_refused(walk.fork_height):
                return _Followed(reached, LEFT_TO_OPERATOR)
            if weight.gain > 0 and (
                weight.is_deep or (len(held) >= LONG_SYNC_ANCHORS and not walk.at_end)
            ):
                # Mining rests while headers are compared: not for proofs that nobody has looked at.
                await self._proofs.verify(peer, [coin for coin, _ in held], self._proofs.sample())
                self._note_ahead(peer, walk)
                with self._being_behind():
                    failure = await self._long_sync.run(peer)
                for state in self._states.values():
                    state.wake.set()
                if await self._chain.queries.is_known(tip):
                    self._followed += 1
                    return _Followed(tip, None)
                if failure is None:
                    return _Followed(reached, OTHER_FIRST)
                return _Followed(reached, failure.why, failure.is_late)
            if not walk.at_end and len(held) < HELD_HEADERS_MAX:
                continue
            # Protocol §11: "is stored, and its bodies and votes are asked for"
            asked = [(coin, header) for coin, header in held if coin.height <= weight.asked_height]
            if len(asked) > 2 * window and weight.gain > 0:
                await self._proofs.verify(peer, [coin for coin, _ in asked], self._proofs.sample())
                self._note_ahead(peer, walk)
                with self._being_behind():
                    self._target.height = walk.height
                    await self._downloader.fetch(peer, asked)
            elif asked:
                await self._downloader.fetch(peer, asked)
            reached = weight.asked_up_to
            if weight.asked_height < walk.height:
                return _Followed(reached, LITTLE_WORK)
            held = []
        if not walk.is_at_tip and not await self._chain.queries.is_known(tip):
            raise NotServedByPeerError(peer, "its headers do not lead to the tip that it named")
        self._followed += 1
        return _Followed(tip, None)

    def _note_ahead(self, peer: PeerId, walk: HeaderWalk) -> None:
        walk.is_ahead = True
        if (state := self._states.get(peer)) is not None:
            state.is_ahead = True

    def _is_refused(self, fork_height: int) -> bool:
        refused = self._chain.status.value.refused
        return refused is not None and refused.fork_height == fork_height

    # Votes

    async def _compare(self, peer: PeerId, state: PeerState, tip: CoinId) -> None:
        """Ask for votes if a peer's tip and our own are on different branches."""
        own = self._chain.status.value.tip
        if tip == own or not await self._chain.queries.are_apart(tip):
            return
        now = trio.current_time()
        is_due = (
            state.compared is None
            or state.compared[:2] != (tip, own)
            or now - state.compared[2] >= self._epoch_s
            or self._votes.has_more(peer)
        )
        if is_due and await self._ask_for_votes(peer, own, tip):
            state.compared = (tip, own, now)

    async def _ask_unasked(self, peer: PeerId, state: PeerState) -> None:
        """Ask a peer for the votes that it is still to be asked for, if that may be done now."""
        if state.unasked is not None and await self._ask_for_votes(peer, *state.unasked):
            state.unasked = None

    async def _ask_for_votes(self, peer: PeerId, one: CoinId, other: CoinId) -> bool:
        """Ask a peer for the votes on which two tips differ, unless it, or those of its address,
        have been asked too often lately; return whether that was done."""
        # By address, too: whoever comes back under another name has had it done all the same.
        host = self._peers.reputation.group_of(peer)
        if not self._comparisons.take(peer, host, trio.current_time()):
            return False
        await self._votes.ask(peer, one, other)
        return True
