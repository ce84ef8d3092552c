"""The stem of transfers: nobody is to know who made one (Protocol §11, after Dandelion++: Fanti et
al., 2018).

What was made here, or came by a stem, is handed on by a request to one outbound peer, the same for
ten minutes, until somebody decides to gossip it. Meanwhile it waits in the mempool, hidden from
peers. Whoever has handed one on and does not hear of it by gossip in time gossips it: so nothing is
lost when somebody on the way keeps it or dies. All on the way wait as long, by chance, so the one
that does so is anybody of them. What has gone in a circle is handed to another peer, by who made it
as by anybody.
"""

from __future__ import annotations

import random
from typing import Final, Protocol

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.chain.results import Outcome
from unchained.node.chain.service import ChainService
from unchained.node.consensus.policy import PolicyError
from unchained.node.consensus.transfers import ProvenTransfer
from unchained.node.peers.manager import PeerManager
from unchained.node.primitives.errors import NonCanonicalError, ProtocolError
from unchained.node.primitives.transfer import wid_of
from unchained.node.primitives.types import CoinId, Txid, Wid
from unchained.node.relay.penalty_table import decision_on
from unchained.node.transport.contract import NotRunningError, PeerId, RequestError, Transport
from unchained.node.wire.errors import AnswerError
from unchained.node.wire.limits import TRANSFER_GOSSIP, name_of
from unchained.node.wire.messages import STEM_EXCHANGE, StemRequest, Taken

ROUTE_S: Final = 600.0
"""Seconds for which transfers are handed on to the same peer, and for which it is settled whether
those of others are handed on or gossiped."""
FLUFF: Final = 0.1
"""Chance that those of others are gossiped meanwhile."""
EMBARGO_MIN_S: Final = 10.0
EMBARGO_MORE_S: Final = 30.0
"""Mean of what is added to it, exponentially distributed: nobody on the way is likelier than others
to be the first whose patience ends."""
PEERS_TRIED_MAX: Final = 3
"""Peers that one transfer is handed to, if they do not take it or it comes again."""
HELD_MAX: Final = 512
"""Transfers under way through here, at a time: the next is gossiped at once."""
HELD_OF_PEER_MAX: Final = 64
"""Of those, transfers that came from one peer."""
SIGNATURE_PRICE_MS: Final = 0.5
"""Price of a transfer that is refused."""
AGAIN_MS: Final = 300_000
"""After a restart, what had entered the mempool in its last so many ms is handed on again: who
knows it lets it be, and nobody can tell what of it was under way."""
AGAIN_MAX: Final = 256


class StemStatistics(msgspec.Struct, frozen=True):
    """Counts since the start, and what is under way."""

    held: int
    handed_on: int
    not_taken: int
    fluffed: int
    embargoes: int


class TransferStem(Protocol):
    """What relay asks of the stem."""

    def holds(self, wid: Wid) -> bool:
        """Return whether a transfer is under way through here, and so nothing to gossip."""

    def note_public(self, wid: Wid) -> None:
        """Note that a transfer has been heard of by gossip, or has left the mempool."""


class _Held:
    """A transfer under way. `source` is None for one that was made here."""

    def __init__(self, wid: Wid, raw: bytes, source: PeerId | None) -> None:
        self.wid = wid
        self.raw = raw
        self.source = source
        self.txid: Txid | None = None
        self.parents: list[_Held] = []
        """Those under way that it builds on."""
        self.taken_by: PeerId | None = None
        self.handed_to: set[PeerId] = set()
        self.public = trio.Event()


class StemRouter:
    """Takes transfers in, and hands them on. Construct before the transport runs; `run` beside."""

    def __init__(
        self,
        chain: ChainService,
        transport: Transport,
        peers: PeerManager,
        *,
        genesis_id: CoinId,
        rng: random.Random,
        log: FilteringBoundLogger,
    ) -> None:
        self._chain = chain
        self._transport = transport
        self._peers = peers
        self._topic = name_of(genesis_id, TRANSFER_GOSSIP.name)
        self._rng = rng
        self._log = log
        self._held: dict[Wid, _Held] = {}
        self._route_until = float("-inf")
        self._next: PeerId | None = None
        self._fluffs = False
        self._nursery: trio.Nursery | None = None
        self._handed_on = self._not_taken = self._fluffed = self._embargoes = 0
        peers.exchanges.serve(STEM_EXCHANGE, StemRequest, self._serve)

    # What relay asks

    def holds(self, wid: Wid) -> bool:
        """Return whether a transfer is under way through here, and so nothing to gossip."""
        return wid in self._held

    def note_public(self, wid: Wid) -> None:
        """Note that a transfer has been heard of by gossip, or has left the mempool."""
        held = self._held.pop(wid, None)
        if held is not None:
            held.public.set()

    # In

    async def submit_transfer(self, transfer: bytes | ProvenTransfer) -> Outcome:
        """Take in a transfer that was made here, and hand it on.

        Raises what `ChainService.submit_transfer` raises.
        """
        raw = transfer if isinstance(transfer, bytes) else transfer.sized.raw
        return await self._take(transfer, _Held(wid_of(raw), raw, None))

    async def _serve(self, peer: PeerId, request: StemRequest) -> Taken:
        """Take in a transfer that a peer hands on. It is told nothing but that it has come: whether
        it is known here is nobody's business."""
        raw = request.transfer
        try:
            await self._take(raw, _Held(wid_of(raw), raw, peer))
        except (ProtocolError, PolicyError) as error:
            self._peers.reputation.penalize(
                peer, decision_on(error).alone, f"stem: {error}", ms=SIGNATURE_PRICE_MS
            )
        return Taken()

    async def _take(self, transfer: bytes | ProvenTransfer, held: _Held) -> Outcome:
        if self._nursery is None:
            return await self._chain.submit_transfer(transfer)
        if held.wid in self._held:
            if held.source is not None:
                # In a circle, or by another way: that somebody made it here is not to show.
                again = self._held[held.wid]
                self._nursery.start_soon(self._pass_on, again, held.source, name="relay.stem")
            return Outcome.KNOWN
        has_room = self._has_room_for(held.source)
        self._held[held.wid] = held
        outcome = Outcome.KNOWN
        try:
            outcome = await self._chain.submit_transfer(transfer, hidden=True)
        finally:
            if outcome is not Outcome.ACCEPTED:
                self._held.pop(held.wid, None)
        if outcome is not Outcome.ACCEPTED:
            return outcome
        found = await self._chain.queries.waiting_transfer(held.wid)
        if found is not None:
            held.txid = found.txid
            held.parents = [it for it in self._held.values() if it.txid in found.parents]
        if not self._peers.greeted():
            # Nobody is there whom it could be hidden from; the node's own anchors may list it.
            await self._chain.reveal_transfer(held.wid)
        if has_room and (held.source is None or not self._is_fluffing()):
            self._nursery.start_soon(self._carry, held, name="relay.stem")
        else:
            await self._fluff(held)
        return Outcome.ACCEPTED

    def _has_room_for(self, source: PeerId | None) -> bool:
        if source is None:
            return True
        of_source = sum(held.source == source for held in self._held.values())
        return len(self._held) < HELD_MAX and of_source < HELD_OF_PEER_MAX

    # On

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hand transfers on until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._hand_on_again)
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None

    async def _carry(self, held: _Held) -> None:
        """Hand a transfer on, and gossip it if nothing is heard of it in time."""
        await self._wait_for_peers()
        patience_s = EMBARGO_MIN_S + self._rng.expovariate(1 / EMBARGO_MORE_S)
        with trio.move_on_after(patience_s):
            await self._pass_on(held, held.source)
            await held.public.wait()
        if not held.public.is_set():
            self._embargoes += 1
            await self._fluff(held)

    async def _pass_on(self, held: _Held, source: PeerId | None) -> None:
        """Hand a transfer on, or gossip it if there is nobody left who has not had it: in small
        networks that is soon."""
        if not await self._hand_on(held, source):
            await self._fluff(held)

    async def _hand_on(self, held: _Held, source: PeerId | None) -> bool:
        """Hand a transfer to somebody who has not had it from here, nor is its `source`; return
        whether there was anybody."""
        peers = self._route_of(held, source)
        for peer in peers:
            if len(held.handed_to) >= PEERS_TRIED_MAX:
                break
            held.handed_to.add(peer)
            if await self._ask(peer, held.raw):
                held.taken_by = held.taken_by or peer
                break
        return bool(peers)

    async def _ask(self, peer: PeerId, raw: bytes) -> bool:
        """Hand bytes to a peer; return whether it took them."""
        try:
            await self._peers.exchanges.ask(STEM_EXCHANGE, peer, StemRequest(raw))
        except (RequestError, AnswerError, NonCanonicalError) as error:
            self._not_taken += 1
            self._log.debug("relay.stem_not_taken", peer=peer, why=str(error))
            return False
        self._handed_on += 1
        return True

    def _route_of(self, held: _Held, source: PeerId | None) -> list[PeerId]:
        """Return whom to hand a transfer to, in order: who took what it builds on, the one of these
        ten minutes, any; nobody who sent it or has had it."""
        self._renew_route()
        first = [parent.taken_by for parent in held.parents]
        others = self._candidates()
        self._rng.shuffle(others)
        order = dict.fromkeys(peer for peer in (*first, self._next, *others) if peer in others)
        out = {held.source, source, *held.handed_to}
        return [peer for peer in order if peer is not None and peer not in out]

    def _candidates(self) -> list[PeerId]:
        """Return the outbound peers, which nobody could choose to be; if there are none, others."""
        greeted = self._peers.greeted()
        return [peer for peer in greeted if self._peers.is_outbound(peer)] or greeted

    def _renew_route(self) -> None:
        now = trio.current_time()
        candidates = self._candidates()
        is_over = now >= self._route_until
        if is_over:
            self._route_until = now + ROUTE_S
            self._fluffs = self._rng.random() < FLUFF
        if candidates and (is_over or self._next not in candidates):
            self._next = self._rng.choice(candidates)

    def _is_fluffing(self) -> bool:
        self._renew_route()
        return self._fluffs

    async def _fluff(self, held: _Held) -> None:
        """Gossip a transfer, and before it what it builds on."""
        if self._held.get(held.wid) is not held:
            return
        self.note_public(held.wid)
        for parent in held.parents:
            await self._fluff(parent)
        await self._chain.reveal_transfer(held.wid)
        if await self._chain.queries.waiting_transfer(held.wid) is None:
            return
        try:
            await self._transport.publish(self._topic, held.raw)
        except NotRunningError:
            return
        self._fluffed += 1

    # After a restart

    async def _wait_for_peers(self) -> None:
        await self._peers.changed.wait_for(lambda _: bool(self._peers.greeted()))

    async def _hand_on_again(self) -> None:
        """Hand on what had just entered the mempool when the node was stopped."""
        waiting = await self._chain.queries.waiting_transfers("time", AGAIN_MAX, 0)
        if not waiting:
            return
        await self._wait_for_peers()
        newest_ms = max(found.added_ms for found in waiting)
        for found in reversed(waiting):
            raw = await self._chain.queries.transfer_bytes(found.wid)
            if raw is not None and newest_ms - found.added_ms <= AGAIN_MS:
                self._renew_route()
                if self._next is not None:
                    await self._ask(self._next, raw)

    def statistics(self) -> StemStatistics:
        """Return counts since the start."""
        return StemStatistics(
            len(self._held), self._handed_on, self._not_taken, self._fluffed, self._embargoes
        )
