"""The chain as a service: the single writer that everything else talks to.

Whoever has a coin, a body or a transfer calls `submit_...` from any task. What is dear (proofs of
work, signatures) is verified in worker threads, several at a time; what changes the chain is
queued, and one task carries it out in one thread, in order. Nothing else touches the chain's
state. What happened is told through `changes` (every step) and `status` (the present).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final, TypeVar, cast

import outcome
import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.base.clock import Clock
from unchained.node.base.fanout import Broadcast, Watch
from unchained.node.base.runner import Runner
from unchained.node.chain.core import ChainCore
from unchained.node.chain.held_coins import Blame, EarlyCoins, Entry, Orphans
from unchained.node.chain.operation import Operation, Running, failure_of
from unchained.node.chain.results import Changes, Held, NeedsProof, Outcome, Package
from unchained.node.chain.status import ChainStatus, ManagerStatistics, status_of
from unchained.node.chain.template import Template, build_template
from unchained.node.chain.transfer_verdict import TransferVerdict
from unchained.node.chain.verifier import Verifier
from unchained.node.consensus.errors import (
    BadMixError,
    ProtocolError,
    TimeTooNewError,
    UnknownParentError,
)
from unchained.node.consensus.params import Network
from unchained.node.consensus.transfers import check_transfer_alone, decode_transfer
from unchained.node.crypto.pow import ProofOfWork
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.transfer import SizedTransfer, wid_of
from unchained.node.primitives.types import CoinId
from unchained.storage.kv import KeyValueStore

S = TypeVar("S")
T = TypeVar("T")

QUEUE: Final = 256
"""Operations that wait for the writer at most; who submits more waits."""

AT_ONCE: Final = 32
"""Operations that the writer carries out in one hop to its thread."""

RELEASED: Final = 4_096
"""Held coins that wait to be submitted again; at least as many as are ever held."""

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
        self._core = core
        self._clock = clock
        self._writer = writer
        self._verification = Verifier(core.network, verifier, verifiers, backend)
        self._log = log
        self._running = running
        self._send, self._receive = trio.open_memory_channel[Operation](QUEUE)
        self._released_in, self._released_out = trio.open_memory_channel[Entry](RELEASED)
        self._orphans = Orphans()
        self._early = EarlyCoins()
        self._early_changed = trio.Event()
        self._in_flight: dict[CoinId, trio.Event] = {}
        self.changes: Broadcast[Changes] = Broadcast(CHANGES_KEPT)
        """Every step of the chain, in order."""
        self.status: Watch[ChainStatus] = Watch(status_of(core, clock.now_ms()))
        """The present of the chain."""
        self._operations = self._coins = self._connected = self._disconnected = 0
        self._refused = 0
        self._in_bulk = 0
        self._choices: list[Operation] = []
        """Choices of the tip that bodies which have come make necessary, still to be made."""
        self._recent: OrderedDict[CoinId, tuple[Coin, Body]] = OrderedDict()
        self._has_ended = False

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

        def open_core() -> ChainCore:
            core = ChainCore(store, network, running.elapsed_ms)
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
                nursery.start_soon(self._write, name="chain.writer")
                nursery.start_soon(self._resubmit, name="chain.released")
                nursery.start_soon(self._watch_early, name="chain.early")
                nursery.start_soon(self._expire, name="chain.expiry")
                task_status.started()
        finally:
            self._turn_away()

    def _turn_away(self) -> None:
        """Answer all who wait for their turn, and who come from here on: nobody will serve them."""
        self._has_ended = True
        with suppress(trio.WouldBlock):
            while True:
                # Those who wait for room in the queue come after those who are in it.
                self._receive.receive_nowait().done.set()
        for choice in self._choices:
            choice.done.set()

    async def _write(self) -> None:
        while True:
            choices = tuple(self._choices)
            operations = [] if choices else [await self._receive.receive()]
            while len(operations) < AT_ONCE:
                try:
                    operations.append(self._receive.receive_nowait())
                except trio.WouldBlock:
                    break
            # What has begun is finished and told, whoever is cancelled meanwhile.
            with trio.CancelScope(shield=True):
                if operations:
                    await self._carry_out(operations)
                if choices:
                    # By now others have been told what is to be chosen from, and have had a turn.
                    await self._carry_out(choices)
                    del self._choices[: len(choices)]

    async def _carry_out(self, operations: Sequence[Operation]) -> None:
        self._running.note()
        now_ms = self._clock.now_ms()

        def work() -> tuple[list[Changes], ChainStatus]:
            steps = []
            for operation in operations:
                operation.result = outcome.capture(operation.work, self._core)
                if failure_of(operation.result) is not None:
                    break
                steps.append(self._core.take_changes())
            return steps, status_of(self._core, now_ms)

        try:
            steps, status = await self._writer.run(work)
            self._operations += len(operations)
            self._tell(steps, status)
        finally:
            for operation in operations:
                operation.done.set()
        for operation in operations:
            failure = None if operation.result is None else failure_of(operation.result)
            if failure is not None:
                # Whoever asked is told too.
                raise failure

    def _tell(self, steps: Sequence[Changes], status: ChainStatus) -> None:
        self.status.set(status)
        for step in steps:
            self._coins += len(step.coins)
            self._connected += len(step.connected)
            self._disconnected += len(step.disconnected)
            for anchor_id in step.counting:
                self._release_orphans(anchor_id)
            for anchor_id in step.barren:
                self._recent.pop(anchor_id, None)
                self._drop_orphans(anchor_id)
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
        for anchor_id, error in step.ruled_out:
            self._log.warning("anchor.invalid", id=anchor_id.hex(), rule=error.name, why=str(error))
        if step.refused is not None:
            self._log.error(
                "chain.reorg_refused",
                fork_height=step.refused.fork_height,
                depth=step.refused.depth,
                winner=step.refused.winner.hex(),
            )

    async def _resubmit(self) -> None:
        async for entry in self._released_out:
            await self._submit_again(*entry)

    async def _submit_again(self, coin: Coin, blame: Blame | None) -> None:
        try:
            await self.submit_coin(coin, blame=blame)
        except ProtocolError as error:
            self._log.info("coin.rejected", id=coin.id.hex(), rule=error.name, why=str(error))
            self._drop_orphans(coin.id)
            if blame is not None:
                blame(error)

    async def _watch_early(self) -> None:
        while True:
            self._early_changed = trio.Event()
            due_ms = self._early.next_due_ms()
            wait_s = math.inf if due_ms is None else max(0, due_ms - self._clock.now_ms()) / 1000
            with trio.move_on_after(wait_s):
                await self._early_changed.wait()
            for entry in self._early.release(self._clock.now_ms()):
                await self._submit_again(*entry)

    async def _expire(self) -> None:
        while True:
            await trio.sleep(EXPIRY_CHECK_S)
            await self.call(partial(ChainCore.expire_transfers, now_ms=self._clock.now_ms()))

    # Asking

    async def call(self, work: Callable[[ChainCore], T]) -> T:
        """Return ``work(core)``, carried out by the writer between other operations.

        Cancelled while it waits for its turn, the work may still be done. Raises
        `trio.ClosedResourceError` once `run` has ended.
        """
        if self._has_ended:
            raise trio.ClosedResourceError("the chain has stopped")
        operation = Operation(work)
        await self._send.send(operation)
        return cast("T", await self._result_of(operation))

    async def _result_of(self, operation: Operation) -> object:
        await operation.done.wait()
        if operation.result is None:
            raise trio.ClosedResourceError("the chain has stopped")
        return operation.result.unwrap()

    async def template(self) -> Template:
        """Return what a miner may work on."""
        return await self.call(build_template)

    @asynccontextmanager
    async def bulk(self) -> AsyncIterator[None]:
        """Let the anchors that are submitted inside share batches: for sync and import."""
        await self.call(ChainCore.begin_bulk)
        self._in_bulk += 1
        try:
            yield
        finally:
            self._in_bulk -= 1
            with trio.CancelScope(shield=True):
                await self.call(ChainCore.end_bulk)

    @asynccontextmanager
    async def deepened(self, height: int) -> AsyncIterator[None]:
        """Let branches be judged that leave the main chain at a height below the tree, until one
        of them has won. One at a time; `ChainCore.may_undo_from` has to allow it."""
        depth = self.status.value.height - height
        try:
            while not await self.call(partial(ChainCore.lower_root, height=height)):
                pass
            self._log.info("chain.deepened", fork_height=height, depth=depth)
            yield
        finally:
            with trio.CancelScope(shield=True):
                while not await self.call(self._let_root_rise):
                    pass

    def _let_root_rise(self, core: ChainCore) -> bool:
        # A branch that is cut off can win no more.
        self._choose(core)
        return core.let_root_rise()

    def statistics(self) -> ManagerStatistics:
        """Return counts since the start, and what is held."""
        return ManagerStatistics(
            self._operations,
            self._coins,
            self._connected,
            self._disconnected,
            self._verification.mixes,
            self._verification.judged,
            len(self._orphans),
            len(self._early),
            self._refused,
        )

    def awaited_anchors(self) -> list[CoinId]:
        """Return the ids of unknown anchors that held coins are bound to."""
        return self._orphans.parents()

    # Submitting

    async def submit_coin(
        self, coin: Coin, *, proven: bool = False, blame: Blame | None = None
    ) -> Outcome | Held:
        """Take in a coin from anywhere; `proven` if its mix has been verified or was mined here.

        Raises the `CoinError` that it breaks. A coin whose parent is unknown or whose time is too
        new is held, without its proof having been looked at; `blame` is told what it breaks when
        it can be judged.
        """
        while (pending := self._in_flight.get(coin.id)) is not None:
            await pending.wait()
        self._in_flight[coin.id] = trio.Event()
        try:
            return await self._submit_coin(coin, proven=proven)
        except UnknownParentError:
            return await self._hold_orphan(coin, blame)
        except TimeTooNewError:
            self._early.hold(coin, coin.header.time - self.network.future_limit_ms, blame)
            self._early_changed.set()
            return Held(None)
        finally:
            self._in_flight.pop(coin.id).set()

    async def _hold_orphan(self, coin: Coin, blame: Blame | None) -> Held:
        self._orphans.hold(coin, blame)
        # The parent may have been judged after the coin was and before it was held.
        if not await self.call(lambda core: core.is_awaited(coin.parent)):
            self._release_orphans(coin.parent)
        return Held(coin.parent)

    def _release_orphans(self, parent: CoinId) -> None:
        for entry in self._orphans.release(parent):
            # Where too many wait already, the candidates of the anchor are asked for.
            with suppress(trio.WouldBlock):
                self._released_in.send_nowait(entry)

    def _drop_orphans(self, anchor_id: CoinId) -> None:
        """Let go of what waits for an anchor that will never count, and of what waits for that."""
        lost = [anchor_id]
        while lost:
            lost += [coin.id for coin, _ in self._orphans.release(lost.pop())]

    async def _submit_coin(self, coin: Coin, *, proven: bool) -> Outcome:
        now_ms = self._clock.now_ms()
        result = await self.call(lambda core: core.submit_coin(coin, now_ms, proven=proven))
        if isinstance(result, NeedsProof):
            await self.verify_mixes(result.coins)
            result = await self.call(lambda core: core.submit_coin(coin, now_ms, proven=True))
        assert isinstance(result, Outcome), "what is proven needs no proof"
        return result

    async def submit_package(
        self, package: Package, *, proven: bool = False, connected: bool = True
    ) -> Outcome:
        """Take in an anchor's body, with all that it lists and that may be unknown here.

        The anchor's coin has to be known (`submit_coin`). Returns when the anchor has also been
        connected if it is the winner; without `connected` as soon as it has passed Protocol §5.2,
        which is told through `changes`: from then on it may be relayed. Raises
        `UnknownParentError` and `BodyMissingError` for "not yet", `BadBodyRootError` for the
        sender's fault, and the `ProtocolError` that makes the anchor invalid for good.
        """
        if package.transfers:
            await self.judge_transfers(package.transfers.values())
        result = await self.call(lambda core: self._take_body(core, package, proven=proven))
        if isinstance(result, NeedsProof):
            try:
                await self.verify_mixes(result.coins)
            except BadMixError as error:
                forged = error
                await self.call(lambda core: core.condemn(package.anchor.id, forged))
                raise
            result = await self.call(lambda core: self._take_body(core, package, proven=True))
        assert isinstance(result, Outcome | Operation), "what is proven needs no proof"
        if isinstance(result, Outcome):
            return result
        if connected:
            await self._result_of(result)
        return Outcome.ACCEPTED

    def _take_body(
        self, core: ChainCore, package: Package, *, proven: bool
    ) -> Outcome | NeedsProof | Operation:
        """Judge a body, in the writer's thread; return the choice of the tip that is still to be
        made if it counts."""
        result = core.submit_package(package, proven=proven, choose=False)
        if result is not Outcome.ACCEPTED:
            return result
        self._recent[package.anchor.id] = (package.anchor, package.body)
        if len(self._recent) > RECENT:
            self._recent.popitem(last=False)
        choice = Operation(ChainCore.advance)
        self._choices.append(choice)
        return choice

    def _choose(self, core: ChainCore) -> None:
        """Make, in the writer's thread, the choices that are still to be made."""
        for choice in self._choices:
            choice.work(core)

    def recent_body(self, anchor_id: CoinId) -> tuple[Coin, Body] | None:
        """Return an anchor that came a moment ago and counts, with its body, without asking the
        writer, who may be about to connect it."""
        return self._recent.get(anchor_id)

    async def submit_chain(
        self, packages: Sequence[Package], *, proven: Collection[CoinId] = ()
    ) -> tuple[int, ProtocolError | None]:
        """Take in anchors in order, as sync and import have them; stop at the first bad one.

        Proofs are verified together first, but for the coins in `proven`. Returns how many were
        taken in or known already, and the rule that the next one broke.
        """
        coins = [
            coin
            for package in packages
            for coin in (package.anchor, *package.coins.values())
            if coin.id not in proven
        ]
        forged = await self.find_forged(coins)
        sound = next(
            (at for at, package in enumerate(packages) if _coin_ids(package) & forged),
            len(packages),
        )
        await self.judge_transfers(
            [raw for package in packages[:sound] for raw in package.transfers.values()]
        )
        now_ms = self._clock.now_ms()

        def submit(core: ChainCore) -> tuple[int, ProtocolError | None]:
            # Whoever sent these has to hear which rule they break when they are connected.
            self._choose(core)
            return core.submit_chain(packages[:sound], now_ms)

        done, error = await self.call(submit)
        if error is None and sound < len(packages):
            error = await self._submit_forged(packages[sound])
        return done, error

    async def _submit_forged(self, package: Package) -> ProtocolError | None:
        """Submit what has a forged proof by the ordinary way, for the rule that it breaks first."""
        try:
            await self.submit_coin(package.anchor)
            await self.submit_package(package)
        except ProtocolError as error:
            return error
        return None

    async def submit_transfer(self, raw: bytes) -> Outcome:
        """Take in a transfer that came by itself.

        Raises the `ProtocolError` that it breaks, or the `PolicyError` for which it is not
        relayed. What the chain does not allow is refused before any signature is looked at.
        """
        now_ms = self._clock.now_ms()
        sized = await self.call(lambda core: _check_transfer(core, raw, now_ms))
        if isinstance(sized, Outcome):
            return sized
        transfer = sized
        (verdict,) = await self.judge_transfers((raw,))
        verdict.raise_alone()
        verdict.raise_witness()
        return await self.call(lambda core: core.submit_transfer(transfer, now_ms))

    # Verifying

    async def verify_mixes(self, coins: Sequence[Coin]) -> None:
        """Recompute the Argon2id of coins, several at a time. Raises `BadMixError`."""
        await self._verification.verify_mixes(coins)

    async def find_forged(self, coins: Sequence[Coin]) -> set[CoinId]:
        """Return the ids of the coins whose mix is not the Argon2id of their header.

        Coins that are known, or that fail without a look at their mix, are passed over.
        """
        unknown = await self.call(
            lambda core: [coin for coin in coins if not core.knows_coin(coin.id)]
        )
        return await self._verification.find_forged(unknown)

    async def judge_transfers(self, raws: Collection[bytes]) -> list[TransferVerdict]:
        """Judge transfers by their bytes, several at a time; remember and return the verdicts."""
        wids = [wid_of(raw) for raw in raws]
        known = await self.call(lambda core: [core.verdicts.get(wid) for wid in wids])
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

            await self.call(remember)
            return [
                news[wid] if verdict is None else verdict
                for wid, verdict in zip(wids, known, strict=True)
            ]
        return [verdict for verdict in known if verdict is not None]


def _coin_ids(package: Package) -> set[CoinId]:
    return {package.anchor.id, *package.coins}


def _check_transfer(core: ChainCore, raw: bytes, now_ms: int) -> SizedTransfer | Outcome:
    sized = decode_transfer(raw)
    check_transfer_alone(sized.transfer, core.network)
    checked = core.check_transfer(sized, now_ms)
    return checked if isinstance(checked, Outcome) else sized
