"""A wallet in one file: its keys, sealed as they are, and all that no chain could bring back.

    file = "UNCHAINED-BACKUP" ‖ 01 ‖ MessagePack array ‖ BLAKE3 checksum of all before, 32 bytes
    array = [chain_id, name, the .wallet file, the .db file]

The `.db` file goes whole: labels, payees, contracts, invoices, and what was paid to whom. Of keys
nothing more is in clear than in the `.wallet` file; whoever has a backup sees what the wallet has.

The checksum finds damage, and proves nothing: whoever can write where a backup lies can alter the
`.db` in it, for the view key, under which that is sealed, is in clear beside it. So its layout has
to be this program's own, and its payees are paid by name only once they are confirmed. The watch
keys beside what is sealed are authenticated with it: whoever restores proves them by the
passphrase. Otherwise a locked wallet would show the addresses of whoever altered it as its own.
What the chain can tell is not taken from a backup, but read from the chain.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import msgspec

from unchained.node.base.files import write_private
from unchained.node.consensus.params import Network
from unchained.node.primitives.codec import CanonicalDecoder, encode
from unchained.node.primitives.errors import NonCanonicalError
from unchained.node.primitives.hashing import HashContext
from unchained.node.primitives.transfer import SizedTransfer
from unchained.node.primitives.types import UInt64
from unchained.node.wallet.database import SQLITE_ERRORS, check_layout, words_of
from unchained.node.wallet.errors import (
    BackupError,
    EmptyPassphraseError,
    FileInTheWayError,
    KeystoreCorruptError,
    StoreDamagedError,
    WalletExistsError,
)
from unchained.node.wallet.keystore import Keystore
from unchained.node.wallet.new_wallet import STORE_SUFFIX, free_path
from unchained.node.wallet.scanner import RESCAN_NEXT
from unchained.node.wallet.stored_values import check_values, told_as_damage
from unchained.node.wallet.unsigned import UnsignedPayee
from unchained.node.wallet.user_records import UNCONFIRM
from unchained.node.wallet.wallet import Wallet
from unchained.node.wallet.wallet_file import WALLET_FILE_BYTES_MAX

BACKUP_NAME: Final = b"UNCHAINED-BACKUP"
"""What a file begins with, before the byte of its version."""

BACKUP_VERSION: Final = 1
"""The only version of backups."""

BACKUP_BYTES_MAX: Final = 2 << 30
"""Bytes of a file that is looked at: a wallet of a million coins has a quarter of that."""

_CHECKSUM: Final = HashContext("wallet backup")
_SQLITE_HEAD: Final = b"SQLite format 3\x00"
_ROLLBACK_JOURNAL: Final = b"\x01\x01"
_JOURNAL_FIELDS: Final = slice(18, 20)
"""Bytes of an SQLite file that say whether it has a write-ahead log beside it: a copy has none."""


class Backup(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a file holds."""

    chain_id: UInt64
    name: Annotated[bytes, msgspec.Meta(min_length=1, max_length=64)]
    keystore: Annotated[bytes, msgspec.Meta(max_length=WALLET_FILE_BYTES_MAX)]
    database: Annotated[bytes, msgspec.Meta(max_length=BACKUP_BYTES_MAX)]

    @classmethod
    def of(cls, wallet: Wallet) -> Backup:
        """Take a wallet as it is at this moment; nothing else may work on it meanwhile."""
        image = bytearray(wallet.store.image())
        image[_JOURNAL_FIELDS] = _ROLLBACK_JOURNAL
        return cls(
            wallet.network.chain_id,
            wallet.name.encode(),
            wallet.keystore.to_bytes(),
            bytes(image),
        )

    def to_file(self) -> bytes:
        """Return the file's content."""
        body = BACKUP_NAME + bytes((BACKUP_VERSION,)) + encode(self)
        return body + _CHECKSUM(body)

    @classmethod
    def from_file(cls, raw: bytes, network: Network) -> Backup:
        """Read a file and check that a wallet can be made of it. Raises `BackupError`."""
        head = BACKUP_NAME + bytes((BACKUP_VERSION,))
        if not raw.startswith(head):
            raise BackupError(
                f"not a backup of version {BACKUP_VERSION}: it does not begin like one"
            )
        if _CHECKSUM(raw[:-32]) != raw[-32:]:
            raise BackupError("the backup is damaged: its checksum is wrong")
        try:
            backup = _DECODER.decode(raw[len(head) : -32])
        except NonCanonicalError as error:
            raise BackupError(f"the backup is malformed: {error.in_words()}") from None
        if backup.chain_id != network.chain_id:
            raise BackupError(f"the backup is of another network, expected {network.name}")
        try:
            Keystore.from_bytes(backup.keystore, network, "the wallet in the backup")
        except KeystoreCorruptError as error:
            raise BackupError(str(error)) from None
        with _opened(backup.database):
            return backup

    def prove(self, network: Network, passphrase: str, *, allow_empty: bool = False) -> None:
        """Prove by the wallet's passphrase that the keys in it, and so the addresses that it shows,
        are those that were sealed; takes a second, by design. Of a wallet without a passphrase
        nothing proves that: `allow_empty` says that its owner knows it for one.

        Raises `EmptyPassphraseError`, `WrongPassphraseError`, `BackupError`.
        """
        keystore = Keystore.from_bytes(self.keystore, network)
        if not passphrase and not allow_empty:
            raise EmptyPassphraseError(
                "expected the passphrase of the wallet in the backup, got an empty one; if it has "
                "none, say so (`--no-passphrase`)"
            )
        if passphrase and not keystore.has_passphrase:
            raise BackupError(
                "the wallet in the backup has no passphrase: if yours had one, somebody has "
                "altered the backup; if it had none, say so (`--no-passphrase`)"
            )
        if not keystore.watch_only:
            keystore.unlock(passphrase)

    def restore(self, directory: Path, name: str, network: Network) -> None:
        """Make the wallet anew in a directory of wallets, under a name that is free there.

        Its payees and the labels of its contracts are unconfirmed then, and what the chain can tell
        is for it to read: coins, history, its place, how invoices stand. Raises
        `WalletExistsError`, `FileInTheWayError`, `BadWalletNameError`, `BackupError`, a
        `KeystoreError`, `StoreDamagedError`, OSError; nothing is left of the wallet then.
        """
        path = free_path(directory, name)
        keystore = Keystore.from_bytes(self.keystore, network, "the wallet in the backup")
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        store = path.with_suffix(STORE_SUFFIX)
        with _opened(self.database) as database:
            try:
                # what an index holds is read in place of what its table does, and an altered one
                # need not hold the same: to make them anew takes no longer than to compare them
                database.execute("REINDEX")
                database.execute(UNCONFIRM)
                database.commit()
            except SQLITE_ERRORS as error:
                raise BackupError(
                    f"the wallet's .db in the backup cannot be mended: {words_of(error)}"
                ) from None
            image = database.serialize()
        try:
            write_private(store, image, replace=False)
        except FileExistsError:
            raise FileInTheWayError(store) from None
        try:
            with (
                told_as_damage(),
                contextlib.closing(Wallet(name, network, keystore, path)) as wallet,
                wallet.store.transaction(),
            ):
                _leave_to_the_chain(wallet)
            # the keys last: with them the wallet is there
            write_private(path, self.keystore, replace=False)
        except BaseException as error:
            store.unlink()
            if isinstance(error, FileExistsError):
                raise WalletExistsError(name) from None
            raise


def _leave_to_the_chain(wallet: Wallet) -> None:
    """Take nothing of what the chain can tell from a backup: whoever had it in hand could hide
    coins of the wallet, and show others. What the wallet sent is as it was noted; what of it the
    chain includes is found there."""
    store = wallet.store
    made = store.all_outgoing()
    first = _first_height(wallet)
    store.forget_chain()
    if first is not None and first < wallet.keystore.birth:
        # that a rescan found, or was about to: the chain is followed from the birth on
        wallet.rescan(first)
    for known in made:
        wallet.record(
            SizedTransfer.from_bytes(known.raw, known.wid),
            known.created_ms,
            payees=known.payees,
            proven_payees=[UnsignedPayee(it.index, "", it.shared) for it in known.secrets],
            change=known.change,
            replaces=known.replaces,
        )
    store.put_states(made)
    wallet.events.rename()


def _first_height(wallet: Wallet) -> int | None:
    """Return the first height of which the wallet has something, or where it reads again."""
    heights = [wallet.store.first_height(), wallet.store.number(RESCAN_NEXT)]
    return min((height for height in heights if height is not None), default=None)


def write_backup(wallet: Wallet, path: Path) -> int:
    """Write a wallet's backup to a file that is not there yet, mode 0600, and read it back; return
    its bytes. Raises `BackupError`, OSError."""
    if path.is_dir():
        raise BackupError(f"{path} is a directory, expected a file to write")
    backup = Backup.of(wallet)
    content = backup.to_file()
    if len(content) > BACKUP_BYTES_MAX:
        raise BackupError(f"a backup has at most {BACKUP_BYTES_MAX} bytes, got {len(content)}")
    try:
        write_private(path, content, replace=False)
    except FileExistsError:
        raise BackupError(f"{path} is there already: name another file") from None
    if read_backup(path, wallet.network) != backup:
        raise BackupError(f"{path} does not read as written: do not rely on it")
    return len(content)


def read_backup(path: Path, network: Network) -> Backup:
    """Read a file. Raises `BackupError`, OSError."""
    if not path.is_file():
        raise BackupError(f"{path} is no file")
    if path.stat().st_size > BACKUP_BYTES_MAX:
        raise BackupError(f"{path} has more than {BACKUP_BYTES_MAX} bytes: no backup")
    return Backup.from_file(path.read_bytes(), network)


@contextlib.contextmanager
def _opened(image: bytes) -> Iterator[sqlite3.Connection]:
    """Open a database in memory, once its layout is checked and all of its content was read. Raises
    `BackupError`."""
    if not image.startswith(_SQLITE_HEAD):
        raise BackupError("the wallet's .db in the backup is none")
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        try:
            database.deserialize(image)
            if not check_layout(database):
                raise BackupError("the wallet's .db in the backup is empty")
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if verdict == "ok":
                check_values(database)
        except SQLITE_ERRORS as error:
            raise BackupError(
                f"the wallet's .db in the backup cannot be read: {words_of(error)}"
            ) from None
        except StoreDamagedError as error:
            raise BackupError(f"in the backup {error}") from None
        if verdict != "ok":
            # SQLite names the database first, in a line of its own
            what = verdict.splitlines()[-1]
            raise BackupError(f"the wallet's .db in the backup is damaged: {what}")
        yield database


_DECODER: CanonicalDecoder[Backup] = CanonicalDecoder(Backup, max_size=BACKUP_BYTES_MAX)
