"""wallet.*: backups, names, and what becomes of a wallet's files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import msgspec

from unchained.node.base.os_errors import os_error_line
from unchained.node.base.user_text import user_text
from unchained.node.rpc.core.errors import InvalidParamsError, WalletRefusedError, short
from unchained.node.rpc.core.registry import Access, Scope, method
from unchained.node.rpc.core.values import Amount, Secret
from unchained.node.rpc.methods.wallet_shapes import (
    Account,
    Label,
    PayeeText,
    WalletEntry,
    WalletName,
)
from unchained.node.wallet.errors import NoSuchWalletError
from unchained.node.wallet.keystore import DEFAULT_WALLET
from unchained.node.wallet.manager import WalletManager
from unchained.node.wallet.payee_book import (
    NAME_CHARS_MAX,
    AccountNames,
    NamedPayee,
    PayeeBook,
)
from unchained.node.wallet.summary import fingerprint_of
from unchained.node.wallet.wallet import Wallet
from unchained.node.wallet.wallet_keeper import WalletContents

KEEPING_S = 600.0
"""A large wallet takes its time to be written and read back."""

FilePath = Annotated[
    str,
    msgspec.Meta(
        min_length=1, max_length=4_096, description="an absolute path on the node's machine"
    ),
]
Alias = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=NAME_CHARS_MAX,
        description="a letter, then letters, digits, spaces, . ' - or _",
    ),
]


@user_text(
    """What a wallet has, and what goes with its files: no words bring back labels, payees,
    contracts, invoices, and to whom transfers were paid. Of one that cannot be read nothing is
    known, and `damage` says why."""
)
class Contents(msgspec.Struct, frozen=True):
    wallet: str
    total: Amount | None
    pending: Amount | None
    watch_only: bool | None
    has_bip39_passphrase: bool | None
    labels: int | None
    payees: int | None
    contracts: int | None
    invoices: int | None
    transfers: int | None
    damage: str

    @classmethod
    def of(cls, wallet: str, found: WalletContents) -> Contents:
        """Describe what a wallet has."""
        return cls(
            wallet,
            None if found.on_chain is None else Amount(found.on_chain),
            None if found.pending is None else Amount(found.pending),
            found.watch_only,
            found.has_bip39_passphrase,
            found.labels,
            found.payees,
            found.contracts,
            found.invoices,
            found.outgoing,
            found.damage,
        )


@user_text("A backup that was written and read back. `size` in bytes.")
class WrittenBackup(msgspec.Struct, frozen=True):
    wallet: str
    path: str
    size: int


@user_text(
    """A payee of the address book. Compare the `fingerprint`, which stands for all of `payee`, with
    the one that the payee shows. One that is not `confirmed` came out of a backup, which others may
    have altered: he is not paid by his name before wallet.payee_confirm."""
)
class PayeeInfo(msgspec.Struct, frozen=True):
    alias: str
    payee: str
    fingerprint: str
    label: str
    confirmed: bool

    @classmethod
    def of(cls, entry: NamedPayee) -> PayeeInfo:
        """Describe a payee."""
        fingerprint = fingerprint_of(entry.payee)
        return cls(entry.name, entry.payee, fingerprint, entry.label, entry.confirmed)


@user_text("An account of a wallet, what it is called and what it has.")
class AccountInfo(msgspec.Struct, frozen=True):
    account: int
    alias: str
    address: str
    confirmed: Amount
    total: Amount


class KeepingRoom:
    """Methods that look after a wallet's files and names."""

    def __init__(self, wallets: WalletManager) -> None:
        self._wallets = wallets

    @method("wallet.backup", Access.FULL, timeout=KEEPING_S, errors=(WalletRefusedError,))
    @user_text(
        """Write a wallet into one file on the node's machine, mode 0600, and read it back: keys,
        sealed as they are, and all that no words bring back.

        wallet.restore_backup makes the wallet of it.
        """
    )
    async def backup(self, path: FilePath, wallet: WalletName = DEFAULT_WALLET) -> WrittenBackup:
        target = absolute_path(path)
        try:
            size = await self._wallets.backup(wallet, target)
        except OSError as error:
            raise file_failed(error, target) from None
        return WrittenBackup(wallet, str(target), size)

    @method("wallet.restore_backup", Access.FULL, timeout=KEEPING_S, errors=(WalletRefusedError,))
    @user_text(
        """Make the wallet of a backup anew, as it was called or as `wallet`, and open it, locked.

        Its passphrase, the one that it had, proves that the addresses that it shows are its own. Of
        a wallet without one, or a watch-only one, nothing proves that: `no_passphrase` takes it as
        it is. Whoever had the backup in hand can have altered it: what the chain can tell is read
        from the chain, from the wallet's birth on or from its first coin, and payees are paid by
        name only after wallet.payee_confirm. Names, labels, contracts and waiting transfers are as
        they stood in it.
        """
    )
    async def restore_backup(
        self,
        path: FilePath,
        passphrase: Secret,
        wallet: WalletName | None = None,
        *,
        no_passphrase: Annotated[
            bool, msgspec.Meta(description="it has none, and nothing proves that it is yours")
        ] = False,
    ) -> WalletEntry:
        source = absolute_path(path)
        try:
            made = await self._wallets.restore_backup(
                source, passphrase.reveal(), wallet, allow_empty=no_passphrase
            )
        except OSError as error:
            raise file_failed(error, source) from None
        return await self._info(made)

    @method("wallet.delete", Access.FULL, timeout=KEEPING_S, errors=(WalletRefusedError,))
    @user_text(
        """Remove a wallet's files for good, and return what it had. The wallet has to be locked,
        and `confirm` is its name once more. With `dry_run` nothing is removed.

        The words bring the coins back, and nothing else.
        """
    )
    async def delete(
        self,
        wallet: WalletName,
        confirm: Annotated[str, msgspec.Meta(max_length=64)] = "",
        *,
        dry_run: bool = False,
    ) -> Contents:
        if dry_run:
            return Contents.of(wallet, await self._wallets.contents(wallet))
        try:
            contents = await self._wallets.delete(wallet, confirm)
        except OSError as error:
            raise files_failed(error, wallet) from None
        return Contents.of(wallet, contents)

    @method("wallet.rename", Access.FULL, timeout=KEEPING_S, errors=(WalletRefusedError,))
    @user_text("Call a wallet otherwise. It has to be locked.")
    async def rename(self, wallet: WalletName, new_wallet: WalletName) -> WalletEntry:
        try:
            await self._wallets.rename(wallet, new_wallet)
        except OSError as error:
            raise files_failed(error, wallet) from None
        return await self._info(new_wallet)

    async def _info(self, wallet: str) -> WalletEntry:
        for found in await self._wallets.wallets():
            if found.name == wallet:
                return WalletEntry.of(found.name, found.info, found.progress, found.failure)
        raise NoSuchWalletError(wallet)

    # Names

    @method("wallet.payee_add", Access.FULL, errors=(WalletRefusedError,))
    @user_text("Name a payee: whoever is paid can be given by this name from here on.")
    async def payee_add(
        self,
        alias: Alias,
        payee: PayeeText,
        wallet: WalletName = DEFAULT_WALLET,
        *,
        label: Label = "",
    ) -> PayeeInfo:
        return PayeeInfo.of(
            await self._wallets.call(wallet, lambda opened: _book(opened).add(alias, payee, label))
        )

    @method("wallet.payee_list", Access.FULL, scope=Scope.READ, errors=(WalletRefusedError,))
    @user_text("Return the payees of a wallet's address book, by name.")
    async def payee_list(self, wallet: WalletName = DEFAULT_WALLET) -> list[PayeeInfo]:
        entries = await self._wallets.call(wallet, lambda opened: _book(opened).entries())
        return [PayeeInfo.of(entry) for entry in entries]

    @method("wallet.payee_confirm", Access.FULL, errors=(WalletRefusedError,))
    @user_text(
        """Let a payee who came out of a backup be paid by his name again, and return him: compare
        his fingerprint with his own before."""
    )
    async def payee_confirm(self, alias: Alias, wallet: WalletName = DEFAULT_WALLET) -> PayeeInfo:
        return PayeeInfo.of(
            await self._wallets.call(wallet, lambda opened: _book(opened).confirm(alias))
        )

    @method("wallet.payee_remove", Access.FULL, errors=(WalletRefusedError,))
    @user_text("Forget a payee's name.")
    async def payee_remove(self, alias: Alias, wallet: WalletName = DEFAULT_WALLET) -> bool:
        await self._wallets.call(wallet, lambda opened: _book(opened).remove(alias))
        return True

    @method("wallet.accounts", Access.FULL, scope=Scope.READ, errors=(WalletRefusedError,))
    @user_text("Return a wallet's accounts, with their names and what they have.")
    async def accounts(self, wallet: WalletName = DEFAULT_WALLET) -> list[AccountInfo]:
        return await self._wallets.look(wallet, _accounts)

    @method("wallet.name_account", Access.FULL, errors=(WalletRefusedError,))
    @user_text(
        """Name an account: it can be given by this name from here on. An empty name takes it
        away."""
    )
    async def name_account(
        self,
        account: Account,
        alias: Annotated[str, msgspec.Meta(max_length=NAME_CHARS_MAX)],
        wallet: WalletName = DEFAULT_WALLET,
    ) -> list[AccountInfo]:
        def work(opened: Wallet) -> list[AccountInfo]:
            AccountNames(opened.store).set_name(opened.account_index(account), alias)
            return _accounts(opened)

        return await self._wallets.look(wallet, work)


def _book(wallet: Wallet) -> PayeeBook:
    return PayeeBook(wallet.store, wallet.network)


def _accounts(wallet: Wallet) -> list[AccountInfo]:
    names = AccountNames(wallet.store)
    found = []
    for index in wallet.info().accounts:
        balance = wallet.balance(index)
        found.append(
            AccountInfo(
                index,
                names.name(index),
                wallet.address(index),
                Amount(balance.confirmed),
                Amount(balance.on_chain),
            )
        )
    return found


def absolute_path(path: str) -> Path:
    """Return a path that a caller names. Raises `InvalidParamsError` for a relative one."""
    found = Path(path)
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise InvalidParamsError("path: no file can be called so") from None
    if not found.is_absolute() or "\x00" in path:
        raise InvalidParamsError("path: expected an absolute path")
    return found


def file_failed(error: OSError, path: Path) -> WalletRefusedError:
    """Return what a caller is told whose file cannot be read or written."""
    return WalletRefusedError(f"{path}: {error.strerror}", error="FILE_ERROR")


def files_failed(error: OSError, wallet: str) -> WalletRefusedError:
    """Return what a caller is told where the files of a wallet cannot be moved."""
    line = short(os_error_line(error))
    return WalletRefusedError(f"the files of wallet {wallet}: {line}", error="FILE_ERROR")
