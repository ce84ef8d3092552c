"""What an event of a wallet's log says, as JSON holds it: for event streams, commands and URLs."""

from __future__ import annotations

from unchained.node.primitives.amounts import full
from unchained.node.wallet.records import HistoryChange, HistoryKind, WalletEvent

EventData = dict[str, str | int | bool | None]
"""Amounts are decimal UNC with eight decimals, ids hex digits, times ms since the Unix epoch."""


def event_data(event: WalletEvent) -> EventData:
    """Return what an event says."""
    change = event.change
    if isinstance(change, HistoryChange):
        name = "coin" if change.kind is HistoryKind.MINED else "txid"
        return {
            name: change.key.hex(),
            "kind": change.kind.name.lower(),
            "status": change.status.name.lower(),
            "height": change.height,
            "undone_height": change.undone_height,
            "received": full(change.received),
            "sent": full(change.sent),
            "time": event.time_ms,
        }
    return {
        "invoice": change.tag.hex(),
        "status": change.status.name.lower(),
        "amount": None if change.amount is None else full(change.amount),
        "received": full(change.received),
        "pending": full(change.pending),
        "confirmed": change.confirmed,
        "received_confirmed": full(change.received_confirmed)
        if change.received_confirmed
        else None,
        "label": change.label,
        "time": event.time_ms,
    }
