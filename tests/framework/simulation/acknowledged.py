"""What a node has said was done, and so has to be there whenever it is started again.

Of the chain: every event of a step that moved the tip, whose batch was synced, and the coin set
that it told of each tip. Of its wallets: every payment that whoever asked for it was told was sent.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from unchained.node.chain.core import ChainCore
from unchained.node.chain.results import Changes
from unchained.node.primitives.types import CoinId
from unchained.node.wallet.errors import NoSuchTransferError
from unchained.node.wallet.wallet import Wallet
from unchained.storage import schema
from unchained.storage.kv import Reader
from unchained.storage.schema import AnchorConnected, AnchorDisconnected, Event

if TYPE_CHECKING:
    from tests.framework.simulation.simulated_node import SimulatedNode

TIP_EVENTS: Final = (AnchorConnected, AnchorDisconnected)
EVENTS_KEPT: Final = 512
"""The last events that are looked for one by one; what lies before them is counted."""


class Standing(tuple[bytes, int, int]):
    """State root after an anchor, supply and pool, grains."""


class Acknowledged:
    """What one node has acknowledged since it began on its disk."""

    def __init__(self) -> None:
        self.anchors: dict[CoinId, int] = {}
        """Anchors that a synced batch has connected, with their heights: none is ever lost but with
        a branch that left the main chain below the tree (Protocol §6)."""
        self.next_event = 0
        """Number of the first event that need not be there."""
        self._events: OrderedDict[int, Event] = OrderedDict()
        self._standings: dict[CoinId, Standing] = {}

    def note(self, step: Changes, core: ChainCore) -> None:
        """Take note of a step whose batches are synced where they move the tip."""
        self.anchors.update((anchor.coin.id, anchor.coin.height) for anchor in step.connected)
        synced = 0
        for index, event in enumerate(step.events):
            if isinstance(event, TIP_EVENTS):
                synced = index + 1
        if not synced:
            return
        # What follows the last move of the tip may not be synced yet.
        for number, event in enumerate(step.events[:synced], step.first_event):
            self._events[number] = event
        while len(self._events) > EVENTS_KEPT:
            self._events.popitem(last=False)
        self.next_event = step.first_event + synced
        self._standings[core.tip.id] = standing_of(core)

    def lost(self, store: Reader, max_reorg: int) -> str:
        """Return what of it a store does not hold, one line, empty if it holds all."""
        top = max((height for height, _ in schema.HEIGHT.scan(store)), default=0)
        for anchor_id, height in self.anchors.items():
            record = schema.ANCHOR.get(store, anchor_id)
            is_there = record is not None and record.body and schema.COIN.get(store, anchor_id)
            is_due = height > top - max_reorg or schema.HEIGHT.get(store, height) == anchor_id
            if is_due and not is_there:
                return f"anchor {anchor_id.hex()} that it connected"
        said = schema.meta_number(store, schema.META_NEXT_EVENT) or 0
        if said < self.next_event:
            return f"events from {said} on, of {self.next_event} that it told"
        for number, event in self._events.items():
            if schema.EVENT.get(store, number) != event:
                return f"event {number}, {event}, that it told"
        return self._tip_lost(store)

    def _tip_lost(self, store: Reader) -> str:
        """Return what is missing of the tip that the events lead to."""
        tip = schema.meta_id(store, schema.META_TIP)
        if tip is None:
            return "its tip" if self.anchors else ""
        height = next(
            (
                event.height
                for event in reversed(self._events.values())
                if isinstance(event, AnchorConnected) and event.anchor_id == tip
            ),
            None,
        )
        if height is None:
            return ""
        if schema.HEIGHT.get(store, height) != tip or schema.STATE.get(store, height) is None:
            return f"the state of its tip at height {height}"
        return ""

    def differs(self, core: ChainCore) -> str:
        """Return what a chain that was opened anew says otherwise of its tip than it did."""
        before = self._standings.get(core.tip.id)
        if before is None or before == standing_of(core):
            return ""
        return f"another state root, supply or pool at tip {core.tip.id.hex()} than it had"


def standing_of(core: ChainCore) -> Standing:
    """Return what a chain says of the coin set at its tip."""
    ledger = core.ledger
    return Standing((ledger.state_root(), ledger.supply, ledger.pool))


def forgotten_payment(node: SimulatedNode, wallet: Wallet) -> str:
    """Return a payment that a wallet was told was sent and that it does not know, by txid."""
    for txid in node.sent:
        try:
            wallet.store.outgoing(txid)
        except NoSuchTransferError:
            return txid.hex()
    return ""
