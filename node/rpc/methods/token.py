"""token.*: rights to single wallets, given to programs and people who shall not have more."""

from __future__ import annotations

from typing import Annotated

import msgspec

from unchained.node.base.runner import Runner
from unchained.node.base.user_text import user_text
from unchained.node.rpc.core.errors import (
    InvalidParamsError,
    NotFoundError,
    RefusedError,
    WalletRefusedError,
)
from unchained.node.rpc.core.registry import Access, Scope, method
from unchained.node.rpc.core.values import Amount
from unchained.node.rpc.http.tokens import Token, TokenBook, TooManyTokensError
from unchained.node.rpc.methods.wallet_shapes import Label, WalletName
from unchained.node.wallet.errors import NoSuchWalletError, WalletError
from unchained.node.wallet.manager import WalletManager

TokenId = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[0-9a-f]{16}$",
        description="the token's id: see token.list",
        extra={"expected": "16 lower-case hex digits"},
    ),
]


@user_text(
    """A token of a wallet. `scopes`: read, see what it has; invoice, make and see what others pay
    to; spend, pay from it, fees included at most `daily_limit` in any 24 hours, of which `spent`
    has gone in the last ones, or can go at any time: what was signed for it by wallet.sign counts
    until 24 hours after an anchor includes it, or until its coins are spent otherwise."""
)
class TokenInfo(msgspec.Struct, frozen=True):
    id: str
    wallet: str
    scopes: list[Scope]
    daily_limit: Amount | None
    spent: Amount
    label: str
    created_time: int


@user_text(
    """A token that was made. `secret` is shown this once: as `Authorization: Bearer SECRET`, or as
    the password of the user `__token__`, it lets its bearer in."""
)
class CreatedToken(msgspec.Struct, frozen=True):
    token: TokenInfo
    secret: str


class TokenRoom:
    """Methods about tokens."""

    def __init__(self, tokens: TokenBook, wallets: WalletManager, runner: Runner) -> None:
        self._tokens = tokens
        self._wallets = wallets
        self._runner = runner

    @method(
        "token.create", Access.FULL, errors=(InvalidParamsError, RefusedError, WalletRefusedError)
    )
    @user_text(
        """Make a token for one wallet: for a shop that makes invoices, a program that pays.

        Its bearer learns nothing of other wallets, and cannot see keys or words. A token that may
        spend takes a `daily_limit`. It can unlock the wallet with the passphrase, if it knows it.
        """
    )
    async def create(
        self,
        wallet: WalletName,
        scopes: Annotated[
            list[Scope],
            msgspec.Meta(min_length=1, max_length=3, description="read, invoice, spend"),
        ],
        *,
        daily_limit: Annotated[
            Amount, msgspec.Meta(description="what it may spend in any 24 hours, fees included")
        ]
        | None = None,
        label: Label = "",
    ) -> CreatedToken:
        if (Scope.SPEND in scopes) != (daily_limit is not None):
            raise InvalidParamsError(
                "a daily_limit goes with the scope spend, and the scope spend with a daily_limit"
            )
        if all(found.name != wallet for found in await self._wallets.wallets()):
            raise NoSuchWalletError(wallet)
        try:
            made, secret = await self._runner.run(
                lambda: self._tokens.create(
                    wallet, scopes, daily_limit=int(daily_limit or 0), label=label
                )
            )
        except TooManyTokensError as error:
            raise RefusedError(str(error), error="TOO_MANY_TOKENS") from None
        return CreatedToken(self._describe(made), secret)

    @method("token.list", Access.FULL)
    @user_text("Return the tokens of wallets, the oldest first, without their secrets.")
    async def list_(self) -> list[TokenInfo]:
        for token in self._tokens.tokens():
            if any(entry.coin for entry in token.spent):
                await self._settle(token)
        return [self._describe(token) for token in self._tokens.tokens()]

    @method("token.revoke", Access.FULL, errors=(NotFoundError,))
    @user_text(
        """Let a token let nobody in any more. Streams of events and sessions of browsers end with
        it."""
    )
    async def revoke(self, token: TokenId) -> list[TokenInfo]:
        if not await self._runner.run(lambda: self._tokens.revoke(token)):
            raise NotFoundError(f"there is no token {token}: see token.list")
        return await self.list_()

    async def _settle(self, token: Token) -> None:
        try:
            await self._wallets.call(
                token.wallet, lambda opened: self._tokens.settle(token.id, opened.store)
            )
        except WalletError:
            # one that is closed or cannot be read cannot tell: all that was signed counts
            return

    def _describe(self, token: Token) -> TokenInfo:
        may_spend = Scope.SPEND in token.scopes
        return TokenInfo(
            token.id,
            token.wallet,
            list(token.scopes),
            Amount(token.daily_limit) if may_spend else None,
            Amount(self._tokens.spent(token)),
            token.label,
            token.created_ms,
        )
