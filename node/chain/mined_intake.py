"""Coins mined here, or elsewhere on a template of this node: an anchor's body goes in with its
coin, and where the coin has to wait, it waits with it."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.chain.chain_intake import SingleIntake
from unchained.node.chain.held_coins import MAX_EARLY_OF_PEER
from unchained.node.chain.results import Held, Outcome, Package, ProvenCoin
from unchained.node.chain.template import Template
from unchained.node.chain.writer import ChainWriter
from unchained.node.consensus.coins import is_anchor_grade
from unchained.node.consensus.errors import ProtocolError
from unchained.node.consensus.params import Network
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId

HELD_BODIES_MAX: Final = MAX_EARLY_OF_PEER
"""Anchors whose bodies wait for their coins to count; the oldest of them goes first."""


class MinedIntake:
    """Submits mined coins, each anchor with the body of the template that it was found on.

    Nobody else has that body: it stays here, with the bytes of its transfers, until its coin
    counts, in whatever way and from whomever the coin comes to count.
    """

    def __init__(
        self,
        network: Network,
        writer: ChainWriter,
        single: SingleIntake,
        *,
        log: FilteringBoundLogger,
    ) -> None:
        self._network = network
        self._writer = writer
        self._single = single
        self._log = log
        self._held: OrderedDict[CoinId, tuple[Coin, Template]] = OrderedDict()
        self._counted: dict[CoinId, None] = {}
        """Those of them whose coin counts by now, in order."""
        self._has_counted = trio.Event()

    @property
    def held(self) -> int:
        """How many anchors' bodies wait for their coins to count."""
        return len(self._held)

    async def submit(
        self, submitted: Coin | ProvenCoin, template: Template | None
    ) -> Outcome | Held:
        """Take in a coin, and its body if it is of anchor grade and the template is known.

        Raises the `ProtocolError` that either breaks.
        """
        coin = submitted.coin if isinstance(submitted, ProvenCoin) else submitted
        outcome = await self._single.submit_coin(submitted)
        if template is None or not is_anchor_grade(coin, self._network):
            return outcome
        if isinstance(outcome, Held) or (
            outcome is Outcome.KNOWN
            and await self._writer.call(lambda core: core.admission.awaits(coin))
        ):
            self._hold(coin, template)
            # The coin may have come to count after it was held and before its body was.
            if await self._writer.call(lambda core: core.tree.get(coin.id) is not None):
                self.note_counted(coin.id)
            return outcome if isinstance(outcome, Held) else Held(None)
        await self._submit_body(coin, template)
        return outcome

    async def _submit_body(self, anchor: Coin, template: Template) -> None:
        await self._single.submit_package(Package(anchor, template.body, {}, {}))

    def _hold(self, coin: Coin, template: Template) -> None:
        self._held[coin.id] = (coin, template)
        if len(self._held) > HELD_BODIES_MAX:
            self._counted.pop(self._held.popitem(last=False)[0], None)

    def note_counted(self, coin_id: CoinId) -> None:
        """Release the body that waits for a coin, if one does: the coin counts now."""
        if coin_id in self._held:
            self._counted[coin_id] = None
            self._has_counted.set()

    async def submit_released(self) -> None:
        """Submit the bodies of coins that have come to count, until cancelled."""
        while True:
            await self._has_counted.wait()
            self._has_counted = trio.Event()
            while self._counted:
                coin_id = next(iter(self._counted))
                del self._counted[coin_id]
                anchor, template = self._held.pop(coin_id)
                try:
                    await self._submit_body(anchor, template)
                except ProtocolError as error:
                    self._log.warning(
                        "coin.rejected", id=coin_id.hex(), rule=error.name, why=str(error)
                    )
