"""The files of a directory's wallets: backed up, restored, renamed, deleted; others stay open."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec
import trio

from unchained.node.wallet.backup import read_backup, write_backup
from unchained.node.wallet.errors import (
    NoSuchWalletError,
    NotConfirmedError,
    StillUnlockedError,
    WalletError,
    WalletExistsError,
)
from unchained.node.wallet.keystore import Keystore, wallet_path
from unchained.node.wallet.new_wallet import BESIDE_STORE, STORE_SUFFIX, free_path
from unchained.node.wallet.resealing import Resealing
from unchained.node.wallet.user_records import PAYEES
from unchained.node.wallet.wallet import Wallet
from unchained.node.wallet.wallet_follower import WalletFollower


class WalletContents(msgspec.Struct, frozen=True, gc=False):
    """What a wallet has, and what goes with its files: grains on the chain and pending, and how
    many labels, payees, contracts, invoices and own transfers no words bring back. Nothing is known
    of one that cannot be read; `damage` says why."""

    on_chain: int | None = None
    pending: int | None = None
    watch_only: bool | None = None
    has_bip39_passphrase: bool | None = None
    labels: int | None = None
    payees: int | None = None
    contracts: int | None = None
    invoices: int | None = None
    outgoing: int | None = None
    damage: str = ""

    @classmethod
    def of(cls, wallet: Wallet) -> WalletContents:
        """Look at a wallet."""
        balance, info = wallet.balance(), wallet.info()
        rows = wallet.store.rows
        (payees,) = rows("SELECT count(*) FROM labels WHERE kind LIKE '%payee'")[0]
        (labels,) = rows(
            "SELECT count(*) FROM labels WHERE kind NOT LIKE '%payee' AND kind != ?", PAYEES
        )[0]
        (contracts,) = rows("SELECT count(*) FROM contracts")[0]
        (invoices,) = rows("SELECT count(*) FROM invoices")[0]
        return cls(
            balance.on_chain,
            balance.pending,
            info.watch_only,
            info.has_bip39_passphrase,
            labels,
            payees,
            contracts,
            invoices,
            wallet.store.statistics().outgoing,
        )


class NameRights(Protocol):
    """Rights that go with a wallet's name. Methods block, and are called from any thread."""

    def forget_wallet(self, wallet: str) -> None:
        """End all rights to a wallet: its name is free, or another wallet's. Raises OSError."""

    def rename_wallet(self, wallet: str, new: str) -> None:
        """Let the rights to a wallet, and no others, be to its new name. Raises OSError."""


class WalletKeeper(WalletFollower):
    """Wallets whose files can be moved. Whoever asks for it holds the wallet's turn meanwhile."""

    _rights: NameRights | None = None

    def is_deleted(self, name: str) -> bool:
        """Return whether the last wallet of that name was deleted since the node has started."""
        return name in self._deleted and name not in self._open and name not in self._closed

    def tell_of_names(self, rights: NameRights) -> None:
        """Let rights go with the names from here on. Whoever gives rights is made later than the
        wallets."""
        self._rights = rights

    def _take_name(self, name: str, own: Keystore | None = None) -> None:
        """Prepare for a wallet that is about to be made: rights to one of that name, whose files
        somebody took away by hand, are not rights to this one. `own` as `free_path` has it. Blocks.

        Raises `WalletExistsError`, `BadWalletNameError`, `FileInTheWayError`, OSError.
        """
        free_path(self._directory, name, own)
        if self._rights is not None:
            self._rights.forget_wallet(name)

    async def backup(self, name: str, path: Path) -> int:
        """Write a wallet into one file that is not there yet, read it back, and return its bytes.

        Raises `BackupError`, `NoSuchWalletError`, OSError.
        """
        return await self.call(name, lambda wallet: write_backup(wallet, path))

    async def restore_backup(
        self, path: Path, passphrase: str, name: str | None = None, *, allow_empty: bool = False
    ) -> str:
        """Make the wallet of a backup anew, as it was called or as `name`, and open it; return its
        name. Its passphrase proves that it is the wallet that was backed up; with `allow_empty` it
        has none. It reads the chain from its birth on.

        Raises `BackupError`, `WalletExistsError`, `FileInTheWayError`, a `KeystoreError`, OSError.
        """

        def make() -> str:
            backup = read_backup(path, self.network)
            chosen = backup.name.decode("ascii", "replace") if name is None else name
            free_path(self._directory, chosen)
            # last, so that nobody types it to hear of another mistake
            backup.prove(self.network, passphrase, allow_empty=allow_empty)
            self._take_name(chosen)
            backup.restore(self._directory, chosen, self.network)
            return chosen

        made = await self.stretch(make)
        await self.open(made)
        return made

    async def reseal(self, name: str, how: Resealing) -> Keystore:
        """Seal a wallet's keys anew and return them; nothing else that is done with the wallet
        waits for it. Raises what `how` does, `NoSuchWalletError`, OSError."""
        entry = self._entry(name)
        while True:
            before = await self._on(entry, Wallet.present_keys)
            keystore = await self.stretch(how, before)
            # else it has found an account meanwhile, or somebody else has sealed it anew
            if await self._on(
                entry, partial(Wallet.replace_keys, before=before, keystore=keystore)
            ):
                return keystore

    async def contents(self, name: str) -> WalletContents:
        """Return what a wallet has, open or closed, that could be deleted, as far as it can be
        read. Raises `StillUnlockedError`, `NoSuchWalletError`."""
        async with self._moving:
            self._check_locked(name)
            return await self._contents(name)

    async def _contents(self, name: str) -> WalletContents:
        try:
            async with self._opened(name):
                return await self.look(name, WalletContents.of)
        except NoSuchWalletError:
            raise
        except (WalletError, OSError) as error:
            # what cannot be read has to go as well
            return WalletContents(damage=str(error))

    @asynccontextmanager
    async def _opened(self, name: str) -> AsyncIterator[None]:
        """Open a wallet for a moment, if it is closed."""
        is_closed = name in self._closed
        if is_closed:
            await self._open_now(name)
        try:
            yield
        finally:
            if is_closed and name in self._open:
                await self.close(name)

    async def delete(self, name: str, confirm: str) -> WalletContents:
        """Remove a wallet's files for good and return what it had. `confirm` is its name again.

        Raises `NotConfirmedError`, `StillUnlockedError`, `NoSuchWalletError`, OSError.
        """
        async with self._moving:
            self._check_locked(name)
            if confirm != name:
                raise NotConfirmedError(name)
            contents = await self._contents(name)
            was_open = name in self._open
            # whoever gives up waiting does not leave it half done
            with trio.CancelScope(shield=True):
                await self._close_for_good(name)
                try:
                    await self._runner.run(self._remove, name)
                except OSError:
                    if was_open:
                        await self._open_now(name)
                    raise
                self._closed.pop(name, None)
            self._deleted.add(name)
        self._log.info("wallet.deleted", wallet=name)
        return contents

    async def rename(self, name: str, to: str) -> None:
        """Call a wallet otherwise. Raises `WalletExistsError`, `BadWalletNameError`,
        `FileInTheWayError`, `StillUnlockedError`, `NoSuchWalletError`, OSError."""
        old = wallet_path(self._directory, name)
        async with self._moving:
            self._check_locked(name)
            new = await self._runner.run(free_path, self._directory, to)
            was_open, why_closed = name in self._open, self._closed.get(name, "")
            if not was_open and name not in self._closed:
                raise NoSuchWalletError(name)
            # whoever gives up waiting does not leave it half done
            with trio.CancelScope(shield=True):
                await self._close_for_good(name)
                try:
                    await self._runner.run(_move, old, new)
                except FileExistsError:
                    raise WalletExistsError(to) from None
                else:
                    self._closed.pop(name, None)
                    name, former = to, name
                    if self._rights is not None:
                        await self._runner.run(self._rights.rename_wallet, former, to)
                finally:
                    if was_open:
                        await self._open_now(name)
                    else:
                        self._closed[name] = why_closed

    def _remove(self, name: str) -> None:
        if self._rights is not None:
            self._rights.forget_wallet(name)
        _remove(wallet_path(self._directory, name))

    def _check_locked(self, name: str) -> None:
        entry = self._open.get(name)
        if entry is not None and not entry.wallet.locked:
            raise StillUnlockedError(name)

    async def _close_for_good(self, name: str) -> None:
        if name in self._open:
            await self.close(name)


def _remove(path: Path) -> None:
    """Remove a wallet's files: its keys last, so that a crash leaves a wallet that can be read."""
    store = path.with_suffix(STORE_SUFFIX)
    for beside in (*(store.with_name(store.name + end) for end in BESIDE_STORE), store):
        beside.unlink(missing_ok=True)
    path.unlink()
    _sync(path.parent)


def _move(old: Path, new: Path) -> None:
    """Move a closed wallet's files: after a crash at any instant its keys are under one name at
    least. Raises FileExistsError if a wallet has the new name."""
    old_store, new_store = old.with_suffix(STORE_SUFFIX), new.with_suffix(STORE_SUFFIX)
    os.link(old, new, follow_symlinks=False)
    moved: list[tuple[Path, Path]] = []
    try:
        for end in ("", *BESIDE_STORE):
            beside = old_store.with_name(old_store.name + end)
            if beside.exists():
                target = new_store.with_name(new_store.name + end)
                beside.rename(target)
                moved.append((beside, target))
        old.unlink()
    except OSError:
        for beside, target in reversed(moved):
            target.rename(beside)
        new.unlink()
        raise
    _sync(old.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
