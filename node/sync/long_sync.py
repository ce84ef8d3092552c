"""A long sync: the headers of several peers compared, then the bodies of the heaviest chain that
holds (Protocol §11)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.base.clock import Clock
from unchained.node.chain.service import ChainService
from unchained.node.consensus.errors import BadMixError, TimeTooNewError
from unchained.node.crypto.anchor_header import AnchorHeader
from unchained.node.peers.manager import PeerManager
from unchained.node.peers.penalty import Penalty
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.errors import ProtocolError
from unchained.node.primitives.types import ZERO32, CoinId
from unchained.node.relay.fetcher import Anchors, Fetcher, FetchError, NotNowError
from unchained.node.relay.penalty_table import decision_on
from unchained.node.sync.downloader import STALL_PRICE_MS, BranchTooLongError, Downloader
from unchained.node.sync.header_lead import BrokenWordError, HeaderLead
from unchained.node.sync.header_scan import HeaderScan, scan_peers
from unchained.node.sync.header_walk import HEADERS_PER_PAGE, HeaderWalk, PageLateError, Seen
from unchained.node.sync.proof_sample import HeaderProofs
from unchained.node.transport.contract import PeerId

LONG_SYNC_WINDOW_HEADERS: Final = 2_048
"""Headers whose bodies are fetched in one go during a long sync."""
LEFT_TO_OPERATOR: Final = "a deep branch, left to the operator"
"""Why a tip is not followed that undoes too much (Protocol §6, last rule but one)."""
LITTLE_WORK: Final = "a branch of little work"
UNDER_WAY: Final = "a long sync is under way"
"""Why a chain of more work has not been tried yet."""
DEEP_PATIENCE_S: Final = 900.0
"""The longest that a branch may take to win which leaves the main chain below the tree."""
LOST_DEEP_BRANCH_PRICE_MS: Final = 1_500.0
"""Price of such a branch that does not win: hundreds of bodies for nothing."""
FAILED_CHAIN_PRICE_MS: Final = 20.0
"""Price of a chain of headers whose bodies do not come or break a rule."""
BROKEN_WORD_PRICE_MS: Final = 200.0
"""Price of headers that were shown when chains were compared, and do not come afterwards: with the
greatest sum of them, and first, whoever does that would hold up every sync."""
FAILED_ASIDE_S: Final = 600.0
"""Seconds for which every chain is taken to end below an anchor that failed."""
TOO_NEW_ASIDE_LEAST_S: Final = 1.0
"""The same below one whose time has not come, if that is any moment: until then, if it is later."""
MISSING_ASIDE_S: Final = 30.0
"""Seconds for which a peer's chain is taken to end below an anchor whose body did not come."""
PUT_ASIDE_MAX: Final = 64
"""Such anchors that are remembered."""


class ChainFailedError(FetchError):
    """A chain of headers leads through an anchor that cannot be connected, for the rule that
    `error` names, None if it was found to be dead."""

    def __init__(self, peer: PeerId, anchor: Coin, error: ProtocolError | None) -> None:
        why = f"anchor {anchor.id.hex()} cannot be connected" if error is None else str(error)
        super().__init__(peer, why)
        self.anchor = anchor
        self.error = error


class SyncFailure(msgspec.Struct, frozen=True, gc=False):
    """Why a chain does not hold: which anchor of it will not hold from any peer, None if that is
    not known, and for how many seconds; which peer is at fault, None if nobody is; and whether it
    did not fail, but did not come in time."""

    why: str
    peer: PeerId | None = None
    anchor_id: CoinId | None = None
    aside_s: float = FAILED_ASIDE_S
    is_late: bool = False


class _Aside(msgspec.Struct, frozen=True, gc=False):
    """Until when every chain, or a peer's, is taken to end below an anchor; and whether that did
    not come in time."""

    until: float
    is_late: bool


class SyncTarget:
    """What is being followed: the height that it has been seen to reach, and the headers read."""

    def __init__(self) -> None:
        self.height = 0
        self.headers = 0


class LongSync:
    """Runs one long sync at a time. `leader` is whose chain is being fetched."""

    def __init__(
        self,
        chain: ChainService,
        peers: PeerManager,
        fetcher: Fetcher,
        downloader: Downloader,
        proofs: HeaderProofs,
        target: SyncTarget,
        *,
        assume_valid: CoinId | None,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self._chain = chain
        self._peers = peers
        self._fetcher = fetcher
        self._downloader = downloader
        self._proofs = proofs
        self._target = target
        self._assume_valid = assume_valid
        self._clock = clock
        self._log = log
        self.leader: PeerId | None = None
        self._aside: OrderedDict[tuple[CoinId, PeerId | None], _Aside] = OrderedDict()
        """Anchors whose bodies did not come from a peer, or failed from any peer (None)."""

    async def run(self, finder: PeerId) -> SyncFailure | None:
        """Compare the headers of several peers, then fetch the chain of greatest work that holds;
        return why there is none, if there is none. That is late where one of them, of more work
        than what is here, only did not come in time."""
        if self.leader is not None:
            return SyncFailure(UNDER_WAY)
        self.leader = finder
        try:
            scans, seen, is_late = await scan_peers(
                self._chain,
                self._fetcher,
                self._peers,
                self._proofs,
                finder,
                clock=self._clock,
                log=self._log,
            )
            return await self._take_best(scans, seen, is_late=is_late)
        finally:
            self.leader = None

    async def _take_best(
        self, scans: list[HeaderScan], seen: Seen, *, is_late: bool = False
    ) -> SyncFailure | None:
        """Fetch the chain of greatest work; while one fails, the next; return why, if none was.
        `is_late`: one that was to be compared did not come in time."""
        why = "no header chain that holds"
        is_late = self._cut_all(scans) or is_late
        # Protocol §11: "starts with the greatest sum"
        while scans:
            best = max(scans, key=lambda scan: scan.gain)
            if best.gain <= 0:
                why = why if best.is_cut else LITTLE_WORK
                break
            if best.is_empty or await self._is_here(best):
                # All of it that holds is here, and no other has more work.
                break
            failure = await self._try(best, scans, seen)
            if failure is None:
                return None
            why = failure.why
            is_late = is_late or failure.is_late
            self._log.info("sync.put_aside", peer=best.peer, height=best.height, why=why)
            # Protocol §11: "is put aside down to the anchor before, with its sum"
            if failure.anchor_id is not None:
                self._put_aside(failure.anchor_id, None, failure.aside_s)
            elif best.is_deep:
                # Of what is below the tree nothing has stayed that says how much of it holds.
                scans.remove(best)
            else:
                failed = best.ids_above(await self._sound_height(best), 1)
                for peer in {best.peer, failure.peer or best.peer}:
                    for anchor_id in failed:
                        self._put_aside(anchor_id, peer, MISSING_ASIDE_S, is_late=failure.is_late)
            self._cut_all(scans)
        return SyncFailure(why, is_late=is_late)

    async def _try(
        self, scan: HeaderScan, scans: Sequence[HeaderScan], seen: Seen
    ) -> SyncFailure | None:
        """Fetch a scanned chain; return why it does not hold, if it does not."""
        if scan.is_deep and (why := await self._why_not_deep(scan)) is not None:
            return SyncFailure(why)
        self.leader = scan.peer
        self._target.height = scan.height
        self._log.info(
            "sync.started",
            peer=scan.peer,
            height=self._chain.status.value.height,
            target=scan.height,
            compared=len(scans),
        )
        async with self._chain.bulk():
            if scan.is_deep:
                return await self._fetch_deep(scan, scans, seen)
            return await self._fetch_or_blame(scan, scans, seen)

    async def _fetch_or_blame(
        self, scan: HeaderScan, scans: Sequence[HeaderScan], seen: Seen
    ) -> SyncFailure | None:
        """Fetch a scanned chain; return why it does not hold, if it does not. Who was asked when it
        failed pays for that, who need not be the one that showed it. Raises `BranchTooLongError`.
        """
        lead = HeaderLead(scan, scans)
        try:
            await self._fetch(scan, lead, seen)
        except BranchTooLongError:
            raise
        except ChainFailedError as error:
            # Protocol §5.3: what turns out to be dead is never the fault of who relayed it
            if error.error is not None:
                self._penalize(error.peer, error.error)
            if not scan.has(error.anchor.id, error.anchor.height):
                # What he gave is not what was shown: that says nothing of the chain.
                return SyncFailure(error.why, error.peer)
            peer = None if error.error is None else error.peer
            return SyncFailure(error.why, peer, error.anchor.id, self._aside_s(error))
        except FetchError as error:
            is_broken_word = isinstance(error, BrokenWordError)
            price = BROKEN_WORD_PRICE_MS if is_broken_word else FAILED_CHAIN_PRICE_MS
            self._peers.reputation.penalize(
                error.peer, Penalty.COST, f"sync: {error.why}", ms=price
            )
            return SyncFailure(error.why, error.peer, is_late=isinstance(error, NotNowError))
        except ProtocolError as error:
            # Headers that were compared have been checked: these are others.
            self._penalize(lead.peer, error)
            return SyncFailure(str(error), lead.peer)
        return None

    def _penalize(self, peer: PeerId, error: ProtocolError) -> None:
        decision = decision_on(error).served
        self._peers.reputation.penalize(peer, decision, f"sync: {error}", ms=FAILED_CHAIN_PRICE_MS)

    # What is put aside

    def _aside_s(self, failed: ChainFailedError) -> float:
        """Return for how long an anchor is put aside that cannot be connected: one that is too new
        by our clock until it no longer is, as nothing else is said of it by that."""
        if not isinstance(failed.error, TimeTooNewError):
            return FAILED_ASIDE_S
        ahead_ms = failed.anchor.header.time - self._clock.now_ms()
        due_s = (ahead_ms - self._chain.network.future_limit_ms) / 1000
        return min(max(due_s, TOO_NEW_ASIDE_LEAST_S), FAILED_ASIDE_S)

    def _put_aside(
        self, anchor_id: CoinId, peer: PeerId | None, seconds: float, *, is_late: bool = False
    ) -> None:
        self._aside[anchor_id, peer] = _Aside(trio.current_time() + seconds, is_late)
        self._aside.move_to_end((anchor_id, peer))
        if len(self._aside) > PUT_ASIDE_MAX:
            self._aside.popitem(last=False)

    def _cut_all(self, scans: Sequence[HeaderScan]) -> bool:
        """Let scanned chains end below what has been put aside of them; return whether any of more
        work than what is here did so for what did not come in time."""
        now = trio.current_time()
        is_late = False
        for (anchor_id, peer), aside in list(self._aside.items()):
            if aside.until <= now:
                del self._aside[anchor_id, peer]
                continue
            for scan in scans:
                if peer in {None, scan.peer} and (height := scan.height_of(anchor_id)) > 0:
                    is_late = is_late or (aside.is_late and scan.gain > 0)
                    scan.cut(height - 1)
        return is_late

    async def _sound_height(self, scan: HeaderScan) -> int:
        """Return the height up to which a scanned chain counts here and can be connected."""
        height = scan.base_height
        while ids := scan.ids_above(height, HEADERS_PER_PAGE):
            sound = await self._count_sound(ids)
            height += sound
            if sound < len(ids):
                break
        return height

    async def _is_here(self, scan: HeaderScan) -> bool:
        """Return whether all of a scanned chain has been connected: what counts counts with all
        that it grows from."""
        return await self._count_sound([CoinId(scan.tip)]) == 1

    async def _count_sound(self, ids: list[CoinId]) -> int:
        """Return how many of some anchors, the lowest, count here and are not dead."""
        _, standings = await self._chain.queries.header_page(None, ids)
        broken = (at for at, found in enumerate(standings) if found not in {"main", "side"})
        return next(broken, len(ids))

    # Branches that leave the main chain below the tree

    async def _why_not_deep(self, scan: HeaderScan) -> str | None:
        """Return why a branch that leaves the main chain below the tree is not followed."""
        may = await self._chain.may_undo(scan.fork_height, CoinId(scan.tip), scan.gain)
        return None if may else LEFT_TO_OPERATOR

    async def _fetch_deep(
        self, scan: HeaderScan, scans: Sequence[HeaderScan], seen: Seen
    ) -> SyncFailure | None:
        """Fetch a branch that leaves the main chain below the tree; return why it has not won, if
        it has not. The peer that offered it pays for that, unless it failed by another or by
        nobody."""
        above = scan.fork_height + 1
        before = await self._chain.queries.anchor_at(above)
        failure: SyncFailure | None = None
        try:
            async with self._chain.deepened(scan.fork_height):
                with trio.move_on_after(DEEP_PATIENCE_S):
                    failure = await self._fetch_or_blame(scan, scans, seen)
        except BranchTooLongError:
            await self._chain.refuse(scan.fork_height, CoinId(scan.tip), scan.gain)
            return SyncFailure(LEFT_TO_OPERATOR)
        if await self._chain.queries.anchor_at(above) != before:
            return None
        failure = failure or SyncFailure("a deep branch that did not win", scan.peer)
        if failure.peer == scan.peer:
            self._peers.reputation.penalize(
                scan.peer, Penalty.COST, f"deep branch: {failure.why}", ms=LOST_DEEP_BRANCH_PRICE_MS
            )
        return failure

    # Fetching

    async def _fetch(self, scan: HeaderScan, lead: HeaderLead, seen: Seen) -> None:
        """Fetch a scanned chain; its headers come again, for the scan keeps none of them, from the
        peer that showed it or another that has it.

        Raises `ChainFailedError` where an anchor cannot be connected, other `FetchError`s, and
        `ProtocolError` for headers that break a rule.
        """
        tip = scan.tip if scan.is_cut else ZERO32
        walk = HeaderWalk(
            self._chain.network, self._chain.queries, self._fetcher, self._clock, scan.peer, tip
        )
        proven_height = scan.height_of(self._assume_valid)
        held: list[tuple[Coin, AnchorHeader]] = []
        while not walk.at_end:
            page = await self._next_page(walk, lead, seen)
            self._target.headers += len(page)
            self._target.height = max(self._target.height, walk.height)
            held += page
            if held and (len(held) >= LONG_SYNC_WINDOW_HEADERS or walk.at_end):
                trusted = {
                    coin.id
                    for coin, _ in held
                    if coin.height <= proven_height and scan.has(coin.id, coin.height)
                }
                await self._connect(lead.peer, held, trusted)
                held = []
        known = {tip for tip in lead.tips if await self._count_sound([tip])}
        lead.check_word_kept(walk, known)

    async def _next_page(self, walk: HeaderWalk, lead: HeaderLead, seen: Seen) -> Anchors:
        """Return the next headers of whoever leads; one that does not keep pace is replaced."""
        while True:
            began = trio.current_time()
            try:
                page = await walk.next_page(seen, lead.patience_s(walk))
            except PageLateError as error:
                self._peers.reputation.penalize(
                    error.peer, Penalty.COST, f"sync: {error.why}", ms=STALL_PRICE_MS
                )
                lead.hand_over(walk)
                self.leader = lead.peer
                self._log.info("sync.leader_replaced", peer=error.peer, by=lead.peer)
            else:
                lead.note_page(trio.current_time() - began)
                return page

    async def _connect(self, peer: PeerId, anchors: Anchors, trusted: set[CoinId]) -> None:
        """Fetch the bodies of anchors that follow one another, and check that none of them turns
        out to be dead. Raises `FetchError`, `ChainFailedError` where one cannot be connected."""
        refused: ProtocolError | None = None
        try:
            await self._downloader.fetch(peer, anchors, trusted)
        except BadMixError:
            # A header's: of what was shown, and it need not be the lowest that fails.
            raise
        except ProtocolError as error:
            refused = error
        sound = await self._count_sound([coin.id for coin, _ in anchors])
        if sound < len(anchors):
            raise ChainFailedError(peer, anchors[sound][0], refused) from refused
        if refused is not None:
            raise refused
