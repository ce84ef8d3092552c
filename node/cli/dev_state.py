"""The chain and the wallets of a development node: made at its start, saved in a file, loaded."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from unchained.node.base.files import private_file
from unchained.node.base.os_errors import os_error_line
from unchained.node.cli.asker import CommandFailedError
from unchained.node.consensus.params import REG
from unchained.node.crypto.accounts import new_mnemonic
from unchained.node.crypto.addresses import encode_address
from unchained.node.primitives.types import KeyHash
from unchained.node.wallet.errors import WalletError
from unchained.node.wallet.keystore import (
    WALLETS_NAME,
    Keystore,
    SpendSecret,
    wallet_path,
)
from unchained.node.wallet.new_wallet import save_new
from unchained.node.wallet.wallet_file import KdfCost

MARKER: Final = "dev"
"""A file that says that a directory is a development node's, and may be emptied."""

CHAIN: Final = "exported.chain"
WALLET_SUFFIX: Final = ".wallet"
STATE_BYTES_MAX: Final = 1 << 30
"""Bytes of what a file of state unpacks to."""

_COST: Final = KdfCost(32, 1, 1)
"""There is no passphrase to guess."""

WALLETS: Final = ("default", "bob", "carol")


@dataclass(frozen=True, slots=True)
class DevWallet:
    """A wallet whose words everybody knows."""

    name: str
    words: str
    address: str


@cache
def dev_wallets() -> Sequence[DevWallet]:
    """Return the wallets that every development node has, always the same."""
    found = []
    for number, name in enumerate(WALLETS):
        words = new_mnemonic(bytes([number]) * 32)
        account = SpendSecret.of(words).account(REG.chain_id, 0)
        found.append(DevWallet(name, words, encode_address(REG, KeyHash(account.key_hash))))
    return found


def make_wallets(data_dir: Path) -> None:
    """Make those of the wallets that are not there. Raises OSError."""
    for wallet in dev_wallets():
        if not wallet_path(data_dir / WALLETS_NAME, wallet.name).exists():
            secret = SpendSecret.of(wallet.words)
            keystore = Keystore.create(REG, secret, "", cost=_COST, allow_empty=True)
            save_new(keystore, data_dir / WALLETS_NAME, wallet.name, may_have_store=True)


def empty(data_dir: Path) -> None:
    """Make a directory that is a development node's, or remove all that such a one holds.

    Raises `CommandFailedError` for a directory that is somebody else's.
    """
    try:
        if data_dir.exists() and any(data_dir.iterdir()):
            if not (data_dir / MARKER).is_file():
                raise CommandFailedError(f"{data_dir} is no development node's: not emptied")
            shutil.rmtree(data_dir)
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        (data_dir / MARKER).touch(mode=0o600)
    except OSError as error:
        raise CommandFailedError(os_error_line(error)) from None


def save(chain: Path, data_dir: Path, file: Path) -> None:
    """Write a chain file, which is gone then, and the wallets of a directory into one file.

    Raises OSError.
    """
    try:
        # nothing seals the keys of these wallets
        with (
            private_file(file) as made,
            zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            archive.write(chain, CHAIN)
            for wallet in sorted((data_dir / WALLETS_NAME).glob(f"*{WALLET_SUFFIX}")):
                archive.write(wallet, f"{WALLETS_NAME}/{wallet.name}")
    finally:
        chain.unlink(missing_ok=True)


def load(file: Path, data_dir: Path) -> Path:
    """Unpack a file of state into a directory without wallets; return its chain file.

    Raises `CommandFailedError`.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            wanted = _checked(archive, file)
            (data_dir / WALLETS_NAME).mkdir(mode=0o700, exist_ok=True)
            for member in wanted:
                target = data_dir / member.filename
                with archive.open(member) as packed, private_file(target) as out:
                    shutil.copyfileobj(packed, out)
        for path in (data_dir / WALLETS_NAME).glob(f"*{WALLET_SUFFIX}"):
            Keystore.load(path, REG)
    except OSError as error:
        raise CommandFailedError(os_error_line(error)) from None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise CommandFailedError(f"{file} is no state of a development node: {error}") from None
    except WalletError as error:
        raise CommandFailedError(f"{file}: {error}") from None
    return data_dir / CHAIN


def _checked(archive: zipfile.ZipFile, file: Path) -> Sequence[zipfile.ZipInfo]:
    members = archive.infolist()
    for member in members:
        folder, _, name = member.filename.rpartition("/")
        is_wallet = folder == WALLETS_NAME and Path(name).suffix == WALLET_SUFFIX
        if member.filename != CHAIN and not is_wallet:
            raise CommandFailedError(f"{file} holds {member.filename[:60]!r}, which is no state")
    if all(member.filename != CHAIN for member in members):
        raise CommandFailedError(f"{file} is no state of a development node: it has no chain")
    if sum(member.file_size for member in members) > STATE_BYTES_MAX:
        raise CommandFailedError(f"{file}: it unpacks to more than {STATE_BYTES_MAX} bytes")
    return members
