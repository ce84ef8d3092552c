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
    the index of the output that brings change, None if none does."""

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


class HistoryEntry(msgspec.Struct, frozen=True, gc=False):
    """A minted coin (`key` is its id) or a transfer (`key` is its txid) that touched the wallet.

    `height` None while it waits. `fee` only where the wallet made the transfer.
    """

    key: bytes
    minted: bool
    height: int | None
    time_ms: int
    received: int
    sent: int
    fee: int | None
    label: str
    payees: tuple[Payee, ...]
    memos: tuple[bytes, ...]


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
