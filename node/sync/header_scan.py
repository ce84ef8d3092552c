"""Comparing the header chains of several peers before a long sync (Protocol §11)."""

from __future__ import annotations

from typing import Final

import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.base.clock import Clock
from unchained.node.chain.service import ChainService
from unchained.node.consensus.fork_choice import anchor_work
from unchained.node.peers.manager import PeerManager
from unchained.node.primitives.errors import ProtocolError
from unchained.node.primitives.types import ZERO32, CoinId
from unchained.node.relay.fetcher import Fetcher, FetchError
from unchained.node.relay.penalty_table import decision_on
from unchained.node.sync.header_walk import HeaderWalk, Seen
from unchained.node.sync.proof_sample import HeaderProofs
from unchained.node.transport.contract import PeerId

SCANNED_PEERS_MAX: Final = 4
"""Outbound peers whose headers are compared, besides the one that led to the sync."""
SCAN_PATIENCE_S: Final = 900.0
"""The longest that a comparison takes: a peer that is not done by then is left out."""
SCAN_GRACE_S: Final = 15.0
"""Seconds that the others have when the first is done, or as long again as that took: one that
dawdles does not hold up the sync, during which the node does not mine."""


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
        self._ids = bytearray()
        self._works: list[int] = []

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left of it that is unknown here."""
        return not self._works

    def add(self, coin_id: CoinId, height: int, work: int) -> None:
        """Note the next anchor, and what its header shows of work."""
        if not self._ids:
            self.base_height = height - 1
        self._ids += coin_id
        self._works.append(work)
        self.tip = coin_id
        self.height = height

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
) -> tuple[list[HeaderScan], Seen]:
    """Return the header chains of some outbound peers and of `finder` that hold: every header
    checked, and proofs drawn by work; and what need not be checked again."""
    chosen = [peer for peer in peers.greeted() if peers.is_outbound(peer) and peer != finder]
    seen = Seen()
    scans: list[HeaderScan] = []
    began = trio.current_time()

    async def scan_one(peer: PeerId) -> None:
        scan = HeaderScan(peer)
        walk = HeaderWalk(chain.network, chain.queries, fetcher, clock, peer, ZERO32)
        sample = proofs.sample()
        pages = 0
        try:
            while not walk.at_end:
                page = await walk.next_page(seen)
                pages += 1
                for coin, _ in page:
                    work = anchor_work(coin.header.target, chain.network)
                    scan.add(coin.id, coin.height, work)
                # Protocol §11: "proofs of headers drawn by work verified"
                await proofs.verify([coin for coin, _ in page], sample)
        except FetchError as error:
            log.debug("sync.scan_failed", peer=peer, why=error.why)
            return
        except ProtocolError as error:
            peers.reputation.penalize(peer, decision_on(error).served, f"headers: {error}")
            log.debug("sync.scan_failed", peer=peer, why=str(error))
            return
        weight = await walk.weigh()
        scan.gain, scan.is_deep = weight.gain, weight.is_deep
        scan.fork_height = walk.fork_height
        scans.append(scan)
        now = trio.current_time()
        scan.page_s = (now - began) / pages
        all_of_it.deadline = min(all_of_it.deadline, now + max(SCAN_GRACE_S, now - began))

    with trio.move_on_after(SCAN_PATIENCE_S) as all_of_it:
        async with trio.open_nursery() as nursery:
            for peer in (finder, *chosen[:SCANNED_PEERS_MAX]):
                nursery.start_soon(scan_one, peer)
    return scans, seen
