"""What a wallet shows of itself. Amounts in grains, times in ms since the Unix epoch."""

from __future__ import annotations

import enum

import msgspec

from unchained.node.primitives.transfer import SizedTransfer
from unchained.node.primitives.types import CoinId, Lock, Txid, Wid


class Origin(enum.IntEnum):
    """How a coin came to the wallet, and so how its lock is opened."""

    MINTED = 0
    """Mined by the account, or to its address."""
    ADDRESS = 1
    """Paid to the account's address: zero salt."""
    PAYCODE = 2
    """Paid to the account's paycode: the salt is in the note."""
    CONTRACT = 3
    """Paid to a condition shared with others; in no balance."""


class WalletCoin(msgspec.Struct, frozen=True, gc=False):
    """A coin that the wallet can see. `height` None while its transfer waits.

    `account` is -1 for a coin under a contract. `txid` is empty for a minted coin.
    `spent_height` None while it is unspent; `leaving` if a waiting transfer spends it.
    """

    coin_id: CoinId
    account: int
    origin: Origin
    value: int
    lock: Lock
    txid: bytes
    index: int
    height: int | None
    time_ms: int
    spent_height: int | None
    spent_by: bytes
    frozen: bool
    leaving: bool
    salt: bytes
    tag: bytes
    memo: bytes


class Balance(msgspec.Struct, frozen=True, gc=False):
    """What the wallet has, contracts apart.

    `confirmed` can be spent in the next anchor, `frozen` is that part of it which the user keeps
    back; `immature` was minted too lately; `leaving` is on the chain but a waiting transfer
    spends it; `pending` is what waiting transfers bring, change included.
    """

    confirmed: int
    frozen: int
    immature: int
    leaving: int
    pending: int

    @property
    def on_chain(self) -> int:
        """All coins of the wallet in the coin set."""
        return self.confirmed + self.immature + self.leaving


class OutgoingState(enum.IntEnum):
    """What became of a transfer that the wallet made and that is not on the chain."""

    WAITING = 0
    ABANDONED = 1
    REPLACED = 2
    CONFLICT = 3
    """One of its coins is not there: another transfer has spent it, or the chain does not have
    what brought it any more. It waits again if that comes back."""


class Payee(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Whom a transfer pays: an address, a paycode, or the hex digits of a lock."""

    payee: str
    value: int
    memo: bytes


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """A transfer that the wallet made. `height` is that of its anchor, None if in none; `change`
    the index of the output that brings change, None if none does. `joined` are the transfers that
    were made for it to join coins, where it has just been sent."""

    txid: Txid
    wid: Wid
    raw: bytes
    created_ms: int
    height: int | None
    state: OutgoingState
    replaces: bytes
    fee: int
    size: int
    payees: tuple[Payee, ...]
    change: int | None
    joined: tuple[Txid, ...] = ()

    @classmethod
    def of(
        cls,
        sized: SizedTransfer,
        created_ms: int,
        height: int | None,
        state: OutgoingState,
        replaces: bytes,
        payees: tuple[Payee, ...],
        change: int | None,
    ) -> Outgoing:
        """Return what the wallet knows of a transfer, with what its bytes say."""
        return cls(
            sized.txid,
            sized.wid,
            sized.raw,
            created_ms,
            height,
            state,
            replaces,
            sized.transfer.fee,
            sized.size,
            payees,
            change,
        )


class HistoryKind(enum.IntEnum):
    """What an entry of the history is."""

    MINED = 0
    """A coin that was mined."""
    RECEIVED = 1
    """A transfer of others that pays the wallet."""
    PAID = 2
    """A transfer that spends coins of the wallet and pays others."""
    MOVED = 3
    """A transfer that spends coins of the wallet and pays the wallet alone."""


class HistoryStatus(enum.IntEnum):
    """How an entry of the history stands; from `ABANDONED` on it has moved nothing."""

    WAITING = 0
    INCLUDED = 1
    ABANDONED = 2
    REPLACED = 3
    CONFLICT = 4
    GONE = 5
    """The chain and the mempool do not have it any more, and the wallet did not make it."""


class HistoryEntry(msgspec.Struct, frozen=True, gc=False):
    """A minted coin (`key` is its id) or a transfer (`key` is its txid) that touched the wallet.

    `height` None while it waits; `time_ms` of its anchor, or when it was first seen, None where an
    earlier version did not note it. `fee` where the wallet spent coins, None else. `account` is
    the only one that it touched, None if there were several. `tags` are those of the paycodes that
    it paid; `changed` is the sequence number of the last event that tells of it.
    """

    key: bytes
    kind: HistoryKind
    status: HistoryStatus
    height: int | None
    time_ms: int | None
    received: int
    sent: int
    fee: int | None
    account: int | None
    label: str
    payees: tuple[Payee, ...]
    memos: tuple[bytes, ...]
    tags: tuple[bytes, ...]
    changed: int

    @property
    def minted(self) -> bool:
        """Whether it is a coin that was mined."""
        return self.kind is HistoryKind.MINED

    @property
    def net(self) -> int:
        """Grains that the wallet has more for it, or less."""
        return self.received - self.sent


class MinedDay(msgspec.Struct, frozen=True, gc=False):
    """What was mined in a day (UTC): `time_ms` is that of the latest coin, the heights are those of
    the lowest and the highest anchor."""

    day_ms: int
    time_ms: int
    coins: int
    received: int
    first_height: int
    last_height: int


class InvoiceStatus(enum.IntEnum):
    """How an invoice stands, by what the chain includes."""

    OPEN = 0
    PARTLY_PAID = 1
    PAID = 2
    OVERPAID = 3
    EXPIRED = 4
    PAID_LATE = 5
    CANCELLED = 6

    @property
    def is_paid(self) -> bool:
        """Whether all of it has been paid, in time or late."""
        return self in (InvoiceStatus.PAID, InvoiceStatus.OVERPAID, InvoiceStatus.PAID_LATE)


class Invoice(msgspec.Struct, frozen=True, gc=False):
    """Something to be paid to a paycode of its own. `tag` names it, 8 bytes; `amount` in grains,
    None if the payer chooses. `received` is on the chain, `pending` waits. `confirmed`: it has, or
    had, the votes that `confirmations` asks for."""

    tag: bytes
    account: int
    amount: int | None
    label: str
    confirmations: int
    created_ms: int
    expires_ms: int | None
    cancelled_ms: int | None
    status: InvoiceStatus
    received: int
    pending: int
    confirmed: bool


class HistoryChange(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=1):
    """An entry of the history that came, or stands otherwise. `undone_height`: it was included
    there, and that anchor is not on the main chain any more."""

    key: bytes
    kind: HistoryKind
    status: HistoryStatus
    height: int | None
    undone_height: int | None
    received: int
    sent: int

    @property
    def name(self) -> str:
        """What a program calls it."""
        if self.kind is HistoryKind.MINED:
            return "coin.mined" if self.status is HistoryStatus.INCLUDED else "coin.undone"
        is_undone = self.undone_height is not None and self.height is None
        return "transfer.undone" if is_undone else f"transfer.{self.status.name.lower()}"


class InvoiceChange(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=2):
    """An invoice that stands otherwise. Amounts in grains."""

    tag: bytes
    status: InvoiceStatus
    amount: int | None
    received: int
    pending: int
    label: str
    confirmed: bool

    @property
    def name(self) -> str:
        """What a program calls it."""
        return "invoice.confirmed" if self.confirmed else f"invoice.{self.status.name.lower()}"


class WalletEvent(msgspec.Struct, frozen=True, gc=False):
    """One entry of a wallet's log. `sequence` grows by one; `time_ms` is when it was noted."""

    sequence: int
    time_ms: int
    change: HistoryChange | InvoiceChange


class ScanProgress(msgspec.Struct, frozen=True, gc=False):
    """How far a wallet has followed the chain. `rescan_next` None where no rescan goes on."""

    height: int
    tip_height: int
    rescan_from: int | None
    rescan_next: int | None

    @property
    def caught_up(self) -> bool:
        """Whether the wallet knows all that the chain does."""
        return self.height >= self.tip_height and self.rescan_next is None

    @property
    def lag(self) -> int:
        """How many anchors it has still to read."""
        again = 0 if self.rescan_next is None else max(0, self.height + 1 - self.rescan_next)
        return max(0, self.tip_height - self.height) + again


class WalletStoreStatistics(msgspec.Struct, frozen=True):
    """What a wallet has written since it was opened, and holds."""

    coins: int
    unspent: int
    outgoing: int
    transactions: int
