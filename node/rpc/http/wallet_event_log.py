"""The gapless log of one wallet as `GET /events?wallet=NAME` gives it.

coin.mined, coin.undone          a coin that the wallet mined, and one that a reorganisation took
transfer.waiting                 a transfer that touches the wallet waits in the mempool
transfer.included                an anchor of the main chain includes it
transfer.undone                  it was included, and that anchor was undone
transfer.abandoned, .replaced,   it is not expected any more
.conflict, .gone
invoice.STATUS                   an invoice stands so, or has had more paid: open, partly_paid,
                                 paid, overpaid, expired, paid_late, cancelled
invoice.confirmed                a paid one has the votes that it asks for, or without an amount
                                 again all that it has received: `received_confirmed` says how much
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

from unchained.node.rpc.core.errors import NotFoundError, short
from unchained.node.rpc.http.event_streams import Entries, EventsGoneError, LogEntry
from unchained.node.wallet.errors import (
    EventsForgottenError,
    NoSuchWalletError,
    WalletClosedError,
)
from unchained.node.wallet.event_data import event_data
from unchained.node.wallet.manager import WalletManager
from unchained.node.wallet.records import WalletEvent


class WalletEventLog:
    """Follows the logs of wallets for any number of readers."""

    def __init__(self, wallets: WalletManager) -> None:
        self._wallets = wallets

    @asynccontextmanager
    async def open(
        self, wallet: str, since: int | None, log: str | None = None
    ) -> AsyncIterator[Entries]:
        """Follow the log of a wallet until it is closed. Raises `NotFoundError` where it is not
        open, `EventsGoneError` where the log does not reach back so far, has never come so far, or
        is another one than `log`, the id of that whose sequence number `since` is."""
        try:
            start = self._wallets.last_event(wallet) if since is None else since
            entries = self._wallets.events(wallet, start)
            oldest, log_id = await self._wallets.call(
                wallet, lambda opened: (opened.events.oldest, opened.events.log_id)
            )
            last = self._wallets.last_event(wallet)
            if not oldest - 1 <= start <= last or log not in (None, log_id):
                raise EventsGoneError(oldest, last)
        except (NoSuchWalletError, WalletClosedError) as error:
            raise NotFoundError(short(str(error)), error=error.word) from None
        async with aclosing(_rendered(entries)) as rendered:
            yield rendered


async def _rendered(
    entries: AsyncGenerator[Sequence[WalletEvent], None],
) -> AsyncGenerator[Sequence[LogEntry], None]:
    async with aclosing(entries):
        try:
            async for part in entries:
                yield [
                    LogEntry(event.sequence, event.change.name, event_data(event)) for event in part
                ]
        except (EventsForgottenError, WalletClosedError):
            return  # so slow that the log was cut short under it, or closed: it asks again
