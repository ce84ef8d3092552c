"""Comparing the header chains of several peers before a long sync (Protocol §11)."""

from __future__ import annotations

import math
from typing import Final

import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.base.clock import Clock
from unchained.node.chain.service import ChainService
from unchained.node.consensus.fork_choice import anchor_work
from unchained.node.peers.manager import PeerManager
from unchained.node.primitives.errors import ProtocolError
from unchained.node.primitives.types import ZERO32, CoinId
from unchained.node.relay.fetcher import Fetcher, FetchError, NotNowError
from unchained.node.relay.penalty_table import decision_on
from unchained.node.sync.header_walk import HeaderWalk, Seen, Weight
from unchained.node.sync.proof_sample import HeaderProofs
from unchained.node.transport.contract import PeerId

SCANNED_PEERS_MAX: Final = 4
"""Outbound peers whose headers are compared, besides the one that led to the sync."""
SCAN_PATIENCE_S: Final = 900.0
"""The longest that a comparison takes: a peer that is not done by then is left out."""
SCAN_GRACE_S: Final = 15.0
"""Seconds that the others have when one is done, or as long again as that took: one that dawdles
does not hold up the sync, during which the node does not mine. Whoever comes to show more work
than all who are done goes on: a chain of few headers is read soonest, and would keep out those of
many."""


class HeaderScan:
    """A peer's header chain: by how much it has more work than the main chain here, at which
    height it leaves that, whether that is below the tree; and ids and work of its anchors whose
    bodies are unknown, those above `base_height`."""

    def __init__(self, peer: PeerId) -> None:
        self.peer = peer
        self.tip = ZERO32
        self.gain = 0
        self.fork_height = 0
        self.is_deep = False
        self.height = 0
        self.base_height = 0
        self.is_cut = False
        self.page_s = 0.0
        """Seconds that each page of it took."""
        self.known_work = 0
        """Work of its anchors above the fork whose bodies are known: of a side branch here."""
        self._ids = bytearray()
        self._works: list[int] = []

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left of it that is unknown here."""
        return not self._works

    def add(self, coin_id: CoinId, height: int, work: int) -> None:
        """Note the next anchor whose body is unknown, and what its header shows of work."""
        if not self._ids or height != self.height + 1:
            # Those between have become known since the comparison began, and so all below them.
            self._ids.clear()
            self._works.clear()
            self.base_height = height - 1
        self._ids += coin_id
        self._works.append(work)
        self.tip = coin_id
        self.height = height

    def note_end(self, walk: HeaderWalk, weight: Weight, page_s: float) -> None:
        """Note how the whole of it compares, and how long each page took."""
        self.gain, self.is_deep = weight.gain, weight.is_deep
        self.fork_height = walk.fork_height
        self.known_work = walk.work - sum(self._works)
        self.page_s = page_s

    def cut(self, height: int) -> None:
        """Let the chain end at a height: it has the work of what is left."""
        kept = max(0, height - self.base_height)
        if kept >= len(self._works):
            return
        self.is_cut = True
        self.gain -= sum(self._works[kept:])
        del self._works[kept:], self._ids[32 * kept :]
        self.height = self.base_height + kept
        self.tip = bytes(self._ids[-32:]) if kept else ZERO32

    def work_above(self, fork_height: int) -> int:
        """Return the work that it has shown above a height, a fork from the main chain."""
        works = sum(self._works[max(0, fork_height - self.base_height) :])
        return works + (self.known_work if fork_height <= self.fork_height else 0)

    def ids_above(self, height: int, limit: int) -> list[CoinId]:
        """Return the ids of at most so many anchors above a height, lowest first."""
        first = max(0, height - self.base_height)
        last = min(first + limit, len(self._works))
        return [CoinId(bytes(self._ids[32 * at : 32 * at + 32])) for at in range(first, last)]

    def has(self, coin_id: CoinId, height: int) -> bool:
        """Return whether an anchor is on this chain."""
        at = 32 * (height - self.base_height - 1)
        return at >= 0 and self._ids.startswith(coin_id, at)

    def height_of(self, coin_id: CoinId | None) -> int:
        """Return the height of an anchor of this chain, 0 if it is not on it."""
        if coin_id is None:
            return 0
        at = self._ids.find(coin_id)
        while at >= 0 and at % 32:
            at = self._ids.find(coin_id, at + 1)
        return 0 if at < 0 else self.base_height + 1 + at // 32


async def scan_peers(
    chain: ChainService,
    fetcher: Fetcher,
    peers: PeerManager,
    proofs: HeaderProofs,
    finder: PeerId,
    *,
    clock: Clock,
    log: FilteringBoundLogger,
) -> tuple[list[HeaderScan], Seen, bool]:
    """Return the header chains of some outbound peers and of `finder` that hold: every header
    checked, and proofs drawn by work; what need not be checked again; and whether that of `finder`
    did not come in time."""
    chosen = [peer for peer in peers.greeted() if peers.is_outbound(peer) and peer != finder]
    comparison = _Comparison(chain, fetcher, peers, proofs, clock=clock, log=log)
    with trio.move_on_after(SCAN_PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for peer in (finder, *chosen[:SCANNED_PEERS_MAX]):
                nursery.start_soon(comparison.scan, peer)
    return comparison.scans, comparison.seen, finder in comparison.late


class _Comparison:
    """Reads the header chains of several peers at a time."""

    def __init__(
        self,
        chain: ChainService,
        fetcher: Fetcher,
        peers: PeerManager,
        proofs: HeaderProofs,
        *,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self._chain = chain
        self._fetcher = fetcher
        self._peers = peers
        self._proofs = proofs
        self._clock = clock
        self._log = log
        self._began = trio.current_time()
        self._unfinished: list[tuple[HeaderScan, trio.CancelScope]] = []
        self.scans: list[HeaderScan] = []
        """Those that have been read to their end, and hold."""
        self.seen = Seen()
        self.late: set[PeerId] = set()
        """Those whose chains did not come in time."""

    async def scan(self, peer: PeerId) -> None:
        """Read a peer's chain, for as long as it may take."""
        scan, time = HeaderScan(peer), trio.CancelScope()
        self._unfinished.append((scan, time))
        try:
            with time:
                await self._read(scan, time)
                return
            self.late.add(peer)
        except trio.Cancelled:
            # By the patience with all of them.
            self.late.add(peer)
            raise
        except FetchError as error:
            if isinstance(error, NotNowError):
                self.late.add(peer)
            self._log.debug("sync.scan_failed", peer=peer, why=error.why)
        except ProtocolError as error:
            self._peers.reputation.penalize(peer, decision_on(error).served, f"headers: {error}")
            self._log.debug("sync.scan_failed", peer=peer, why=str(error))
        finally:
            self._unfinished.remove((scan, time))

    async def _read(self, scan: HeaderScan, time: trio.CancelScope) -> None:
        chain = self._chain
        walk = HeaderWalk(
            chain.network, chain.queries, self._fetcher, self._clock, scan.peer, ZERO32
        )
        sample = self._proofs.sample()
        pages = 0
        while not walk.at_end:
            page = await walk.next_page(self.seen)
            pages += 1
            for coin, _ in page:
                scan.add(coin.id, coin.height, anchor_work(coin.header.target, chain.network))
            # Protocol §11: "proofs of headers drawn by work verified"
            await self._proofs.verify(scan.peer, [coin for coin, _ in page], sample)
            if self.scans:
                scan.gain = (await walk.weigh()).gain
                if scan.gain > max(done.gain for done in self.scans):
                    time.deadline = math.inf
        scan.note_end(walk, await walk.weigh(), (trio.current_time() - self._began) / pages)
        self.scans.append(scan)
        self._hurry(scan)

    def _hurry(self, done: HeaderScan) -> None:
        """Limit the time of those that have shown no more than one that is done."""
        now = trio.current_time()
        until = now + max(SCAN_GRACE_S, now - self._began)
        for scan, time in self._unfinished:
            if scan.gain <= done.gain:
                time.deadline = min(time.deadline, until)
