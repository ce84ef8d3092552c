"""wallet.*: what came and went."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec

from unchained.node.base.user_text import user_text
from unchained.node.rpc.core.errors import WalletRefusedError
from unchained.node.rpc.core.registry import Access, Scope, method
from unchained.node.rpc.core.values import Hash
from unchained.node.rpc.methods.history_shapes import (
    KIND_NAMES,
    HistoryItem,
    HistoryKindName,
    HistoryPart,
    LogId,
    MinedDayInfo,
    WalletTransfer,
)
from unchained.node.rpc.methods.parameters import MAX_NUMBER, Limit, Offset
from unchained.node.rpc.methods.votes import Confirmations, anchors_at, votes_at
from unchained.node.rpc.methods.wallet_shapes import Account, OwnCoin, WalletName
from unchained.node.wallet.errors import EventsForgottenError
from unchained.node.wallet.history import HistoryFilter
from unchained.node.wallet.keystore import DEFAULT_WALLET
from unchained.node.wallet.manager import WalletManager
from unchained.node.wallet.payment_request import LABEL_CHARS_MAX
from unchained.node.wallet.records import HistoryEntry, HistoryKind, WalletCoin
from unchained.node.wallet.wallet import Wallet

Moment = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]
Since = Annotated[Moment, msgspec.Meta(description="entries from this time on (ms since 1970)")]
Until = Annotated[Moment, msgspec.Meta(description="entries before this time (ms since 1970)")]

_Found = tuple[list[HistoryEntry], tuple[int, bytes] | None]
"""Entries, and height and id of the last anchor that the wallet had read then."""


class HistoryRoom:
    """Methods that tell what has happened to a wallet."""

    def __init__(self, wallets: WalletManager, queries: Confirmations) -> None:
        self._wallets = wallets
        self._queries = queries

    @method("wallet.history", Access.FULL, scope=Scope.READ, errors=(WalletRefusedError,))
    @user_text(
        """Return what touched a wallet: what waits first, then from the tip down.

        For all of a long history ask again with `after`, the id of the last entry that was
        returned.
        """
    )
    async def history(
        self,
        wallet: WalletName = DEFAULT_WALLET,
        limit: Limit = 100,
        offset: Offset = 0,
        *,
        after: Annotated[Hash, msgspec.Meta(description="go on below this entry")] | None = None,
        account: Account | None = None,
        kinds: Annotated[
            list[HistoryKindName],
            msgspec.Meta(max_length=len(KIND_NAMES), description="those alone; empty: all"),
        ] = [],  # noqa: B006 - msgspec copies it
        label: Annotated[
            str, msgspec.Meta(max_length=LABEL_CHARS_MAX, description="has this in its label")
        ] = "",
        since: Since | None = None,
        until: Until | None = None,
    ) -> list[HistoryItem]:
        kind_of = {name: kind for kind, name in KIND_NAMES.items()}
        chosen = tuple(map(kind_of.__getitem__, kinds)) or tuple(HistoryKind)

        def work(opened: Wallet) -> _Found:
            index = None if account is None else opened.account_index(account)
            found = opened.history(
                limit,
                offset,
                wanted=HistoryFilter(index, since, until, chosen, label),
                after=None if after is None else bytes(after),
            )
            return found, opened.store.last_anchor()

        return await self._items(*await self._wallets.change(wallet, work))

    @method("wallet.mined", Access.FULL, scope=Scope.READ, errors=(WalletRefusedError,))
    @user_text("Return what a wallet mined on each day (UTC), the latest first.")
    async def mined(
        self,
        wallet: WalletName = DEFAULT_WALLET,
        limit: Limit = 100,
        offset: Offset = 0,
        *,
        account: Account | None = None,
        since: Since | None = None,
        until: Until | None = None,
    ) -> list[MinedDayInfo]:
        def work(opened: Wallet) -> list[MinedDayInfo]:
            index = None if account is None else opened.account_index(account)
            wanted = HistoryFilter(index, since, until)
            return [
                MinedDayInfo.of(day, f"{datetime.fromtimestamp(day.day_ms / 1000, UTC):%Y-%m-%d}")
                for day in opened.history_book.mined(wanted, limit, offset)
            ]

        return await self._wallets.change(wallet, work)

    @method("wallet.history_since", Access.FULL, scope=Scope.READ, errors=(WalletRefusedError,))
    @user_text(
        """Return the entries of a history that stand otherwise since a point, each once and as it
        is now, those that are `gone` included.

        Begin with 0, and go on with the `next` and the `log` that were returned. A point that the
        wallet's log has never come to, as after its file was damaged, or that is of another `log`,
        as after the wallet was restored, is refused (EVENTS_GONE): begin with 0 again. Who gives no
        `log` may miss what another one has under the numbers that he has seen.
        `GET /events?wallet=NAME` tells at once, and of every step.
        """
    )
    async def history_since(
        self,
        sequence: Annotated[
            int, msgspec.Meta(ge=0, le=MAX_NUMBER, description="the `next` of the last answer")
        ] = 0,
        wallet: WalletName = DEFAULT_WALLET,
        limit: Limit = 100,
        log: LogId | None = None,
    ) -> HistoryPart:
        def work(opened: Wallet) -> tuple[_Found, int, bool, str]:
            is_other = log not in (None, opened.events.log_id)
            if sequence > opened.events.last or is_other:
                raise EventsForgottenError(sequence, opened.events.last, is_other_log=is_other)
            found = opened.history_book.changed_since(sequence, limit + 1)
            more = len(found) > limit
            found = found[:limit]
            following = found[-1].changed if more else opened.events.last
            return (found, opened.store.last_anchor()), following, more, opened.events.log_id

        found, following, more, log_id = await self._wallets.change(wallet, work)
        return HistoryPart(await self._items(*found), following, more, log_id)

    @method("wallet.transfer", Access.FULL, scope=Scope.READ, errors=(WalletRefusedError,))
    @user_text(
        """Return a transfer that touched a wallet: what it moved, whom it paid, its fee, time and
        confirmations, and the wallet's coins in it."""
    )
    async def transfer(
        self,
        txid: Annotated[Hash, msgspec.Meta(description="of the transfer")],
        wallet: WalletName = DEFAULT_WALLET,
    ) -> WalletTransfer:
        def work(opened: Wallet) -> tuple[WalletTransfer, tuple[int, bytes] | None]:
            entry = opened.history_book.entry(bytes(txid))
            made = opened.store.outgoing_or_none(bytes(txid))
            brought, spent = opened.store.coins_of(bytes(txid))
            found = WalletTransfer(
                HistoryItem.of(entry, 0),
                0,
                Hash(made.replaces) if made is not None and made.replaces else None,
                [_coin(opened, coin) for coin in brought],
                [_coin(opened, coin) for coin in spent],
            )
            return found, opened.store.last_anchor()

        found, last = await self._wallets.change(wallet, work)
        height = found.entry.height
        heights = [height, *(coin.height for coin in (*found.coins, *found.spent))]
        votes, *each = await votes_at(self._queries, last, heights)
        coins = [
            msgspec.structs.replace(coin, confirmations=count)
            for coin, count in zip((*found.coins, *found.spent), each, strict=True)
        ]
        brought = len(found.coins)
        return WalletTransfer(
            msgspec.structs.replace(found.entry, confirmations=votes),
            anchors_at(last, height),
            found.replaces,
            coins[:brought],
            coins[brought:],
        )

    async def _items(
        self, found: list[HistoryEntry], last: tuple[int, bytes] | None
    ) -> list[HistoryItem]:
        votes = await votes_at(self._queries, last, [entry.height for entry in found])
        return [HistoryItem.of(entry, count) for entry, count in zip(found, votes, strict=True)]


def _coin(wallet: Wallet, coin: WalletCoin) -> OwnCoin:
    return OwnCoin.of(coin, wallet.store.label("coin", coin.coin_id), 0)
