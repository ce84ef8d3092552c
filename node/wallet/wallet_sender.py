"""What the wallets of one node send: chosen, signed and noted in one piece of work, then handed to
the mempool."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import trio

from unchained.node.consensus.policy import MIN_FEE_RATE
from unchained.node.primitives.types import Txid
from unchained.node.wallet import spending
from unchained.node.wallet.errors import (
    FeeAboveMaxError,
    NoSuchTransferError,
    StillWaitingError,
    TransferRefusedError,
)
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.open_wallet import OpenWallet
from unchained.node.wallet.orders import (
    ConsolidationOrder,
    Gathered,
    Noted,
    PaymentOrder,
    RefusedTransfer,
    ReplacementOrder,
    Request,
    SpendingOrder,
    SweepOrder,
    carry_out,
    made_before,
    note,
    note_again,
    note_signed,
    plan,
)
from unchained.node.wallet.plan import Prepared
from unchained.node.wallet.records import (
    AccountRef,
    Outgoing,
    OutgoingState,
    Payee,
)
from unchained.node.wallet.unsigned import merge_files
from unchained.node.wallet.wallet import Wallet
from unchained.node.wallet.wallet_keeper import WalletKeeper
from unchained.storage import schema

FEE_TARGET: Final = 2
"""Anchors within which a transfer should be included unless something else is asked for."""


class WalletSender(WalletKeeper):
    """Wallets that pay. Whoever sends from one is the only one who does meanwhile."""

    async def fee(
        self,
        rate: int | None = None,
        exact: int | None = None,
        *,
        target: int = FEE_TARGET,
        allow_high: bool = False,
        most: int | None = None,
    ) -> Fee:
        """Return a fee as asked for, or such that the transfer should be included within `target`
        anchors; `most` are the grains that were agreed to."""
        least = max(MIN_FEE_RATE, math.ceil(self._link.tip.min_fee_rate))
        estimate = max(least, await self._link.fee_rate(target))
        return Fee(estimate if rate is None else rate, exact, estimate, allow_high, most)

    async def plan(self, name: str, order: SpendingOrder) -> list[Prepared]:
        """Return what an order would send now. Raises what carrying it out does."""
        now_ms = self._clock.now_ms()
        return await self.call(name, lambda wallet: plan(wallet, order, now_ms))

    async def send(
        self,
        name: str,
        payees: Sequence[Payee],
        fee: Fee | None = None,
        *,
        account: AccountRef = 0,
        coins: Sequence[bytes] | None = None,
        subtract_fee: bool = False,
        request_id: str | None = None,
    ) -> Outgoing:
        """Pay, and return the transfer that the node has taken.

        Where one transfer does not hold enough coins, others join some first. Under one
        `request_id` it pays once: asked again, it returns that transfer as it stands. Cancelled
        before the node has taken it, it is sent all the same. Raises `SpendingError`,
        `WalletLockedError`, `WatchOnlyError`, `RequestReusedError`, `TransferRefusedError` (then
        the coins are free again).
        """
        order = PaymentOrder(
            tuple(payees),
            fee or await self.fee(),
            account,
            None if coins is None else tuple(coins),
            subtract_fee,
        )
        request = None if request_id is None else Request(request_id, order.digest())
        return await self._dispatch(name, order, request)

    async def sweep(
        self,
        name: str,
        to: str,
        fee: Fee | None = None,
        *,
        account: AccountRef = 0,
        memo: bytes = b"",
        coins: Sequence[bytes] | None = None,
    ) -> Gathered:
        """Pay an account's coins, all or those named, to one payee, in as many transfers as it
        takes. Raises what `send` does if not one was taken."""
        chosen = fee or await self.fee()
        named = None if coins is None else tuple(coins)
        return await self._gather(name, account, SweepOrder(to, chosen, account, memo, named))

    async def consolidate(
        self,
        name: str,
        fee: Fee | None = None,
        *,
        account: AccountRef = 0,
        below: int | None = None,
    ) -> Gathered:
        """Join an account's coins, the smallest first, into few. Raises what `send` does if not
        one was taken."""
        chosen = fee or await self.fee()
        return await self._gather(name, account, ConsolidationOrder(chosen, account, below))

    async def _gather(self, name: str, account: AccountRef, order: SpendingOrder) -> Gathered:
        """Make, sign and note all transfers in one piece of work, so that nothing else spends
        their coins, then send them."""
        now_ms = self._clock.now_ms()
        sent, refused, error = [], [], None
        async with self._sending(name) as entry:
            for noted in await self._on(entry, lambda wallet: carry_out(wallet, order, now_ms)):
                try:
                    sent.append(await self._submit(entry, noted))
                except TransferRefusedError as refusal:
                    error = refusal
                    refused.append(RefusedTransfer(noted.outgoing.txid, refusal.rule, str(refusal)))
        if error is not None and not sent:
            raise error
        after = await self.call(name, lambda wallet: wallet.balance(account))
        return Gathered(tuple(sent), tuple(refused), after.confirmed - after.frozen)

    async def bump_fee(
        self, name: str, txid: bytes, fee: Fee, *, at_least: bool = False
    ) -> Outgoing:
        """Replace a waiting transfer by one that pays more; with `at_least` more than `fee` where
        it takes that."""
        return await self._dispatch(name, ReplacementOrder(txid, fee, at_least))

    async def abandon(self, name: str, txid: bytes) -> tuple[Txid, ...]:
        """Take the coins of a waiting transfer back that the mempool does not have; return the
        waiting transfers that are given up with it.

        Raises `NoSuchTransferError`, `StillWaitingError`.
        """

        def work(wallet: Wallet) -> tuple[Txid, ...]:
            outgoing = wallet.store.outgoing(txid)
            if outgoing.height is not None or outgoing.state is not OutgoingState.WAITING:
                raise NoSuchTransferError(f"transfer {txid.hex()} does not wait any more")
            with self._link.snapshot() as view:
                if schema.MEMPOOL.get(view, outgoing.wid) is not None:
                    # it would be mined, and whatever spends its coins anew refused
                    raise StillWaitingError(txid)
            return wallet.abandon(txid)

        entry = await self._kept_up(name)
        async with entry.sending:
            return await self._changed(entry, work)

    async def broadcast(self, name: str, files: Sequence[bytes]) -> Outgoing:
        """Send a transfer from files that signers have handed back: copies are merged. The wallet
        keeps it if it spends a coin of its own or brings it one; else its `warning` says so.

        Raises `SigningError`, `TransferRefusedError`.
        """

        now_ms = self._clock.now_ms()

        def record(wallet: Wallet) -> Noted:
            return note_signed(wallet, merge_files(files, self.network), now_ms)

        async with self._sending(name) as entry:
            return await self._submit(entry, await self._on(entry, record))

    @asynccontextmanager
    async def _sending(self, name: str) -> AsyncIterator[OpenWallet]:
        """Be the only one who sends from a wallet, once it has read what the chain had as this was
        called. Nobody is kept from sending while that is waited for: the service that reads sends
        as well. What was noted and not sent, since the caller gave up, is sent again at once."""
        entry = await self._kept_up(name)
        async with entry.sending:
            try:
                yield entry
            except trio.Cancelled:
                self._hurry(entry)
                raise

    def _hurry(self, entry: OpenWallet) -> None:
        """Have sent at once what the mempool does not have."""
        entry.rebroadcast_at = -math.inf
        self._wake.set()

    async def _on_present_chain(
        self, name: str, send: Callable[[OpenWallet], Awaitable[Outgoing]]
    ) -> Outgoing:
        """Return what `send` does, as the only one who sends from a wallet. What the node has
        refused is sent anew if the chain has gone on since this was called: its coins were chosen
        by what is no longer so."""
        while True:
            tip = self._link.tip.id
            try:
                async with self._sending(name) as entry:
                    return await send(entry)
            except TransferRefusedError:
                if self._link.tip.id == tip:
                    raise

    async def _send_one(self, entry: OpenWallet, make: Callable[[Wallet], Prepared]) -> Outgoing:
        """Make, sign and note a transfer in one piece of work, then send it, as the only one who
        sends from a wallet."""
        now_ms = self._clock.now_ms()

        def work(wallet: Wallet) -> Noted:
            with wallet.store.transaction():
                return note(wallet, make(wallet), now_ms)

        return await self._submit(entry, await self._on(entry, work))

    async def _dispatch(
        self, name: str, order: SpendingOrder, request: Request | None = None
    ) -> Outgoing:
        """Make, sign and note what an order takes in one piece of work, then send it."""
        now_ms = self._clock.now_ms()
        joined: list[Outgoing] = []

        def work(wallet: Wallet) -> tuple[list[Noted], Outgoing | None]:
            known = None if request is None else made_before(wallet, request)
            if known is not None:
                return [], known
            return carry_out(wallet, order, now_ms, request, joined), None

        async def send(entry: OpenWallet) -> Outgoing:
            try:
                noted, known = await self._on(entry, work)
            except FeeAboveMaxError as error:
                # whoever agreed to less has paid for what went out before the chain went on
                raise FeeAboveMaxError(error.fee, error.most, len(joined)) from None
            if known is not None:
                # in case that whoever asked first gave up before it was sent
                self._hurry(entry)
                return known
            return await self._submit_all(entry, noted, joined)

        return await self._on_present_chain(name, send)

    async def _submit_all(
        self, entry: OpenWallet, noted: Sequence[Noted], joined: list[Outgoing]
    ) -> Outgoing:
        """Send transfers of which each may spend what those before bring; return the last. Those
        that go before it are added to `joined` as they are taken."""
        for at, step in enumerate(noted):
            try:
                outgoing = await self._submit(entry, step)
            except TransferRefusedError:
                # what builds on the one that was refused is not sent
                for unsent in reversed(noted[at + 1 :]):
                    await self._forget(entry, unsent.outgoing.txid)
                raise
            joined.append(outgoing)
        joined.pop()
        return msgspec.structs.replace(outgoing, joined=tuple(it.txid for it in joined))

    async def _submit(self, entry: OpenWallet, noted: Noted) -> Outgoing:
        outgoing = noted.outgoing
        try:
            is_new = await self._link.submit(noted.proven)
        except TransferRefusedError:
            self.refused += 1
            if not noted.is_known:
                await self._forget(entry, outgoing.txid)
            raise
        spending.note_sent(outgoing.txid)
        if not is_new and (height := await self._runner.run(self._included_at, outgoing.txid)):
            # sent by somebody else long ago: no anchor that is still to be read includes it
            await self._on(entry, lambda wallet: wallet.store.include(outgoing.txid, height))
            return msgspec.structs.replace(outgoing, height=height)
        if noted.is_known:
            outgoing = await self._on(entry, lambda wallet: note_again(wallet, noted))
        self.sent += 1
        self._log.info(
            "wallet.sent",
            wallet=entry.wallet.name,
            txid=outgoing.txid.hex(),
            fee=outgoing.fee,
            size=outgoing.size,
        )
        return outgoing

    async def _forget(self, entry: OpenWallet, txid: Txid) -> None:
        spending.note_refused(txid)
        await self._on(entry, lambda wallet: wallet.store.forget_outgoing(txid))

    def _included_at(self, txid: Txid) -> int | None:
        """Return the height at which the main chain includes a transfer, None if it does not."""
        with self._link.snapshot() as view:
            place = schema.TXID.get(view, txid)
        return None if place is None else place.height
