"""One thing that programs outside are told of."""

from __future__ import annotations

from typing import Final, Literal, Protocol

import msgspec

from unchained.node.wallet.event_data import EventData, event_data
from unchained.node.wallet.records import InvoiceChange, WalletEvent

Subject = Literal["wallet", "invoice", "anchor", "reorg"]
"""What notices are about, as the settings name it."""


CHAIN_LOG: Final = "chain"
"""What the chain's log is called; those of wallets have 16 hexadecimal digits."""


class Notice(msgspec.Struct, frozen=True):
    """Something that happened. `event` is its dotted name; `key` names what it is about, an id in
    hex; `wallet` is empty for what is of the chain. `sequence` is that of the wallet's log, whose
    id is `log`, or of the chain's."""

    network: str
    subject: Subject
    wallet: str
    sequence: int
    event: str
    key: str
    height: int | None
    data: EventData
    log: str = CHAIN_LOG

    @property
    def id(self) -> str:
        """What tells this notice from every other one of the node, for all time."""
        return f"{self.network}.{self.log}.{self.sequence}"

    @classmethod
    def of_wallet(cls, network: str, wallet: str, log: str, event: WalletEvent) -> Notice:
        """Return what an entry of a wallet's log is told as; `log` is that log's id."""
        change = event.change
        if isinstance(change, InvoiceChange):
            subject: Subject = "invoice"
            key, height = change.tag.hex(), None
        else:
            subject, key, height = "wallet", change.key.hex(), change.height
        data = event_data(event)
        return cls(network, subject, wallet, event.sequence, change.name, key, height, data, log)


class TargetStatistics(msgspec.Struct, frozen=True):
    """What a target counts, of which each kind has its own."""


class NoticeTarget(Protocol):
    """Who is told."""

    @property
    def name(self) -> str:
        """What the log and a wallet's file call it."""

    async def run(self) -> None:
        """Serve until cancelled."""

    async def deliver(self, notice: Notice) -> bool:
        """Tell of something: return once that is done, or given up (False). What goes wrong is
        logged."""

    def statistics(self) -> TargetStatistics:
        """Return a snapshot of the counters."""
