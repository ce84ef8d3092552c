"""The chain as a service: what may be done to it, by name.

Coins, bodies and transfers are submitted (`submit_...`) from any task. What is expensive (proofs
of work, signatures) is verified in worker threads, several at a time; what changes the chain is
queued for its one writer. What is known is asked of `queries`. What happened goes out through
`changes` (every step) and `status` (the present).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, TypeVar

import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.base.clock import Clock
from unchained.node.base.fanout import Broadcast, Watch
from unchained.node.base.heap import LEFT_ALONE, Heap
from unchained.node.base.runner import Runner
from unchained.node.base.spans import span
from unchained.node.chain.chain_intake import ChainIntake
from unchained.node.chain.clock_watch import ClockWatch
from unchained.node.chain.coin_intake import CoinIntake
from unchained.node.chain.core import ChainCore
from unchained.node.chain.held_coins import Sender
from unchained.node.chain.live_queries import LiveQueries
from unchained.node.chain.mempool.mempool import Shown
from unchained.node.chain.mined_intake import MinedIntake
from unchained.node.chain.queries import ChainQueries
from unchained.node.chain.results import (
    BatchOutcome,
    Changes,
    Held,
    NeedsProof,
    Outcome,
    Package,
    ProvenAnchor,
    ProvenCoin,
)
from unchained.node.chain.status import ChainStatus, ManagerStatistics
from unchained.node.chain.step_counts import StepCounts
from unchained.node.chain.step_log import log_step
from unchained.node.chain.template import JobTimes, Template, build_template
from unchained.node.chain.verifier import Verifier
from unchained.node.chain.writer import ChainWriter, Operation, Running
from unchained.node.consensus.errors import BadMixError, ProtocolError
from unchained.node.consensus.params import Network
from unchained.node.consensus.policy import PolicyError
from unchained.node.consensus.transfers import ProvenTransfer, ValidatedTransfer
from unchained.node.crypto.pow import ProofOfWork
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.transfer import SizedTransfer, wid_of
from unchained.node.primitives.types import CoinId, Wid
from unchained.storage.kv import KeyValueStore

T = TypeVar("T")

EXPIRY_CHECK_S: Final = 600.0
"""Seconds between looks for transfers that have waited too long."""

RECENT: Final = 4
"""Anchors whose bodies are at hand while the writer connects them: peers that were told of one ask
at once."""

CHANGES_KEPT: Final = 256
"""Changes that a slow listener may be behind before it is told that it lost some."""


class ChainService:
    """The chain of one node. Made by `open`; `run` has to run for anything to be carried out.

    `writer` runs the chain's operations one at a time, `verifier` proofs and signatures, as many
    at a time as it allows. Under a virtual clock both run their work in place.
    """

    def __init__(
        self,
        core: ChainCore,
        *,
        clock: Clock,
        writer: Runner,
        verifier: Runner,
        verifiers: int,
        backend: ProofOfWork,
        log: FilteringBoundLogger,
        running: Running,
        heap: Heap,
    ) -> None:
        self.network = core.network
        self._clock = clock
        self._writer = ChainWriter(core, clock=clock, runner=writer, running=running, listener=self)
        self.queries: ChainQueries = LiveQueries(self._writer, core.store, verifier, core.network)
        """What is known of the chain."""
        self._transfers = core.transfers
        self._verification = Verifier(core.network, verifier, verifiers, backend)
        self._log = log
        self._intake = CoinIntake(
            core.network, self._writer, self._verification, clock=clock, log=log
        )
        self._chain_intake = ChainIntake(
            core.network, self._writer, self._verification, self, clock=clock
        )
        self._mined = MinedIntake(core.network, self._writer, self, log=log)
        self.changes: Broadcast[Changes] = Broadcast(CHANGES_KEPT)
        """Every step of the chain, in order."""
        self.status: Watch[ChainStatus] = Watch(core.status(clock.now_ms()))
        """The present of the chain."""
        self._clock_watch = ClockWatch(self._writer, self.status, clock=clock, log=log)
        self._steps = StepCounts(core.network.epoch_ms, self.status.value.tip_time)
        self._in_bulk = 0
        self._heap = heap
        self._job_times = JobTimes()
        self._recent: OrderedDict[CoinId, tuple[Coin, Body]] = OrderedDict()

    @classmethod
    async def open(
        cls,
        store: KeyValueStore,
        network: Network,
        *,
        clock: Clock,
        writer: Runner,
        verifier: Runner,
        verifiers: int,
        backend: ProofOfWork,
        log: FilteringBoundLogger,
        heap: Heap = LEFT_ALONE,
    ) -> ChainService:
        """Open the chain of a store, and follow the winner if it is not connected yet.

        The end of `bulk` gives back what is free in the `heap`. Raises a `StoreError`.
        """
        running = Running()
        now_ms = clock.now_ms()

        def open_core() -> ChainCore:
            core = ChainCore(store, network, running.elapsed_ms, now_ms)
            core.advance()
            core.load_mempool()
            core.take_changes()
            return core

        return cls(
            await writer.run(open_core),
            clock=clock,
            writer=writer,
            verifier=verifier,
            verifiers=verifiers,
            backend=backend,
            log=log,
            running=running,
            heap=heap,
        )

    # The service

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry out what is submitted, until cancelled; the operation in hand is finished first.

        Raises a `StoreError` when the store fails: what is on disk is consistent, and the chain
        has to be opened again.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._writer.run, name="chain.writer")
                nursery.start_soon(self._intake.resubmit_released, name="chain.released")
                nursery.start_soon(self._intake.resubmit_early, name="chain.early")
                nursery.start_soon(self._mined.submit_released, name="chain.mined")
                nursery.start_soon(self._expire, name="chain.expiry")
                nursery.start_soon(self._clock_watch.run, name="chain.clock")
                task_status.started()
        finally:
            self._writer.end()

    def note_steps(self, steps: Sequence[Changes], status: ChainStatus) -> None:
        """Let others hear of what the writer has done; called by the writer alone."""
        self._clock_watch.note(status)
        if steps or status != self.status.value:
            # Most of what the writer does are reads, which are news to nobody. A step may be one
            # that was counted before and is on disk only now: the end of a bulk.
            self.status.set(status)
        self._steps.add(steps)
        for step in steps:
            for coin in step.coins:
                self._mined.note_counted(coin.id)
            for anchor in step.counted:
                self._intake.note_counted(anchor.coin.id)
            for anchor_id in step.barren:
                self._recent.pop(anchor_id, None)
                self._intake.note_barren(anchor_id)
            log_step(self._log, step, self._transfers, in_bulk=self._in_bulk > 0)
            self.changes.send(step)

    async def _expire(self) -> None:
        while True:
            await trio.sleep(EXPIRY_CHECK_S)
            await self._call(partial(ChainCore.expire_transfers, now_ms=self._clock.now_ms()))

    # Asking

    async def _call(self, work: Callable[[ChainCore], T]) -> T:
        return await self._writer.call(work)

    async def template(self) -> Template:
        """Return what a miner may work on."""
        return await self._call(partial(build_template, now_ms=self._clock.now_ms()))

    def job_time(self, template: Template) -> int:
        """Return the time of the next job on a template, ms: one that no other has, whoever mines
        it and whomever it pays, for a lock follows from parent and time (Protocol §9)."""
        return self._job_times.take(template, self._clock.now_ms())

    @asynccontextmanager
    async def bulk(self) -> AsyncIterator[None]:
        """Let the anchors that are submitted inside share batches: for sync and import."""
        await self._call(ChainCore.begin_bulk)
        self._in_bulk += 1
        try:
            yield
        finally:
            self._in_bulk -= 1
            with trio.CancelScope(shield=True):
                await self._call(ChainCore.end_bulk)
                await self._call(lambda _core: self._heap.give_back())

    async def may_undo(self, fork_height: int, winner: CoinId, lead: int) -> bool:
        """Return whether this node follows by itself a better branch that leaves its main chain at
        a height (Protocol §6); if it does not, leave the branch to the operator, as `refuse`
        does."""

        def decide(core: ChainCore) -> bool:
            if core.may_undo_from(fork_height):
                return True
            core.refuse(fork_height, winner, lead)
            return False

        return await self._call(decide)

    async def set_aside(self, anchor_id: CoinId) -> bool:
        """Let an anchor of the last MAX_REORG heights and all that descends from it stop counting,
        on disk too, until `take_back`; return whether that is news. Raises `UnknownAnchorError`."""
        return await self._call(partial(ChainCore.set_aside, anchor_id=anchor_id))

    async def take_back(self, anchor_id: CoinId) -> bool:
        """Let an anchor that was set aside count again, with all that descends from it; return
        whether that is news. Raises `UnknownAnchorError`."""
        return await self._call(partial(ChainCore.take_back, anchor_id=anchor_id))

    async def refuse(self, fork_height: int, winner: CoinId, lead: int) -> None:
        """Leave a better branch to the operator. `lead`: by how much its headers show more work
        than the main chain's; it stands until the main chain has made up for that."""
        await self._call(lambda core: core.refuse(fork_height, winner, lead))

    @asynccontextmanager
    async def deepened(self, height: int) -> AsyncIterator[None]:
        """Let branches be weighed that leave the main chain at a height below the tree, until one
        of them has won. One at a time; `may_undo` has to allow it."""
        depth = self.status.value.height - height
        try:
            while not await self._call(partial(ChainCore.lower_root, height=height)):
                pass
            self._log.info("chain.deepened", fork_height=height, depth=depth)
            yield
        finally:
            with trio.CancelScope(shield=True):
                while not await self._call(self._let_root_rise):
                    pass

    def _let_root_rise(self, core: ChainCore) -> bool:
        # A branch that is cut off can win no more.
        self._writer.choose_now()
        return core.let_root_rise()

    def statistics(self) -> ManagerStatistics:
        """Return counts since the start, and what is held."""
        steps = self._steps.statistics()
        return ManagerStatistics(
            operations=self._writer.operations,
            coins=steps.coins,
            connected=steps.connected,
            disconnected=steps.disconnected,
            mixes_verified=self._verification.mixes,
            transfers_validated=self._verification.transfers,
            orphans=self._intake.orphans,
            early=self._intake.early,
            refused=steps.refused,
            steps=steps,
            verifying=self._verification.in_hand,
            proof_latency=self._verification.proof_latency.statistics(),
            transfer_latency=self._verification.transfer_latency.statistics(),
            writing=self._writer.latency.statistics(),
            queue=self._writer.queue(),
            listeners=self.changes.channel(),
        )

    def awaited_anchors(self) -> list[CoinId]:
        """Return the ids of unknown anchors that held coins are bound to."""
        return self._intake.awaited_anchors()

    # Submitting

    async def submit_coin(
        self, coin: Coin | ProvenCoin, *, sender: Sender | None = None
    ) -> Outcome | Held:
        """Take in a coin from anywhere; of one sender's at most two are in verification at a time.

        Raises the `CoinError` that it breaks. A coin whose parent is unknown is held without its
        proof having been looked at; one that is too new, and at most two limits ahead, when it
        has been proven. The sender hears what it breaks when it can be validated.
        """
        coin_id = coin.coin.id if isinstance(coin, ProvenCoin) else coin.id
        with span("coin", coin_id):
            try:
                return await self._intake.submit(coin, sender=sender)
            except ProtocolError as error:
                self._log.debug("coin.rejected", id=coin_id, rule=error.name, why=str(error))
                raise

    async def submit_mined(
        self, coin: Coin | ProvenCoin, template: Template | None
    ) -> Outcome | Held:
        """Take in a coin that was mined for this node, and if it is of anchor grade the body of
        the template that it was found on; where the coin is held, its body is held with it.

        Raises the `ProtocolError` that either breaks.
        """
        return await self._mined.submit(coin, template)

    def forget_sender(self, peer: str) -> None:
        """Let go of all coins of a banned peer that are held."""
        self._intake.forget_sender(peer)

    async def submit_package(
        self, package: Package, *, connected: bool = True, peer: str = ""
    ) -> Outcome:
        """Take in an anchor's body, with all that it lists and that may be unknown here. Of a
        `peer`'s at most two coins are in verification at a time.

        The anchor's coin has to be known (`submit_coin`). Returns when the anchor has also been
        connected if it is the winner; without `connected` as soon as it has passed Protocol §5.2,
        which is told through `changes`: from then on it may be relayed. Raises
        `UnknownParentError` and `BodyMissingError` for "not yet", `BadBodyRootError` for the
        sender's fault, and the `ProtocolError` that makes the anchor invalid for good.
        """
        with span("anchor", package.anchor.id):
            return await self._take_package(package, connected=connected, peer=peer)

    async def _take_package(self, package: Package, *, connected: bool, peer: str) -> Outcome:
        await self.validate_transfers(package.transfers)
        result = await self._call(lambda core: self._take_body(core, package))
        if isinstance(result, NeedsProof):
            try:
                await self.verify_mixes(result.coins, peer)
            except BadMixError as error:
                forged = error
                await self._call(lambda core: core.condemn(package.anchor.id, forged))
                raise
            proven = ProvenAnchor(package)
            result = await self._call(lambda core: self._take_body(core, proven))
        assert isinstance(result, Outcome | Operation), "what is proven needs no proof"
        if isinstance(result, Outcome):
            return result
        if connected:
            await self._writer.result_of(result)
        return Outcome.ACCEPTED

    def _take_body(
        self, core: ChainCore, submitted: Package | ProvenAnchor
    ) -> Outcome | NeedsProof | Operation:
        """Check a body, in the writer's thread; return the choice of the tip that is still to be
        made if it counts."""
        result: Outcome | NeedsProof
        if isinstance(submitted, ProvenAnchor):
            package = submitted.package
            result = core.submit_proven_anchor(submitted, choose=False)
        else:
            package = submitted
            result = core.submit_package(submitted, choose=False)
        if result is not Outcome.ACCEPTED:
            return result
        self._recent[package.anchor.id] = (package.anchor, package.body)
        if len(self._recent) > RECENT:
            self._recent.popitem(last=False)
        return self._writer.choose_later()

    def recent_body(self, anchor_id: CoinId) -> tuple[Coin, Body] | None:
        """Return an anchor that came a moment ago and counts, with its body, without asking the
        writer, who may be about to connect it."""
        return self._recent.get(anchor_id)

    async def submit_chain(
        self, packages: Sequence[Package], *, proven: Collection[CoinId] = ()
    ) -> tuple[int, ProtocolError | None]:
        """Take in anchors in order, as sync and import have them; stop at the first bad one.

        Proofs and signatures are verified first, but for the mixes of the coins in `proven`.
        Returns how many were taken in or known already, and the rule that the next one broke.
        """
        return await self._chain_intake.submit(packages, proven)

    async def submit_batch(self, anchors: Sequence[ProvenAnchor]) -> BatchOutcome:
        """Take in anchors, lowest first; stop at the first that breaks a rule of its own.
        What is found wrong when they are connected is told through `changes`."""
        now_ms = self._clock.now_ms()
        return await self._call(lambda core: core.submit_batch(anchors, now_ms))

    async def submit_transfer(
        self,
        transfer: bytes | ProvenTransfer,
        *,
        hidden: bool = False,
        shown: Shown = frozenset(),
    ) -> Outcome:
        """Take in a transfer that came by itself: its whole encoding, or one that was proven where
        it was made. One that is `hidden` is shown to no peer until it is submitted without, or
        revealed, or an anchor lists it. Of the hidden ones only those `shown` to who sent it
        count, as if the others were not here.

        Raises the `ProtocolError` that it breaks, or the `PolicyError` for which it is not
        relayed. What the chain does not allow is refused before any signature is looked at.
        """
        wid = transfer.sized.wid if isinstance(transfer, ProvenTransfer) else wid_of(transfer)
        with span("transfer", wid):
            try:
                return await self._take_transfer(transfer, hidden, shown)
            except (ProtocolError, PolicyError) as error:
                self._log.debug("transfer.rejected", id=wid, rule=error.name, why=str(error))
                raise

    async def _take_transfer(
        self, transfer: bytes | ProvenTransfer, hidden: bool, shown: Shown
    ) -> Outcome:
        now_ms = self._clock.now_ms()
        if isinstance(transfer, ProvenTransfer):
            self._transfers.remember(transfer.sized.wid, ValidatedTransfer.of(transfer))
            proven = transfer
        else:
            found = await self._prove(transfer, now_ms, shown)
            if isinstance(found, Outcome):
                is_news = not hidden and await self.reveal_transfer(wid_of(transfer))
                return Outcome.ACCEPTED if is_news else found
            proven = found
        return await self._call(lambda core: core.submit_transfer(proven, now_ms, hidden, shown))

    async def reveal_transfer(self, wid: Wid) -> bool:
        """Let peers learn of a transfer from here; return whether it was hidden from them."""
        return await self._call(lambda core: core.mempool.reveal(wid))

    async def _prove(self, raw: bytes, now_ms: int, shown: Shown) -> ProvenTransfer | Outcome:
        known = self._transfers.proven(wid_of(raw))
        if known is not None:
            return known
        checked = await self._call(lambda core: core.check_transfer(raw, now_ms, shown))
        if isinstance(checked, Outcome):
            return checked
        return (await self.validate_transfer(checked)).proven()

    def proven_transfer(self, wid: Wid) -> ProvenTransfer | None:
        """Return a transfer that came not long ago and was found good, without asking the writer;
        from any thread."""
        return self._transfers.proven(wid)

    # Verifying

    async def verify_mixes(self, coins: Sequence[Coin], peer: str = "") -> None:
        """Recompute the Argon2id of coins, several at a time, of a `peer`'s at most two, until one
        is found to be forged. Raises `BadMixError`."""
        await self._verification.verify_mixes(coins, peer)

    async def find_forged(self, coins: Sequence[Coin]) -> CoinId | None:
        """Return the id of the first of some coins whose mix is not the Argon2id of its header,
        None if there is none. Coins that are known are passed over; those after it have not been
        looked at."""
        return await self._verification.find_forged(await self.queries.unknown_coins(coins))

    async def validate_transfer(self, sized: SizedTransfer) -> ValidatedTransfer:
        """Return what a decoded transfer is by its bytes; validated only if that was not done."""
        verdict = self._transfers.verdict(sized.wid)
        if verdict is not None:
            return ValidatedTransfer(sized, verdict, len(sized.raw))
        found = (await self._verification.validate([(sized.wid, sized)]))[sized.wid]
        self._transfers.remember(sized.wid, found)
        return found

    async def validate_transfers(self, transfers: Mapping[Wid, bytes]) -> None:
        """Validate transfers that bodies list by their bytes, several at a time, and remember what
        they are: before their anchors are connected."""
        unknown = [item for item in transfers.items() if self._transfers.verdict(item[0]) is None]
        for wid, found in (await self._verification.validate(unknown)).items():
            self._transfers.remember(wid, found)
