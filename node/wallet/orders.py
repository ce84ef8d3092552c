"""What a wallet is asked to send, before any of it is made: payments, sweeps, consolidations and
replacements, each of which becomes one transfer or several."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from unchained.node.consensus.transfers import ProvenTransfer
from unchained.node.primitives.codec import encode
from unchained.node.primitives.transfer import SizedTransfer
from unchained.node.primitives.types import Txid
from unchained.node.wallet import spending
from unchained.node.wallet.errors import ConsolidationNeededError, RequestReusedError
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.paid_before import told_if_paid
from unchained.node.wallet.plan import Prepared
from unchained.node.wallet.records import AccountRef, Outgoing, OutgoingNote, OutgoingState, Payee
from unchained.node.wallet.replacement import standing
from unchained.node.wallet.spender import Spender
from unchained.node.wallet.stored_values import told_as_damage
from unchained.node.wallet.unsigned import Unsigned, UnsignedPayee
from unchained.node.wallet.wallet import Wallet

JOINS_MAX: Final = 20
"""Transfers that join coins for a payment that takes more than one transfer holds: the mempool
takes at most 25 that build on each other (Protocol §8.4)."""


class SpendingOrder(Protocol):
    """Something to be sent."""

    @property
    def fee(self) -> Fee:
        """What each of its transfers pays; all of them together at most what was agreed to."""

    def prepare(self, spender: Spender) -> list[Prepared]:
        """Return the transfers that do it. Raises a `WalletError`."""

    def join(self, spender: Spender) -> Prepared | None:
        """Return a transfer that joins coins, where `prepare` needs more than one holds; None if
        none helps."""


class PaymentOrder(msgspec.Struct, frozen=True):
    """Pay some payees from an account's coins, or from those named. With `subtract_fee` the payees
    bear the fee, in equal parts."""

    payees: tuple[Payee, ...]
    fee: Fee
    account: AccountRef = 0
    coins: tuple[bytes, ...] | None = None
    subtract_fee: bool = False

    def prepare(self, spender: Spender) -> list[Prepared]:
        """Return one transfer."""
        # before coins are looked for: whether they would do is not for who may not spend so much
        spending.check(spender.to_others(self.payees))
        return [
            spender.pay(
                self.payees,
                self.fee,
                account=self.account,
                coins=self.coins,
                subtract_fee=self.subtract_fee,
            )
        ]

    def join(self, spender: Spender) -> Prepared | None:
        """Join the account's largest coins, unless coins or an exact fee were named."""
        if self.coins is not None or self.fee.exact is not None:
            return None
        return spender.join_largest(self.fee, spender.account_index(self.account))

    def digest(self) -> bytes:
        """Return what tells this payment from others, 32 bytes; its fee rate apart."""
        asked: tuple[object, ...] = (self.payees, self.fee.exact, self.account, self.coins)
        if self.subtract_fee:
            asked = (*asked, True)
        return hashlib.sha256(encode(asked)).digest()


class SweepOrder(msgspec.Struct, frozen=True):
    """Pay all of an account's coins, or those named, to one payee."""

    payee: str
    fee: Fee
    account: AccountRef = 0
    memo: bytes = b""
    coins: tuple[bytes, ...] | None = None

    def prepare(self, spender: Spender) -> list[Prepared]:
        """Return as many transfers as it takes."""
        return spender.sweep(
            self.payee, self.fee, account=self.account, memo=self.memo, coins=self.coins
        )

    def join(self, spender: Spender) -> Prepared | None:
        """Return nothing: a sweep is split as it is."""
        return None


class ConsolidationOrder(msgspec.Struct, frozen=True):
    """Join an account's coins, the smallest first; only those `below` a value."""

    fee: Fee
    account: AccountRef = 0
    below: int | None = None

    def prepare(self, spender: Spender) -> list[Prepared]:
        """Return as many transfers as it takes."""
        return spender.consolidate(self.fee, account=self.account, below=self.below)

    def join(self, spender: Spender) -> Prepared | None:
        """Return nothing: a consolidation is split as it is."""
        return None


class ReplacementOrder(msgspec.Struct, frozen=True):
    """Replace a waiting transfer by one that pays more; with `at_least` the rate of the fee is
    raised to what replaces it."""

    txid: bytes
    fee: Fee
    at_least: bool = False

    def prepare(self, spender: Spender) -> list[Prepared]:
        """Return one transfer."""
        return [spender.bump(self.txid, self.fee, at_least=self.at_least)]

    def join(self, spender: Spender) -> Prepared | None:
        """Return nothing: the coins are those of the transfer replaced."""
        return None


class Request(msgspec.Struct, frozen=True):
    """What a caller calls a payment, so that it is made once, and a digest of what is asked."""

    id: str
    digest: bytes


OF_OTHERS: Final = "it moves no coins of this wallet: it was sent, and is not in its history"
"""What is said of a transfer that is sent for others."""


class Noted(msgspec.Struct, frozen=True):
    """A transfer that is signed and noted, and about to be sent."""

    proven: ProvenTransfer
    outgoing: Outgoing
    is_known: bool = False
    """Whether the wallet has it from an earlier time, and keeps it whatever comes."""


class RefusedTransfer(msgspec.Struct, frozen=True):
    """A transfer of several that the node did not take: its coins are free again. `rule` is the
    one that it breaks; `why` says so in words."""

    txid: Txid
    rule: str
    why: str


class Gathered(msgspec.Struct, frozen=True):
    """What came of a sweep or a consolidation. `left` are grains in the account's coins that could
    be spent and were not."""

    sent: tuple[Outgoing, ...]
    refused: tuple[RefusedTransfer, ...]
    left: int


class _PlannedError(Exception):
    """Takes back what a plan has noted."""


def carry_out(
    wallet: Wallet,
    order: SpendingOrder,
    now_ms: int,
    request: Request | None = None,
    joined: Sequence[Outgoing] = (),
) -> list[Noted]:
    """Make, sign and note what an order takes, all of it or nothing, in the order in which it is to
    be sent; the last one is noted under the request. What has `joined` coins for it before, and
    is sent, counts as well for what was agreed to. Raises `FeeAboveMaxError`, and what making and
    signing it does."""
    spending.settle(wallet.store)
    with wallet.store.transaction():
        noted: list[Noted] = []
        prepared = _joined(wallet, order, lambda one: noted.append(note(wallet, one, now_ms)))
        prepared = [told_if_paid(wallet.store, wallet.network, step) for step in prepared]
        noted += [note(wallet, step, now_ms) for step in prepared]
        paid = sum(known.fee for known in joined)
        order.fee.check_most(paid + sum(step.outgoing.fee for step in noted))
        if request is not None:
            wallet.store.put_request(request.id, request.digest, noted[-1].outgoing.txid)
    return noted


def plan(wallet: Wallet, order: SpendingOrder, now_ms: int) -> list[Prepared]:
    """Return what `carry_out` would make now, the transfers that join coins for it included; the
    wallet may be locked, and nothing is left behind. Raises `WatchOnlyError`."""
    wallet.check_signs()
    spending.settle(wallet.store)
    planned: list[Prepared] = []

    def keep(prepared: Prepared) -> None:
        planned.append(prepared)
        _record(wallet, prepared, SizedTransfer.of(prepared.unsigned.transfer()), now_ms)

    try:
        with wallet.store.transaction():
            prepared = _joined(wallet, order, keep)
            planned += [told_if_paid(wallet.store, wallet.network, step) for step in prepared]
            order.fee.check_most(sum(step.unsigned.fee for step in planned))
            raise _PlannedError
    except _PlannedError:
        return planned


def made_before(wallet: Wallet, request: Request) -> Outgoing | None:
    """Return what a request led to if it was made before: the transfer that stands for it by now,
    where it was replaced. Raises `RequestReusedError`."""
    found = wallet.store.request(request.id)
    if found is None:
        return None
    digest, txid = found
    if digest != request.digest:
        raise RequestReusedError(request.id, txid)
    return standing(wallet.store, txid)


def _joined(wallet: Wallet, order: SpendingOrder, keep: _NoteJoin) -> Sequence[Prepared]:
    """Return an order's transfers, after coins were joined for it as often as it takes."""
    for _ in range(JOINS_MAX):
        try:
            return order.prepare(wallet.spender)
        except ConsolidationNeededError:
            joining = order.join(wallet.spender)
            if joining is None:
                raise
            keep(joining)
    return order.prepare(wallet.spender)


class _NoteJoin(Protocol):
    def __call__(self, prepared: Prepared, /) -> object:
        """Note a transfer that joins coins, so that the next can spend what it brings."""


@told_as_damage()
def note(wallet: Wallet, prepared: Prepared, now_ms: int) -> Noted:
    """Sign a transfer, and note it as about to be sent. Raises `WalletLockedError`,
    `WatchOnlyError`."""
    proven = wallet.finish(prepared)
    return Noted(proven, _record(wallet, prepared, proven.sized, now_ms))


@told_as_damage()
def note_again(wallet: Wallet, noted: Noted) -> Outgoing:
    """Expect a transfer of an earlier time once more, since others have it: what it is for stays
    as it was noted."""
    known = noted.outgoing
    return wallet.record(
        noted.proven,
        known.created_ms,
        payees=known.payees,
        proven_payees=[UnsignedPayee(it.index, "", it.shared) for it in known.secrets],
        change=known.change,
        replaces=known.replaces,
    )


def note_signed(wallet: Wallet, merged: Unsigned, now_ms: int) -> Noted:
    """Note a transfer that its signers handed back, if it moves coins of the wallet.

    Raises `SigningError` if signatures are missing.
    """
    proven = merged.finish(wallet.network)
    sized = proven.sized
    known = wallet.store.outgoing_or_none(sized.txid)
    if known is not None:
        # until the node has taken it again it stands as it did: replaced, abandoned, paid
        return Noted(proven, known, is_known=True)
    payees = wallet.payees_in(merged)
    if wallet.touches(sized):
        recorded = wallet.record(proven, now_ms, payees=payees, proven_payees=merged.payees)
        return Noted(proven, recorded)
    note = OutgoingNote(payees, None)
    other = Outgoing.of(sized, now_ms, None, OutgoingState.WAITING, b"", note)
    return Noted(proven, msgspec.structs.replace(other, warning=OF_OTHERS))


def _record(wallet: Wallet, prepared: Prepared, sized: SizedTransfer, now_ms: int) -> Outgoing:
    outgoing = wallet.record(
        sized,
        now_ms,
        payees=prepared.payees,
        proven_payees=prepared.unsigned.payees,
        change=prepared.change,
        replaces=prepared.replaces,
    )
    return msgspec.structs.replace(outgoing, warning=prepared.warning)
