"""What a wallet shows of itself. Amounts in grains, times in ms since the Unix epoch."""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec

from unchained.node.base.counted import ChannelStatistics
from unchained.node.consensus.transfers import MAX_OUTPUTS
from unchained.node.primitives.transfer import SizedTransfer
from unchained.node.primitives.types import Bytes32, CoinId, Lock, Txid, Wid
from unchained.node.wallet.contracts import Contract


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


AccountRef = int | str
"""An account by its number or its name."""


class Payee(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Whom a transfer pays: an address, a paycode, a contract, or the hex digits of a lock; or,
    until it is made, the name of one in the address book. `name` is what the book calls him."""

    payee: str
    value: int
    memo: bytes
    name: str = ""


class PaymentSecret(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What proves that the output at `index` pays a paycode: the secret that payer and payee
    share, 32 bytes."""

    index: Annotated[int, msgspec.Meta(ge=0, lt=MAX_OUTPUTS)]
    shared: Bytes32

    def __repr__(self) -> str:
        return f"<PaymentSecret {self.index}>"


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """A transfer that the wallet made. `height` is that of its anchor, None if in none; `change`
    the index of the output that brings change, None if none does. `secrets` prove whom it pays, as
    far as the wallet has kept them. `joined` are the transfers that were made for it to join coins,
    where it has just been sent."""

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
    secrets: tuple[PaymentSecret, ...] = ()
    joined: tuple[Txid, ...] = ()
    warning: str = ""
    """What whoever sends it should know; it is not kept."""

    @classmethod
    def of(
        cls,
        sized: SizedTransfer,
        created_ms: int,
        height: int | None,
        state: OutgoingState,
        replaces: bytes,
        noted: OutgoingNote,
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
            noted.payees,
            noted.change,
            noted.secrets,
        )


class OutgoingNote(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What the wallet keeps of a transfer that its bytes do not say."""

    payees: tuple[Payee, ...]
    change: int | None
    secrets: tuple[PaymentSecret, ...] = ()


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
    CONTRACT = 4
    """A transfer that the wallet has sent and that spends coins of a contract alone, for others."""


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
    None if the payer chooses. `received` is on the chain, `pending` waits. `confirmed`: the amount
    has, or had, the votes that `confirmations` asks for; without an amount all that was received
    has."""

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
    """An invoice that stands otherwise. Amounts in grains. `received_confirmed` is what has the
    votes that it asks for, as it is confirmed; else 0, as in entries of earlier programs."""

    tag: bytes
    status: InvoiceStatus
    amount: int | None
    received: int
    pending: int
    label: str
    confirmed: bool
    received_confirmed: int = 0

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
    def reached(self) -> int:
        """The height up to which it has read all that it was to read."""
        return self.height if self.rescan_next is None else min(self.height, self.rescan_next - 1)


class WalletStoreStatistics(msgspec.Struct, frozen=True):
    """What a wallet has written since it was opened, and holds."""

    coins: int
    unspent: int
    outgoing: int
    transactions: int


class WalletInfo(msgspec.Struct, frozen=True):
    """What a wallet is. `height` is that of the last anchor read, None if there is none."""

    name: str
    network: str
    watch_only: bool
    locked: bool
    has_passphrase: bool
    has_bip39_passphrase: bool | None
    birth: int
    accounts: tuple[int, ...]
    found_accounts: tuple[int, ...]
    """Those of a restored wallet to which coins had come."""
    height: int | None


class WatchedContract(msgspec.Struct, frozen=True):
    """A contract that the wallet is party to, with its coins and what has been learnt of it.

    `preimage` is None until it is known: kept here by its maker, or seen on the chain. A label that
    is not `confirmed` came out of a backup, and no output is called by it.
    """

    contract: Contract
    coins: tuple[WalletCoin, ...]
    preimage: bytes | None
    label: str
    confirmed: bool

    @property
    def value(self) -> int:
        """Grains that the contract holds on the chain."""
        return sum(
            coin.value
            for coin in self.coins
            if coin.spent_height is None and coin.height is not None
        )


class WalletsStatistics(msgspec.Struct, frozen=True):
    """Counts since the start, and what is open. `behind` wallets have not read the chain to its
    end, or follow it no more; `reached` is the height that the last of them has come to, None while
    that is unknown."""

    open: int
    unlocked: int
    behind: int
    reached: int | None
    anchors_read: int
    coins_touched: int
    sent: int
    rebroadcast: int
    refused: int
    listeners: ChannelStatistics
