"""wallet.*: keys, what a wallet has, and what it knows."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from unchained.node.base.user_text import user_text
from unchained.node.rpc.core.errors import InvalidParamsError, WalletRefusedError
from unchained.node.rpc.core.registry import Access, Scope, method
from unchained.node.rpc.core.rights import current_caller
from unchained.node.rpc.core.values import Amount, Hash, Secret
from unchained.node.rpc.methods.parameters import Height, Limit, Offset
from unchained.node.rpc.methods.passphrase_guesses import PassphraseGuesses
from unchained.node.rpc.methods.votes import Confirmations, votes_at
from unchained.node.rpc.methods.wallet_shapes import (
    Account,
    AccountCount,
    BalanceInfo,
    Created,
    Label,
    Memo,
    Mnemonic,
    OwnCoin,
    Receiving,
    WalletEntry,
    WalletName,
)
from unchained.node.wallet.errors import NoSuchWalletError
from unchained.node.wallet.keystore import DEFAULT_WALLET, SpendSecret
from unchained.node.wallet.manager import WalletManager
from unchained.node.wallet.payment_request import PaymentRequest
from unchained.node.wallet.resealing import NewPassphrase, OneMoreAccount
from unchained.node.wallet.summary import fingerprint_of
from unchained.node.wallet.wallet import Wallet

SLOW_METHOD_S = 120.0
"""A passphrase takes a second or more to check, and others may be waiting."""


Holder = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=64,
        description="a name of the caller's own for one unlocking: locked by the same name, the "
        "wallet stays unlocked for others",
    ),
]


class WalletRoom:
    """Methods that move no coins."""

    def __init__(self, wallets: WalletManager, queries: Confirmations) -> None:
        self._wallets = wallets
        self._queries = queries
        self._guesses = PassphraseGuesses()

    @method("wallet.list", Access.FULL, scope=Scope.READ)
    @user_text("Return the wallets of the node, open or not.")
    async def list_(self) -> list[WalletEntry]:
        caller = current_caller()
        return [
            WalletEntry.of(found.name, found.info, found.progress, found.failure)
            for found in await self._wallets.wallets()
            if caller.may_see(found.name)
        ]

    @method("wallet.info", Access.FULL, scope=Scope.READ, errors=(WalletRefusedError,))
    @user_text("Return one wallet's state, and how far it has followed the chain.")
    async def info(self, wallet: WalletName = DEFAULT_WALLET) -> WalletEntry:
        for entry in await self.list_():
            if entry.wallet == wallet:
                return entry
        raise NoSuchWalletError(wallet)

    @method("wallet.check_new", Access.FULL, errors=(WalletRefusedError,))
    @user_text(
        """Check whether wallet.create or wallet.restore could make a wallet of that name, and make
        nothing: so that nobody is asked for words and passphrase in vain. A `.db` of another wallet
        that lies in its way is found by these alone."""
    )
    async def check_new(
        self,
        wallet: WalletName = DEFAULT_WALLET,
        *,
        accounts: AccountCount = 1,
        birth_height: Annotated[
            Height, msgspec.Meta(description="a height below which it has no coins")
        ] = 0,
    ) -> bool:
        await self._wallets.check_new(wallet, birth_height)
        return True

    @method("wallet.create", Access.FULL, timeout=SLOW_METHOD_S, errors=(WalletRefusedError,))
    @user_text(
        """Make a wallet with a new mnemonic, and open it, locked.

        The answer holds the mnemonic: anyone who has it has the coins.
        """
    )
    async def create(
        self,
        passphrase: Secret,
        wallet: WalletName = DEFAULT_WALLET,
        *,
        accounts: AccountCount = 1,
        no_passphrase: Annotated[
            bool, msgspec.Meta(description="take an empty passphrase: the file guards nothing")
        ] = False,
    ) -> Created:
        words = await self._wallets.create(
            wallet, passphrase.reveal(), accounts=accounts, allow_empty=no_passphrase
        )
        return Created(wallet, words)

    @method(
        "wallet.restore",
        Access.FULL,
        timeout=SLOW_METHOD_S,
        errors=(WalletRefusedError, InvalidParamsError),
    )
    @user_text(
        """Make a wallet from its mnemonic, open it, locked, and find its coins.

        wallet.info shows how far it has read the chain.
        """
    )
    async def restore(
        self,
        mnemonic: Secret,
        passphrase: Secret,
        wallet: WalletName = DEFAULT_WALLET,
        *,
        bip39_passphrase: Secret | None = None,
        birth_height: Annotated[
            Height, msgspec.Meta(description="a height below which it has no coins")
        ] = 0,
        accounts: AccountCount = 1,
        no_passphrase: bool = False,
    ) -> WalletEntry:
        await self._wallets.create(
            wallet,
            passphrase.reveal(),
            mnemonic=mnemonic.reveal(),
            bip39_passphrase="" if bip39_passphrase is None else bip39_passphrase.reveal(),
            birth=birth_height,
            accounts=accounts,
            allow_empty=no_passphrase,
        )
        return await self.info(wallet)

    @method("wallet.import_watch", Access.FULL, errors=(WalletRefusedError,))
    @user_text("Make a watch-only wallet from what wallet.export_watch gave.")
    async def import_watch(self, view: Secret, wallet: WalletName) -> WalletEntry:
        await self._wallets.import_watch(wallet, view.reveal())
        return await self.info(wallet)

    @method("wallet.export_watch", Access.FULL, errors=(WalletRefusedError,))
    @user_text(
        """Return what a watch-only copy of a wallet is made of: it sees everything and spends
        nothing."""
    )
    async def export_watch(self, wallet: WalletName = DEFAULT_WALLET) -> str:
        return await self._wallets.call(wallet, Wallet.export_watch)

    @method("wallet.open", Access.FULL, errors=(WalletRefusedError,))
    @user_text("Open a wallet, locked: it follows the chain. All are opened when the node starts.")
    async def open(self, wallet: WalletName = DEFAULT_WALLET) -> WalletEntry:
        await self._wallets.open(wallet)
        return await self.info(wallet)

    @method("wallet.close", Access.FULL, errors=(WalletRefusedError,))
    @user_text("Lock and close a wallet: it does not follow the chain until it is opened again.")
    async def close(self, wallet: WalletName = DEFAULT_WALLET) -> WalletEntry:
        await self._wallets.close(wallet)
        return await self.info(wallet)

    @method(
        "wallet.unlock",
        Access.FULL,
        scope=Scope.SPEND,
        timeout=SLOW_METHOD_S,
        errors=(WalletRefusedError,),
    )
    @user_text(
        """Let a wallet sign for some seconds, a week at most.

        By a token: after a wrong passphrase the wallet's tokens wait a second, and twice as long
        after each further one (BUSY).
        """
    )
    async def unlock(
        self,
        passphrase: Secret,
        wallet: WalletName = DEFAULT_WALLET,
        seconds: Annotated[float, msgspec.Meta(ge=0.1, le=604_800)] = 300.0,
        *,
        holder: Holder | None = None,
    ) -> WalletEntry:
        with self._guesses.attempt(wallet):
            await self._wallets.unlock(wallet, passphrase.reveal(), seconds, holder or "")
        return await self.info(wallet)

    @method("wallet.lock", Access.FULL, scope=Scope.SPEND, errors=(WalletRefusedError,))
    @user_text(
        """Drop a wallet's spend keys at once; with a `holder` once nobody else has it unlocked."""
    )
    async def lock(
        self, wallet: WalletName = DEFAULT_WALLET, *, holder: Holder | None = None
    ) -> WalletEntry:
        self._wallets.lock(wallet, holder)
        return await self.info(wallet)

    @method(
        "wallet.change_passphrase",
        Access.FULL,
        timeout=SLOW_METHOD_S,
        errors=(WalletRefusedError,),
    )
    @user_text("Seal a wallet's file with another passphrase.")
    async def change_passphrase(
        self,
        passphrase: Secret,
        new_passphrase: Secret,
        wallet: WalletName = DEFAULT_WALLET,
        *,
        no_passphrase: bool = False,
    ) -> WalletEntry:
        how = NewPassphrase(passphrase.reveal(), new_passphrase.reveal(), allow_empty=no_passphrase)
        await self._wallets.reseal(wallet, how)
        return await self.info(wallet)

    @method(
        "wallet.check_passphrase",
        Access.FULL,
        timeout=SLOW_METHOD_S,
        errors=(WalletRefusedError,),
    )
    @user_text(
        """Check a wallet's passphrase, and do nothing: so that nobody chooses a new one in vain."""
    )
    async def check_passphrase(
        self, passphrase: Secret, wallet: WalletName = DEFAULT_WALLET
    ) -> bool:
        await self._secret(wallet, passphrase)
        return True

    @method("wallet.mnemonic", Access.FULL, timeout=SLOW_METHOD_S, errors=(WalletRefusedError,))
    @user_text("Return a wallet's mnemonic, for a backup: anyone who has it has the coins.")
    async def mnemonic(self, passphrase: Secret, wallet: WalletName = DEFAULT_WALLET) -> Mnemonic:
        secret = await self._secret(wallet, passphrase)
        return Mnemonic(secret.mnemonic(), secret.has_bip39_passphrase)

    async def _secret(self, wallet: str, passphrase: Secret) -> SpendSecret:
        """Return a wallet's secret. Nothing else that is done with the wallet waits for it."""
        opened = self._wallets.wallet(wallet)
        return await self._wallets.stretch(opened.open_secret, passphrase.reveal())

    @method("wallet.add_account", Access.FULL, timeout=SLOW_METHOD_S, errors=(WalletRefusedError,))
    @user_text(
        """Add the next account to a wallet and return its number.

        Coins that it had before take a rescan.
        """
    )
    async def add_account(self, passphrase: Secret, wallet: WalletName = DEFAULT_WALLET) -> int:
        keys = await self._wallets.reseal(wallet, OneMoreAccount(passphrase.reveal()))
        return keys.accounts[-1].index

    @method("wallet.address", Access.FULL, scope=Scope.INVOICE, errors=(WalletRefusedError,))
    @user_text(
        """Return an account's address: short, but payments to it can be linked.

        `amount` and `label` go into the payment URI.
        """
    )
    async def address(
        self,
        wallet: WalletName = DEFAULT_WALLET,
        account: Account = 0,
        amount: Amount | None = None,
        label: Label = "",
    ) -> Receiving:
        text = await self._wallets.call(wallet, lambda opened: opened.address(account))
        return self._receiving(text, amount, "", label)

    @method("wallet.paycode", Access.FULL, scope=Scope.INVOICE, errors=(WalletRefusedError,))
    @user_text(
        """Return an account's paycode: long, and payments to it cannot be linked.

        `amount`, `memo` and `label` go into the payment URI.
        """
    )
    async def paycode(
        self,
        wallet: WalletName = DEFAULT_WALLET,
        account: Account = 0,
        amount: Amount | None = None,
        memo: Memo = "",
        label: Label = "",
    ) -> Receiving:
        text = await self._wallets.call(wallet, lambda opened: opened.paycode(account))
        return self._receiving(text, amount, memo, label)

    def _receiving(self, text: str, amount: Amount | None, memo: str, label: str) -> Receiving:
        value = None if amount is None else int(amount)
        request = PaymentRequest.checked(self._wallets.network, text, value, memo, label)
        return Receiving(text, request.to_uri(), fingerprint_of(text))

    @method("wallet.balance", Access.FULL, scope=Scope.READ, errors=(WalletRefusedError,))
    @user_text("Return what an account has, or all of them.")
    async def balance(
        self, wallet: WalletName = DEFAULT_WALLET, account: Account | None = None
    ) -> BalanceInfo:
        found = await self._wallets.balance(wallet, account)
        return BalanceInfo(
            Amount(found.confirmed),
            Amount(found.frozen),
            Amount(found.immature),
            Amount(found.leaving),
            Amount(found.pending),
            Amount(found.on_chain),
        )

    @method("wallet.coins", Access.FULL, scope=Scope.READ, errors=(WalletRefusedError,))
    @user_text("Return a wallet's coins, the latest first.")
    async def coins(
        self,
        wallet: WalletName = DEFAULT_WALLET,
        account: Account | None = None,
        *,
        spent: Annotated[bool, msgspec.Meta(description="list spent coins too")] = False,
        limit: Limit = 100,
        offset: Offset = 0,
    ) -> list[OwnCoin]:
        def look(opened: Wallet) -> tuple[list[OwnCoin], tuple[int, bytes] | None]:
            index = None if account is None else opened.account_index(account)
            found = opened.store.coins(index, spent=spent, limit=limit, offset=offset)
            return [
                OwnCoin.of(coin, opened.store.label("coin", coin.coin_id), 0) for coin in found
            ], opened.store.last_anchor()

        listed, last = await self._wallets.look(wallet, look)
        votes = await votes_at(self._queries, last, [coin.height for coin in listed])
        return [
            msgspec.structs.replace(coin, confirmations=count)
            for coin, count in zip(listed, votes, strict=True)
        ]

    @method("wallet.label", Access.FULL, errors=(WalletRefusedError,))
    @user_text(
        """Label a coin, a transfer (by its txid) or a contract (by its lock); an empty label
        takes the label away."""
    )
    async def label(
        self,
        kind: Literal["coin", "transfer", "contract"],
        id: Hash,  # noqa: A002 - the parameter's public name
        label: Label,
        wallet: WalletName = DEFAULT_WALLET,
    ) -> bool:
        await self._wallets.call(wallet, lambda opened: opened.label(kind, bytes(id), label))
        return True

    @method("wallet.freeze", Access.FULL, errors=(WalletRefusedError,))
    @user_text("Keep a coin back from being spent unless it is named, or free it again.")
    async def freeze(
        self,
        coin: Hash,
        wallet: WalletName = DEFAULT_WALLET,
        *,
        frozen: Annotated[bool, msgspec.Meta(description="false: free it again")] = True,
    ) -> bool:
        await self._wallets.call(
            wallet, lambda opened: opened.store.freeze(bytes(coin), frozen=frozen)
        )
        return frozen

    @method("wallet.rescan", Access.FULL, errors=(WalletRefusedError,))
    @user_text("Read the chain again from a height on; wallet.info shows how far it is.")
    async def rescan(self, wallet: WalletName = DEFAULT_WALLET, height: Height = 0) -> WalletEntry:
        await self._wallets.rescan(wallet, height)
        return await self.info(wallet)

    @method("wallet.cancel_rescan", Access.FULL, errors=(WalletRefusedError,))
    @user_text("Give up reading again; what has been found stays.")
    async def cancel_rescan(self, wallet: WalletName = DEFAULT_WALLET) -> WalletEntry:
        await self._wallets.cancel_rescan(wallet)
        return await self.info(wallet)
