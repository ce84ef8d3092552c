"""Coins on their way in: proven after all cheap checks, held where it is too early to judge."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Final

import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.base.clock import Clock
from unchained.node.chain.held_coins import Blame, EarlyCoins, Entry, Orphans
from unchained.node.chain.results import Held, Outcome, ProvenCoin
from unchained.node.chain.verifier import Verifier
from unchained.node.chain.writer import ChainWriter
from unchained.node.consensus.errors import ProtocolError, TimeTooNewError, UnknownParentError
from unchained.node.consensus.params import Network
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId

RELEASED_COINS_MAX: Final = 4_096
"""Held coins that wait to be submitted again; at least as many as are ever held."""


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
        self._released_in, self._released_out = trio.open_memory_channel[Entry](RELEASED_COINS_MAX)
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
        self, submitted: Coin | ProvenCoin, *, blame: Blame | None = None
    ) -> Outcome | Held:
        """Take in a coin, as `ChainService.submit_coin` does."""
        coin = submitted.coin if isinstance(submitted, ProvenCoin) else submitted
        while (pending := self._in_flight.get(coin.id)) is not None:
            await pending.wait()
        self._in_flight[coin.id] = trio.Event()
        try:
            return await self._submit_known_parent(submitted)
        except UnknownParentError:
            return await self._hold_orphan(coin, blame)
        except TimeTooNewError:
            self._early.hold(coin, coin.header.time - self._network.future_limit_ms, blame)
            self._early_changed.set()
            return Held(None)
        finally:
            self._in_flight.pop(coin.id).set()

    async def _submit_known_parent(self, coin: Coin | ProvenCoin) -> Outcome:
        now_ms = self._clock.now_ms()
        if isinstance(coin, Coin):
            unproven = coin
            result = await self._writer.call(lambda core: core.submit_coin(unproven, now_ms))
            if isinstance(result, Outcome):
                return result
            await self._verifier.verify_mixes(result.coins)
            proven = ProvenCoin(coin)
        else:
            proven = coin
        return await self._writer.call(lambda core: core.submit_proven_coin(proven, now_ms))

    async def _hold_orphan(self, coin: Coin, blame: Blame | None) -> Held:
        self._orphans.hold(coin, blame)
        # The parent may have been judged after the coin was and before it was held.
        if not await self._writer.call(lambda core: core.is_awaited(coin.parent)):
            self.note_counted(coin.parent)
        return Held(coin.parent)

    def note_counted(self, anchor_id: CoinId) -> None:
        """Release what waits for an anchor: it can be judged now."""
        for entry in self._orphans.release(anchor_id):
            # Where too many wait already, the candidates of the anchor are asked for.
            with suppress(trio.WouldBlock):
                self._released_in.send_nowait(entry)

    def note_barren(self, anchor_id: CoinId) -> None:
        """Let go of what waits for an anchor that will never count, and of what waits for that."""
        lost = [anchor_id]
        while lost:
            lost += [coin.id for coin, _ in self._orphans.release(lost.pop())]

    async def resubmit_released(self) -> None:
        """Submit again what has been released, until cancelled."""
        async for entry in self._released_out:
            await self._submit_again(*entry)

    async def resubmit_early(self) -> None:
        """Submit again what has waited for the clock, until cancelled."""
        while True:
            self._early_changed = trio.Event()
            due_ms = self._early.next_due_ms()
            wait_s = math.inf if due_ms is None else max(0, due_ms - self._clock.now_ms()) / 1000
            with trio.move_on_after(wait_s):
                await self._early_changed.wait()
            for entry in self._early.release(self._clock.now_ms()):
                await self._submit_again(*entry)

    async def _submit_again(self, coin: Coin, blame: Blame | None) -> None:
        try:
            await self.submit(coin, blame=blame)
        except ProtocolError as error:
            self._log.info("coin.rejected", id=coin.id.hex(), rule=error.name, why=str(error))
            self.note_barren(coin.id)
            if blame is not None:
                blame(error)
