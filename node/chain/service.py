"""The chain as a service: what may be done to it, by name.

Whoever has a coin, a body or a transfer calls `submit_...` from any task. What is expensive (proofs
of work, signatures) is verified in worker threads, several at a time; what changes the chain is
queued for its one writer. What is known is asked of `queries`. What happened is told through
`changes` (every step) and `status` (the present).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, TypeVar

import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.base.clock import Clock
from unchained.node.base.fanout import Broadcast, Watch
from unchained.node.base.runner import Runner
from unchained.node.chain.chain_intake import ChainIntake
from unchained.node.chain.clock_watch import ClockWatch
from unchained.node.chain.coin_intake import CoinIntake
from unchained.node.chain.core import ChainCore
from unchained.node.chain.held_coins import Sender
from unchained.node.chain.live_queries import LiveQueries
from unchained.node.chain.operation import Operation, Running
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
from unchained.node.chain.status import ChainStatus, ManagerStatistics, status_of
from unchained.node.chain.template import Template, build_template
from unchained.node.chain.verifier import Verifier
from unchained.node.chain.writer import ChainWriter
from unchained.node.consensus.errors import BadMixError, ProtocolError
from unchained.node.consensus.params import Network
from unchained.node.consensus.transfer_verdict import TransferVerdict
from unchained.node.consensus.transfers import check_transfer_alone, decode_transfer
from unchained.node.crypto.pow import ProofOfWork
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.transfer import SizedTransfer, wid_of
from unchained.node.primitives.types import CoinId
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
    ) -> None:
        self.network = core.network
        self._clock = clock
        self._writer = ChainWriter(core, clock=clock, runner=writer, running=running, listener=self)
        self.queries: ChainQueries = LiveQueries(self._writer)
        """What is known of the chain."""
        self._verification = Verifier(core.network, verifier, verifiers, backend)
        self._log = log
        self._intake = CoinIntake(
            core.network, self._writer, self._verification, clock=clock, log=log
        )
        self._chain_intake = ChainIntake(self._writer, self._verification, self, clock=clock)
        self.changes: Broadcast[Changes] = Broadcast(CHANGES_KEPT)
        """Every step of the chain, in order."""
        self.status: Watch[ChainStatus] = Watch(status_of(core, clock.now_ms()))
        """The present of the chain."""
        self._clock_watch = ClockWatch(self._writer, self.status, clock=clock, log=log)
        self._coins = self._connected = self._disconnected = 0
        self._refused = 0
        self._in_bulk = 0
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
    ) -> ChainService:
        """Open the chain of a store, and follow the winner if it is not connected yet.

        Raises a `StoreError`.
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
                nursery.start_soon(self._expire, name="chain.expiry")
                nursery.start_soon(self._clock_watch.run, name="chain.clock")
                task_status.started()
        finally:
            self._writer.end()

    def note_steps(self, steps: Sequence[Changes], status: ChainStatus) -> None:
        """Let others hear of what the writer has done; called by the writer alone."""
        self._clock_watch.note(status)
        self.status.set(status)
        for step in steps:
            self._coins += len(step.coins)
            self._connected += len(step.connected)
            self._disconnected += len(step.disconnected)
            for anchor in step.counted:
                self._intake.note_counted(anchor.id)
            for anchor_id in step.barren:
                self._recent.pop(anchor_id, None)
                self._intake.note_barren(anchor_id)
            self._refused += step.refused is not None
            self._log_step(step)
            self.changes.send(step)

    def _log_step(self, step: Changes) -> None:
        for height, anchor_id in step.disconnected:
            self._log.info("anchor.disconnected", height=height, id=anchor_id.hex())
        # In bulk a line for each would push all else out of the log.
        for anchor in step.connected[-1:] if self._in_bulk else step.connected:
            self._log.info(
                "anchor.connected",
                height=anchor.height,
                id=anchor.id.hex(),
                fresh=anchor.fresh,
                late=anchor.late,
                stray=anchor.stray,
                transfers=anchor.transfers,
            )
        # In bulk the anchors that are connected say enough.
        for counted in () if self._in_bulk else step.counted:
            self._log.debug(
                "anchor.counted",
                height=counted.height,
                id=counted.id.hex(),
                parent=counted.parent.hex(),
            )
        for anchor_id, error in step.dead:
            self._log.warning("anchor.dead", **_broken(anchor_id, error))
        for anchor_id, error in step.ruled_out:
            self._log.warning("anchor.invalid", **_broken(anchor_id, error))
        for anchor_id, is_aside in step.aside:
            if is_aside:
                self._log.warning("anchor.set_aside", id=anchor_id.hex())
            else:
                self._log.warning("anchor.taken_back", id=anchor_id.hex())
        if step.refused is not None:
            self._log.error(
                "chain.reorg_refused",
                fork_height=step.refused.fork_height,
                depth=step.refused.depth,
                winner=step.refused.winner.hex(),
            )

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

    async def may_undo(self, fork_height: int, winner: CoinId, lead: int) -> bool:
        """Tell whether this node follows by itself a better branch that leaves its main chain at
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
        on disk too, until `take_back`; tell whether that is news. Raises `UnknownAnchorError`."""
        return await self._call(partial(ChainCore.set_aside, anchor_id=anchor_id))

    async def take_back(self, anchor_id: CoinId) -> bool:
        """Let an anchor that was set aside count again, with all that descends from it; tell
        whether that is news. Raises `UnknownAnchorError`."""
        return await self._call(partial(ChainCore.take_back, anchor_id=anchor_id))

    async def refuse(self, fork_height: int, winner: CoinId, lead: int) -> None:
        """Leave a better branch to the operator. `lead`: by how much its headers show more work
        than the main chain's; it stands until the main chain has made up for that."""
        await self._call(lambda core: core.refuse(fork_height, winner, lead))

    @asynccontextmanager
    async def deepened(self, height: int) -> AsyncIterator[None]:
        """Let branches be judged that leave the main chain at a height below the tree, until one
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
        return ManagerStatistics(
            self._writer.operations,
            self._coins,
            self._connected,
            self._disconnected,
            self._verification.mixes,
            self._verification.judged,
            self._intake.orphans,
            self._intake.early,
            self._refused,
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
        has been proven. The sender is told what it breaks when it can be judged.
        """
        return await self._intake.submit(coin, sender=sender)

    def forget_sender(self, peer: str) -> None:
        """Let go of all coins of a banned peer that are held."""
        self._intake.forget_sender(peer)

    async def submit_package(self, package: Package, *, connected: bool = True) -> Outcome:
        """Take in an anchor's body, with all that it lists and that may be unknown here.

        The anchor's coin has to be known (`submit_coin`). Returns when the anchor has also been
        connected if it is the winner; without `connected` as soon as it has passed Protocol §5.2,
        which is told through `changes`: from then on it may be relayed. Raises
        `UnknownParentError` and `BodyMissingError` for "not yet", `BadBodyRootError` for the
        sender's fault, and the `ProtocolError` that makes the anchor invalid for good.
        """
        if package.transfers:
            await self.judge_transfers(package.transfers.values())
        result = await self._call(lambda core: self._take_body(core, package))
        if isinstance(result, NeedsProof):
            try:
                await self.verify_mixes(result.coins)
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
        """Judge a body, in the writer's thread; return the choice of the tip that is still to be
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

    async def submit_transfer(self, raw: bytes) -> Outcome:
        """Take in a transfer that came by itself.

        Raises the `ProtocolError` that it breaks, or the `PolicyError` for which it is not
        relayed. What the chain does not allow is refused before any signature is looked at.
        """
        now_ms = self._clock.now_ms()
        sized = await self._call(lambda core: _check_transfer(core, raw, now_ms))
        if isinstance(sized, Outcome):
            return sized
        transfer = sized
        (verdict,) = await self.judge_transfers((raw,))
        verdict.raise_alone()
        verdict.raise_witness()
        return await self._call(lambda core: core.submit_transfer(transfer, now_ms))

    # Verifying

    async def verify_mixes(self, coins: Sequence[Coin]) -> None:
        """Recompute the Argon2id of coins, several at a time. Raises `BadMixError`."""
        await self._verification.verify_mixes(coins)

    async def find_forged(self, coins: Sequence[Coin]) -> set[CoinId]:
        """Return the ids of the coins whose mix is not the Argon2id of their header.

        Coins that are known, or that fail without a look at their mix, are passed over.
        """
        return await self._verification.find_forged(await self.queries.unknown_coins(coins))

    async def judge_transfers(self, raws: Collection[bytes]) -> list[TransferVerdict]:
        """Judge transfers by their bytes, several at a time; remember and return the verdicts."""
        wids = [wid_of(raw) for raw in raws]
        known = await self._call(lambda core: [core.verdicts.get(wid) for wid in wids])
        open_cases = [
            (wid, raw)
            for wid, raw, verdict in zip(wids, raws, known, strict=True)
            if verdict is None
        ]
        if open_cases:
            news = await self._verification.judge(open_cases)

            def remember(core: ChainCore) -> None:
                for wid, verdict in news.items():
                    core.verdicts.remember(wid, verdict)

            await self._call(remember)
            return [
                news[wid] if verdict is None else verdict
                for wid, verdict in zip(wids, known, strict=True)
            ]
        return [verdict for verdict in known if verdict is not None]


def _broken(anchor_id: CoinId, error: ProtocolError) -> dict[str, str]:
    return {"id": anchor_id.hex(), "rule": error.name, "why": str(error)}


def _check_transfer(core: ChainCore, raw: bytes, now_ms: int) -> SizedTransfer | Outcome:
    sized = decode_transfer(raw)
    check_transfer_alone(sized.transfer, core.network)
    checked = core.check_transfer(sized, now_ms)
    return checked if isinstance(checked, Outcome) else sized
