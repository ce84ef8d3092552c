"""Asking peers for votes: the candidates bound to anchors on which two tips differ (Protocol §6).

A vote may itself be an anchor whose body is unknown here: then it ends a branch beside both tips,
whose votes count for what that branch grew from. It is followed like a tip, and its votes are
asked for in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.chain.service import ChainService
from unchained.node.consensus.errors import BadMixError
from unchained.node.peers.penalty import Penalizer
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.errors import ProtocolError
from unchained.node.primitives.types import ZERO32, CoinId
from unchained.node.relay.fetcher import Fetcher, FetchError
from unchained.node.relay.penalty_table import decision_on
from unchained.node.transport.contract import PeerId
from unchained.node.wire.limits import CANDIDATES
from unchained.node.wire.messages import CandidatesRequest

CANDIDATE_PROOFS_PER_PEER: Final = 2
"""Candidates of one peer whose proofs are verified at a time (Protocol §11)."""
CANDIDATE_PAGES_MAX: Final = 64
"""Pages of candidates taken from a peer at a time."""


class VoteFollower(Protocol):
    """Fetches the chain that ends in a vote: the sync service."""

    async def follow_vote(self, peer: PeerId, anchor_id: CoinId) -> bool:
        """Follow an anchor that a peer gave as a vote, and need not have; return whether it is here
        now."""


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
        """Candidates taken in since the start."""

    async def ask(self, peer: PeerId, one: CoinId, other: CoinId) -> None:
        """Ask for the candidates bound to all anchors above the last common ancestor of two tips;
        of one chain, for those that its next anchors may list."""
        anchors = await self._chain.queries.above_fork(one, other)
        request: CandidatesRequest | None = None
        try:
            for _ in range(CANDIDATE_PAGES_MAX):
                if request is None:
                    if not anchors:
                        return
                    most = CANDIDATES.max_asked
                    request = CandidatesRequest(tuple(anchors[:most]), ZERO32)
                    anchors = anchors[most:]
                coins, request = await self._fetcher.candidates(peer, request)
                if not await self._take_in(peer, coins):
                    return
                beside = await self._chain.queries.without_bodies([coin.id for coin in coins])
                anchors += [
                    anchor for anchor in beside if await self._follower.follow_vote(peer, anchor)
                ]
        except FetchError as error:
            self._log.debug("sync.not_compared", peer=peer, why=error.why)

    async def _take_in(self, peer: PeerId, coins: Sequence[Coin]) -> bool:
        """Submit candidates, two proofs at a time; return whether the peer may go on."""
        unknown = await self._chain.queries.unknown_coins(coins)
        queue = iter(unknown)
        forged = False

        def blame(error: ProtocolError) -> None:
            nonlocal forged
            forged = forged or isinstance(error, BadMixError)
            self._penalizer.penalize(peer, decision_on(error).served, f"candidate: {error}", ms=0.1)

        async def submit() -> None:
            for coin in queue:
                if forged:
                    return
                try:
                    await self._chain.submit_coin(coin, blame=blame)
                    self.taken += 1
                except ProtocolError as error:
                    blame(error)

        async with trio.open_nursery() as nursery:
            for _ in range(min(CANDIDATE_PROOFS_PER_PEER, len(unknown))):
                nursery.start_soon(submit)
        return not forged
