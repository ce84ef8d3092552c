"""Coins on their way in: proven after all cheap checks, held where they cannot be validated yet."""

from __future__ import annotations

import math
from collections.abc import Sequence

import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.base.clock import Clock
from unchained.node.chain.held_coins import EarlyCoins, HeldCoin, Orphans, Sender
from unchained.node.chain.released_coins import ReleasedCoins
from unchained.node.chain.results import Held, Outcome, ProvenCoin
from unchained.node.chain.verifier import Verifier
from unchained.node.chain.writer import ChainWriter
from unchained.node.consensus.coins import is_too_new
from unchained.node.consensus.errors import (
    BadMixError,
    ProtocolError,
    TimeTooNewError,
    UnknownParentError,
)
from unchained.node.consensus.params import Network
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId


class CoinIntake:
    """Submits coins to the chain's writer, and again those that had to be held."""

    def __init__(
        self,
        network: Network,
        writer: ChainWriter,
        verifier: Verifier,
        *,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self._network = network
        self._writer = writer
        self._verifier = verifier
        self._clock = clock
        self._log = log
        self._released = ReleasedCoins()
        self._orphans = Orphans()
        self._early = EarlyCoins()
        self._early_changed = trio.Event()
        self._in_flight: dict[CoinId, trio.Event] = {}

    @property
    def orphans(self) -> int:
        """How many coins are held for unknown parents."""
        return len(self._orphans)

    @property
    def early(self) -> int:
        """How many coins are held for the clock."""
        return len(self._early)

    def awaited_anchors(self) -> list[CoinId]:
        """Return the ids of unknown anchors that held coins are bound to."""
        return self._orphans.parents()

    async def submit(
        self, submitted: Coin | ProvenCoin, *, sender: Sender | None = None
    ) -> Outcome | Held:
        """Take in a coin, as `ChainService.submit_coin` does."""
        if sender is None:
            return await self._submit_one_by_one(submitted, None)
        # Protocol §11: "At most two unproven coins per peer are in verification at a time"
        try:
            async with self._verifier.places.place(sender.peer):
                return await self._submit_one_by_one(submitted, sender)
        except BadMixError:
            # Protocol §11: a forged mix bans at once, and what is held goes with a banned peer
            self.forget_sender(sender.peer)
            raise

    async def _submit_one_by_one(
        self, submitted: Coin | ProvenCoin, sender: Sender | None
    ) -> Outcome | Held:
        """Submit a coin when nobody else has it in hand."""
        coin = submitted.coin if isinstance(submitted, ProvenCoin) else submitted
        while (pending := self._in_flight.get(coin.id)) is not None:
            await pending.wait()
        self._in_flight[coin.id] = trio.Event()
        try:
            return await self._submit_known_parent(submitted, sender)
        except UnknownParentError:
            return await self._hold_orphan(HeldCoin(submitted, sender))
        except TimeTooNewError:
            if coin.id in self._early:
                return Held(None)
            if not self._may_hold_early(HeldCoin(submitted, sender)):
                raise
            if isinstance(submitted, Coin):
                await self._verify((coin,), sender)
            self._hold_early(HeldCoin(ProvenCoin(coin), sender))
            return Held(None)
        finally:
            self._in_flight.pop(coin.id).set()

    async def _verify(self, coins: Sequence[Coin], sender: Sender | None) -> None:
        peer = "" if sender is None else sender.peer
        await self._verifier.verify_mixes(coins, peer, has_place=True)

    async def _submit_known_parent(self, coin: Coin | ProvenCoin, sender: Sender | None) -> Outcome:
        now_ms = self._clock.now_ms()
        if isinstance(coin, Coin):
            unproven = coin
            result = await self._writer.call(lambda core: core.submit_coin(unproven, now_ms))
            if isinstance(result, Outcome):
                return result
            await self._verify(result.coins, sender)
            proven = ProvenCoin(coin)
        else:
            proven = coin
        return await self._writer.call(lambda core: core.submit_proven_coin(proven, now_ms))

    async def _hold_orphan(self, held: HeldCoin) -> Held:
        parent = held.coin.parent
        self._log.debug("coin.held", id=held.coin.id, parent=parent, why="its parent is unknown")
        self._orphans.hold(held)
        # The parent may have been validated after the coin was and before it was held.
        if not await self._writer.call(lambda core: core.is_awaited(parent)):
            self.note_counted(parent)
        return Held(parent)

    def _may_hold_early(self, held: HeldCoin) -> bool:
        # Protocol §3.3: "At most 2 * FUTURE_LIMIT ahead: proven, then held"
        is_far = is_too_new(held.coin, self._clock.now_ms(), self._network, limits=2)
        return not is_far and self._early.has_room(held.peer)

    def _hold_early(self, held: HeldCoin) -> None:
        coin = held.coin
        self._log.debug("coin.held", id=coin.id, parent=coin.parent, why="its time is to come")
        self._early.hold(held, held.coin.header.time - self._network.future_limit_ms)
        self._early_changed.set()

    def note_counted(self, anchor_id: CoinId) -> None:
        """Release what waits for an anchor: it can be validated now."""
        for held in self._orphans.release(anchor_id):
            self._released.add(held)

    def forget_sender(self, peer: str) -> None:
        """Let go of all that a peer has sent and that is held: it is banned."""
        self._orphans.forget(peer)
        self._early.forget(peer)
        self._released.forget(peer)

    def note_barren(self, anchor_id: CoinId) -> None:
        """Let go of what waits for an anchor that will never count, and of what waits for that."""
        lost = [anchor_id]
        while lost:
            lost += [held.coin.id for held in self._orphans.release(lost.pop())]

    async def resubmit_released(self) -> None:
        """Submit again what has been released, until cancelled."""
        await self._released.serve(self)

    async def resubmit_early(self) -> None:
        """Submit again what has waited for the clock, until cancelled."""
        while True:
            self._early_changed = trio.Event()
            due_ms = self._early.next_due_ms()
            wait_s = math.inf if due_ms is None else max(0, due_ms - self._clock.now_ms()) / 1000
            with trio.move_on_after(wait_s):
                await self._early_changed.wait()
            for held in self._early.release(self._clock.now_ms()):
                self._released.add(held)

    async def submit_again(self, held: HeldCoin) -> None:
        """Submit a coin that was held."""
        try:
            await self.submit(held.submitted, sender=held.sender)
        except ProtocolError as error:
            coin_id = held.coin.id
            self._log.info("coin.rejected", id=coin_id.hex(), rule=error.name, why=str(error))
            self.note_barren(coin_id)
            if held.sender is not None:
                held.sender.blame(error)
