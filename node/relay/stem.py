"""The stem of transfers: nobody is to know who made one (Protocol §11, after Dandelion++: Fanti et
al., 2018).

What was made here, or came by a stem, is handed on by a request to one outbound peer, the same for
ten minutes, until somebody decides to gossip it. Meanwhile it waits in the mempool, hidden from
peers. Whoever has handed one on and does not hear of it by gossip in time gossips it: so nothing is
lost when somebody on the way keeps it or dies. All on the way wait as long, by chance, so the one
that does so is anybody of them. What has gone in a circle is handed to another peer, by who made it
as by anybody.

What is taken in is taken in by tasks of this service, not of who asked for it: a request that is
ended early leaves nothing hidden that nobody carries.
"""

from __future__ import annotations

import random
from typing import Final, Protocol

import msgspec
import outcome
import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.chain.mempool.mempool import Shown
from unchained.node.chain.results import Outcome
from unchained.node.chain.service import ChainService
from unchained.node.consensus.policy import PolicyError
from unchained.node.consensus.transfers import ProvenTransfer
from unchained.node.peers.exchanges import ASKED_SHARE
from unchained.node.peers.manager import PeerManager
from unchained.node.peers.penalty import Penalty
from unchained.node.primitives.errors import NonCanonicalError, ProtocolError
from unchained.node.primitives.transfer import wid_of
from unchained.node.primitives.types import CoinId, Wid
from unchained.node.relay.held_transfer import HeldTransfer
from unchained.node.relay.message_price import message_price_ms
from unchained.node.relay.penalty_table import decision_on
from unchained.node.relay.stem_queue import StemQueue
from unchained.node.relay.stem_turns import StemTurns
from unchained.node.transport.contract import NotRunningError, PeerId, RequestError, Transport
from unchained.node.wire.errors import AnswerError
from unchained.node.wire.limits import STEM, TRANSFER_GOSSIP, name_of
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
TURN_WAIT_MAX_S: Final = EMBARGO_MIN_S
"""Seconds that transfers wait for their turn to be handed on, about. What is made here and would
wait longer goes to another outbound peer."""
WAITING_MAX: Final = int(TURN_WAIT_MAX_S * ASKED_SHARE * STEM.per_second)
"""Transfers of others that wait for it at a time: what finds no room is gossiped at once."""
HELD_MAX: Final = 512
"""Transfers under way through here, at a time: the next is gossiped at once."""
HELD_OF_PEER_MAX: Final = 64
"""Of those, transfers that came from one peer."""
AGAIN_MS: Final = 300_000
"""After a restart, what had entered the mempool in its last so many ms is handed on again: who
knows it lets it be, and nobody can tell what of it was under way."""
AGAIN_MAX: Final = 256
MADE_AT_ONCE_MAX: Final = 64
"""Transfers made here that are being taken in at a time; who submits more waits."""
HIDDEN_LOOK_S: Final = 60.0
"""Seconds between looks for what is hidden though nobody carries it."""


class StemStatistics(msgspec.Struct, frozen=True):
    """Counts since the start, and what is under way."""

    held: int
    handed_on: int
    not_taken: int
    fluffed: int
    embargoes: int
    queued: int
    left_out: int
    """Handed to this node, and not looked at for want of room."""
    found_hidden: int
    """Transfers that were hidden though nobody carried them: a bug of ours."""


class TransferStem(Protocol):
    """What relay asks of the stem."""

    def holds(self, wid: Wid) -> bool:
        """Return whether a transfer is under way through here, and so nothing to gossip."""

    def note_public(self, wid: Wid) -> None:
        """Note that a transfer has been heard of by gossip, or has left the mempool."""


class _Submission:
    """A transfer that was made here, and what became of it."""

    def __init__(self, transfer: bytes | ProvenTransfer, held: HeldTransfer) -> None:
        self.transfer = transfer
        self.held = held
        self.done = trio.Event()
        self.is_awaited = True
        self.result: outcome.Outcome[Outcome] = outcome.Error(
            trio.ClosedResourceError("the stem has stopped")
        )


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
        self._held: dict[Wid, HeldTransfer] = {}
        self._route_until = float("-inf")
        self._next: PeerId | None = None
        self._fluffs = False
        self._nursery: trio.Nursery | None = None
        self._queue = StemQueue()
        self._turns = StemTurns(WAITING_MAX, rng)
        self._made_places = trio.Semaphore(MADE_AT_ONCE_MAX)
        self._handed_on = self._not_taken = self._fluffed = self._embargoes = 0
        self._found_hidden = 0
        peers.exchanges.serve(STEM_EXCHANGE, StemRequest, self._serve)

    # What relay asks

    def holds(self, wid: Wid) -> bool:
        """Return whether a transfer is under way through here, and so nothing to gossip."""
        return wid in self._held

    def note_public(self, wid: Wid) -> None:
        """Note that a transfer has been heard of by gossip, or has left the mempool."""
        held = self._held.pop(wid, None)
        if held is not None:
            held.become_public()

    # In

    async def submit_transfer(self, transfer: bytes | ProvenTransfer) -> Outcome:
        """Take in a transfer that was made here, and hand it on. Cancelled once it has a
        place (`MADE_AT_ONCE_MAX`), it is taken in all the same.

        Raises what `ChainService.submit_transfer` raises, and `trio.ClosedResourceError` when the
        stem is stopped meanwhile.
        """
        await self._made_places.acquire()
        if self._nursery is None:
            self._made_places.release()
            return await self._chain.submit_transfer(transfer)
        raw = transfer if isinstance(transfer, bytes) else transfer.sized.raw
        submission = _Submission(transfer, HeldTransfer(wid_of(raw), raw, None))
        self._nursery.start_soon(self._take_made, submission, name="relay.stem")
        try:
            await submission.done.wait()
        finally:
            submission.is_awaited = False
        return submission.result.unwrap()

    async def _serve(self, peer: PeerId, request: StemRequest) -> Taken:
        """Let a transfer that a peer hands on wait for its turn. The peer is told nothing but that
        it has come, at once: whether it is known here is nobody's business."""
        if self._queue.put(peer, request.transfer) and self._nursery is not None:
            self._nursery.start_soon(self._work_off, peer, name="relay.stem")
        await trio.lowlevel.checkpoint()
        return Taken()

    async def _take_made(self, submission: _Submission) -> None:
        try:
            taken = await self._take(submission.transfer, submission.held)
            submission.result = outcome.Value(taken)
        except Exception as error:  # noqa: BLE001 - who asked gets it
            submission.result = outcome.Error(error)
            if not submission.is_awaited and not isinstance(error, ProtocolError | PolicyError):
                self._log.error("relay.stem_failed", exc_info=True)
        finally:
            self._made_places.release()
            submission.done.set()

    async def _work_off(self, peer: PeerId) -> None:
        """Take in what waits from a peer, in order: what builds on another comes after it."""
        while (raw := self._queue.first(peer)) is not None:
            try:
                taken = await self._take(raw, HeldTransfer(wid_of(raw), raw, peer))
                if taken is not Outcome.ACCEPTED:
                    self._peers.reputation.charge_excess(
                        peer, "stem: of no use", message_price_ms(len(raw))
                    )
            except (ProtocolError, PolicyError) as error:
                penalty = decision_on(error).alone
                self._peers.reputation.penalize(
                    peer, penalty, f"stem: {error}", ms=message_price_ms(len(raw), error)
                )
                if penalty is Penalty.BAN:
                    self._queue.forget_rest(peer)
            except trio.ClosedResourceError:
                return  # the chain has stopped
            except Exception:  # noqa: BLE001 - a fault of ours, with which no peer ends the node
                self._log.error("relay.stem_failed", peer=peer, exc_info=True)
            self._queue.done(peer)

    async def _take(self, transfer: bytes | ProvenTransfer, held: HeldTransfer) -> Outcome:
        """Take a transfer in, and have it carried or gossip it. In a task of our own: cut short,
        it would leave the transfer hidden."""
        assert self._nursery is not None, "called in it"
        if held.wid in self._held:
            again = self._held[held.wid]
            again.handed_by.add(held.source)
            if held.source is not None and again.is_in:
                # In a circle, or by another way: that somebody made it here is not to show.
                self._nursery.start_soon(self._pass_on, again, held.source, name="relay.stem")
            return Outcome.KNOWN
        has_room = self._has_room_for(held.source)
        self._held[held.wid] = held
        is_carried = False
        try:
            shown = self._shown_to(held.source)
            taken = await self._chain.submit_transfer(transfer, hidden=True, shown=shown)
            if taken is not Outcome.ACCEPTED:
                return taken
            held.is_in = True
            await self._describe(held)
            await self._reveal_if_alone(held)
            if held.public.is_set():
                # It came by gossip meanwhile, perhaps before the mempool had it hidden.
                await self._gossip(held.wid, held.raw)
            elif has_room and (held.source is None or not self._is_fluffing()):
                self._nursery.start_soon(self._carry, held, name="relay.stem")
                is_carried = True
            else:
                await self._fluff(held)
        finally:
            if not is_carried and self._held.get(held.wid) is held:
                del self._held[held.wid]
        return Outcome.ACCEPTED

    def _shown_to(self, source: PeerId | None) -> Shown:
        """Return what somebody knows to be here: what it handed to us; who makes one here, all."""
        if source is None:
            return None
        return {held.wid for held in self._held.values() if source in held.handed_by}

    async def _reveal_if_alone(self, held: HeldTransfer) -> None:
        """Hide nothing while there is nobody to hide it from: own anchors may list it."""
        if not self._peers.greeted():
            await self._chain.reveal_transfer(held.wid)

    async def _describe(self, held: HeldTransfer) -> None:
        """Note what a transfer builds on."""
        found = await self._chain.queries.waiting_transfer(held.wid)
        if found is not None:
            held.txid = found.txid
            held.parents = [it for it in self._held.values() if it.txid in found.parents]

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
                for peer in self._queue.peers():
                    nursery.start_soon(self._work_off, peer, name="relay.stem")
                nursery.start_soon(self._hand_on_again)
                nursery.start_soon(self._reveal_left)
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None

    async def _carry(self, held: HeldTransfer) -> None:
        """Hand a transfer on, and gossip it if nothing is heard of it in time."""
        await self._reveal_if_alone(held)
        await self._wait_for_peers()
        patience_s = self._patience_s()
        with trio.move_on_after(patience_s) as waiting:
            if await self._hand_on(held, held.source):
                # From here on, as for all on the way: it may have waited for its turn.
                waiting.deadline = trio.current_time() + patience_s
                await held.public.wait()
        await self._end(held, waiting.cancelled_caught)

    async def _wait_for_gossip(self, held: HeldTransfer) -> None:
        """Gossip a transfer if nothing is heard of it in time."""
        with trio.move_on_after(self._patience_s()) as waiting:
            await held.public.wait()
        await self._end(held, waiting.cancelled_caught)

    async def _end(self, held: HeldTransfer, is_over: bool) -> None:
        # Beyond the time limit: cut short, it would leave the transfer hidden.
        if not held.public.is_set():
            self._embargoes += is_over
            await self._fluff(held)

    def _patience_s(self) -> float:
        return EMBARGO_MIN_S + self._rng.expovariate(1 / EMBARGO_MORE_S)

    async def _pass_on(self, held: HeldTransfer, source: PeerId | None) -> None:
        """Hand a transfer on, or gossip it if there is nobody left who has not had it: in small
        networks that is soon."""
        if not await self._hand_on(held, source):
            await self._fluff(held)

    async def _hand_on(self, held: HeldTransfer, source: PeerId | None) -> bool:
        """Hand a transfer to somebody who has not had it from here, nor is its `source`; return
        whether there was anybody, and a turn for it."""
        peers = self._route_of(held, source)
        for peer in peers:
            if len(held.handed_to) >= PEERS_TRIED_MAX:
                break
            held.handed_to.add(peer)
            if not await self._wait_for_turn(held, peer, source):
                return False
            if await self._ask(peer, held.raw):
                held.taken_by = held.taken_by or peer
                break
        return bool(peers)

    async def _wait_for_turn(self, held: HeldTransfer, peer: PeerId, source: PeerId | None) -> bool:
        """Wait until a peer may be handed one more; return whether it may, and need be. What is
        made here goes first: else others could have it wait until this node gossips what it made
        itself."""
        exchanges = self._peers.exchanges
        with held.turn() as turn:
            if source is None:
                await exchanges.turn(STEM_EXCHANGE, peer, urgent=True)
            else:
                with self._turns.place(exchanges.group_of(source)) as place:
                    await exchanges.turn(STEM_EXCHANGE, peer)
                if place.cancelled_caught:
                    return False
        return not turn.cancelled_caught

    async def _ask(self, peer: PeerId, raw: bytes) -> bool:
        """Hand bytes to a peer whose turn it is; return whether it took them."""
        try:
            await self._peers.exchanges.ask_in_turn(STEM_EXCHANGE, peer, StemRequest(raw))
        except (RequestError, AnswerError, NonCanonicalError) as error:
            self._not_taken += 1
            self._log.debug("relay.stem_not_taken", peer=peer, why=str(error))
            return False
        self._handed_on += 1
        return True

    def _route_of(self, held: HeldTransfer, source: PeerId | None) -> list[PeerId]:
        """Return whom to hand a transfer to, in order: who took what it builds on, the one of these
        ten minutes, any; nobody who sent it or has had it."""
        self._renew_route()
        first = [parent.taken_by for parent in held.parents]
        others = self._candidates()
        self._rng.shuffle(others)
        order = dict.fromkeys(peer for peer in (*first, self._next, *others) if peer in others)
        out = {held.source, source, *held.handed_to}
        route = [peer for peer in order if peer is not None and peer not in out]
        if source is None:
            # Of much that is made here the excess goes to others: waiting, it would be gossiped.
            route.sort(key=lambda peer: peer not in first and self._is_slow(peer))
        return route

    def _is_slow(self, peer: PeerId) -> bool:
        exchanges = self._peers.exchanges
        return exchanges.wait_s(STEM_EXCHANGE, peer, urgent=True) > TURN_WAIT_MAX_S

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

    async def _fluff(self, held: HeldTransfer) -> None:
        """Gossip a transfer, and before it what it builds on."""
        if self._held.get(held.wid) is not held:
            return
        parents = held.parents
        self.note_public(held.wid)
        for parent in parents:
            await self._fluff(parent)
        await self._gossip(held.wid, held.raw)

    async def _gossip(self, wid: Wid, raw: bytes) -> None:
        await self._chain.reveal_transfer(wid)
        if await self._chain.queries.waiting_transfer(wid) is None:
            return
        try:
            await self._transport.publish(self._topic, raw)
        except NotRunningError:
            return
        self._fluffed += 1

    async def _reveal_left(self) -> None:
        """Gossip what is hidden though nobody carries it, at two looks: so that a fault of ours
        hides nothing for good."""
        before: set[Wid] = set()
        while True:
            await trio.sleep(HIDDEN_LOOK_S)
            hidden = await self._chain.queries.hidden_transfers()
            left = {wid for wid in hidden if wid not in self._held}
            for wid in left & before:
                self._found_hidden += 1
                self._log.warning("relay.stem_found_hidden", wid=wid.hex())
                raw = await self._chain.queries.transfer_bytes(wid)
                if raw is not None:
                    await self._gossip(wid, raw)
            before = left

    # After a restart

    async def _wait_for_peers(self) -> None:
        await self._peers.changed.wait_for(lambda _: bool(self._peers.greeted()))

    async def _hand_on_again(self) -> None:
        """Hand on what had just entered the mempool when the node was stopped, parents first, and
        gossip it if nothing is heard of it: nobody else may have it."""
        assert self._nursery is not None, "started in it"
        waiting = await self._chain.queries.waiting_transfers("time", AGAIN_MAX, 0)
        if not waiting:
            return
        newest_ms = max(found.added_ms for found in waiting)
        await self._wait_for_peers()
        again = []
        for found in reversed(waiting):
            raw = await self._chain.queries.transfer_bytes(found.wid)
            is_recent = newest_ms - found.added_ms <= AGAIN_MS
            if raw is None or not is_recent or found.wid in self._held:
                continue
            held = HeldTransfer(found.wid, raw, None)
            held.is_in = True
            self._held[held.wid] = held
            self._nursery.start_soon(self._wait_for_gossip, held, name="relay.stem")
            await self._describe(held)
            again.append(held)
        for held in again:
            if not held.public.is_set():
                await self._hand_on(held, None)

    def statistics(self) -> StemStatistics:
        """Return counts since the start."""
        return StemStatistics(
            len(self._held),
            self._handed_on,
            self._not_taken,
            self._fluffed,
            self._embargoes,
            len(self._queue),
            self._queue.left_out,
            self._found_hidden,
        )
