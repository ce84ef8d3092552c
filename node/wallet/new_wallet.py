"""Where a wallet's files come to lie when it gets its name: made, restored, or called otherwise.

Everyone who gives a wallet a name asks here first, before anything is written: keys beside a `.db`
file of somebody else make a wallet that cannot be opened.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from unchained.node.base.files import remove_unfinished, unfinished
from unchained.node.consensus.genesis import genesis_of
from unchained.node.wallet.database import is_of_wallet
from unchained.node.wallet.errors import BadWalletNameError, FileInTheWayError, WalletExistsError
from unchained.node.wallet.keystore import (
    SUFFIX,
    Keystore,
    new_wallet_path,
    wallet_names,
    wallet_path,
)

STORE_SUFFIX: Final = ".db"
"""What the file of what a wallet knows is called after the wallet's name."""

BESIDE_STORE: Final = ("-wal", "-shm")
"""What SQLite may leave beside that file."""


def free_name(directory: Path, name: str) -> Path:
    """Return where the file of a wallet that gets this name will be; whether a `.db` lies in its
    way is not looked at. Raises `BadWalletNameError`, `WalletExistsError`."""
    path = new_wallet_path(directory, name)
    if path.is_symlink() or path.exists():
        raise WalletExistsError(name)
    return path


def free_path(directory: Path, name: str, own: Keystore | None = None) -> Path:
    """Return where the file of a wallet that gets this name will be.

    A `.db` file may lie there already if it is that of the wallet `own`, whose keys are made again.
    Raises `BadWalletNameError`, `WalletExistsError`, `FileInTheWayError`.
    """
    path = free_name(directory, name)
    store = path.with_suffix(STORE_SUFFIX)
    if store.is_symlink() or store.exists():
        if own is None or not _is_of(store, own):
            raise FileInTheWayError(store)
        return path
    for end in BESIDE_STORE:
        if (beside := store.with_name(store.name + end)).exists():
            # SQLite would take what it holds for the new file's
            raise FileInTheWayError(beside)
    return path


def save_new(
    keystore: Keystore, directory: Path, name: str, *, may_have_store: bool = False
) -> Path:
    """Write a wallet that is not there yet; return its path. `may_have_store`: its `.db` file may
    be there from before.

    Raises OSError, `WalletExistsError`, `FileInTheWayError`, `BadWalletNameError`.
    """
    path = free_path(directory, name, keystore if may_have_store else None)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        # of two who make the same wallet at once one is refused
        keystore.save_new(path)
    except FileExistsError:
        raise WalletExistsError(name) from None
    return path


def unfinished_files(directory: Path) -> list[Path]:
    """Return what crashes have left of wallets' files that were being written in a directory, or
    where its links lead."""
    return [path for place in _places(directory) for path in unfinished(place, _is_of_wallet)]


def wallets_to_open(directory: Path) -> list[str]:
    """Return the names of the wallets in a directory, in order, once nothing of what crashes have
    left is there: it may hold secrets."""
    for place in _places(directory):
        remove_unfinished(place, _is_of_wallet)
    return wallet_names(directory)


def _places(directory: Path) -> list[Path]:
    keys = (wallet_path(directory, name) for name in wallet_names(directory))
    return sorted({Path(os.path.realpath(path)).parent for path in keys} | {directory.absolute()})


def _is_of_wallet(file_name: str) -> bool:
    path = Path(file_name)
    try:
        return path.suffix in (SUFFIX, STORE_SUFFIX) and bool(wallet_path(path, path.stem))
    except BadWalletNameError:
        return False


def _is_of(store: Path, keystore: Keystore) -> bool:
    owner = keystore.accounts[0].key_hash
    return is_of_wallet(store, genesis_of(keystore.network).id, owner)
