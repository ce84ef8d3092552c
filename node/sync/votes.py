"""Asking peers for votes: the coins bound to anchors on which two tips differ (Protocol §6).

A vote may itself be an anchor that counts for the peer and whose body is unknown here: it begins a
branch beside both tips, whose votes count for what it grew from. It is followed like a tip, and its
votes are asked for in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.chain.proof_places import PROOFS_PER_PEER
from unchained.node.chain.service import ChainService
from unchained.node.consensus.errors import BadMixError
from unchained.node.peers.penalty import Penalizer
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.errors import ProtocolError
from unchained.node.primitives.types import ZERO32, CoinId
from unchained.node.relay.fetcher import Fetcher, FetchError
from unchained.node.relay.penalty_table import decision_on
from unchained.node.transport.contract import PeerId
from unchained.node.wire.limits import VOTES
from unchained.node.wire.messages import VotesRequest

VOTE_PAGES_MAX: Final = 64
"""Pages of votes taken from a peer at a time."""
ANCHORS_LEFT_MAX: Final = 8_192
"""Anchors kept for the next time."""


class VoteFollower(Protocol):
    """Fetches the chain that ends in a vote: the sync service."""

    async def follow_vote(self, peer: PeerId, anchor_id: CoinId) -> bool:
        """Follow an anchor that a peer says counts; return whether it counts here as well now."""


class Votes:
    """Takes over what peers know of votes."""

    def __init__(
        self,
        chain: ChainService,
        fetcher: Fetcher,
        *,
        penalizer: Penalizer,
        follower: VoteFollower,
        log: FilteringBoundLogger,
    ) -> None:
        self._chain = chain
        self._fetcher = fetcher
        self._penalizer = penalizer
        self._follower = follower
        self._log = log
        self.taken = 0
        """Votes taken in since the start."""
        self._left: dict[PeerId, list[CoinId]] = {}
        """Anchors whose votes a peer is still to be asked for."""

    async def ask(self, peer: PeerId, one: CoinId, other: CoinId) -> None:
        """Ask for the votes for all anchors of the tree that grows from the last common ancestor of
        two tips; of one chain, for those that its next anchors may list. What there is no room for
        this time comes first the next time."""
        anchors = self._left.pop(peer, [])
        begun = set(anchors)
        above = await self._chain.queries.above_fork(one, other)
        anchors += [anchor for anchor in above if anchor not in begun]
        request: VotesRequest | None = None
        try:
            for _ in range(VOTE_PAGES_MAX):
                if request is None:
                    if not anchors:
                        return
                    # Who asks for one twice is at fault.
                    anchors = list(dict.fromkeys(anchors))
                    request = VotesRequest(tuple(anchors[: VOTES.max_asked]), ZERO32)
                    anchors = anchors[VOTES.max_asked :]
                page = await self._fetcher.votes(peer, request)
                request = page.rest
                if not await self._take_in(peer, page.coins):
                    return
                # Protocol §11: "their bodies and votes are asked for in turn"
                beside = await self._chain.queries.without_bodies(page.counting)
                anchors += [
                    anchor for anchor in beside if await self._follower.follow_vote(peer, anchor)
                ]
        except FetchError as error:
            self._log.debug("sync.not_compared", peer=peer, why=error.why)
            return
        if request is not None:
            anchors = [*map(CoinId, request.anchors), *anchors]
        if anchors:
            self._left[peer] = anchors[:ANCHORS_LEFT_MAX]

    def has_more(self, peer: PeerId) -> bool:
        """Return whether a peer has not been asked for everything yet."""
        return peer in self._left

    def forget(self, peer: PeerId) -> None:
        """Let go of what a peer that is gone was still to be asked for."""
        self._left.pop(peer, None)

    async def _take_in(self, peer: PeerId, coins: Sequence[Coin]) -> bool:
        """Submit votes, two proofs at a time; return whether the peer may go on."""
        missing = await self._chain.queries.missing_votes(coins)
        queue = iter(missing)
        sender = _AskedSender(peer, self._penalizer)

        async def submit() -> None:
            for coin in queue:
                if sender.has_forged:
                    return
                try:
                    await self._chain.submit_coin(coin, sender=sender)
                    self.taken += 1
                except ProtocolError as error:
                    sender.blame(error)

        async with trio.open_nursery() as nursery:
            for _ in range(min(PROOFS_PER_PEER, len(missing))):
                nursery.start_soon(submit)
        return not sender.has_forged


class _AskedSender:
    """A peer that answers for what it gave when it was asked for votes."""

    def __init__(self, peer: PeerId, penalizer: Penalizer) -> None:
        self.peer = peer
        self._penalizer = penalizer
        self.has_forged = False

    def blame(self, error: ProtocolError) -> None:
        self.has_forged = self.has_forged or isinstance(error, BadMixError)
        self._penalizer.penalize(self.peer, decision_on(error).served, f"vote: {error}", ms=0.1)
