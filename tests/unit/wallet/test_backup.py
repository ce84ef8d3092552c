"""A backup brings back all that the wallet had, and nothing but a sound one is taken."""

from __future__ import annotations

import errno
import os
import random
import stat
from pathlib import Path

import msgspec
import pytest

from tests.framework.wallets import CHEAP, Purse, WalletChain, cheap_wallet
from unchained.node.consensus.params import LOCAL, REG
from unchained.node.wallet import backup
from unchained.node.wallet.backup import Backup, read_backup, write_backup
from unchained.node.wallet.contracts import hash_time_lock
from unchained.node.wallet.errors import (
    BackupError,
    BadWalletNameError,
    FileInTheWayError,
    WalletExistsError,
    WrongPassphraseError,
)
from unchained.node.wallet.keystore import Keystore, new_secret
from unchained.node.wallet.new_wallet import save_new
from unchained.node.wallet.payee_book import AccountNames, PayeeBook
from unchained.node.wallet.wallet import Wallet

UNC = 10**8


@pytest.fixture
def wallet(tmp_path: Path) -> Wallet:
    """A wallet on disk with labels, a payee, a contract and a payment."""
    directory = tmp_path / "wallets"
    save_new(Keystore.create(REG, new_secret(), "pass", cost=CHEAP, accounts=2), directory, "w")
    made = Wallet.open(directory, "w", REG)
    made.unlock("pass")
    chain = WalletChain()
    purse = Purse(chain, made)
    chain.grow(3, purse.mine_to)
    purse.sync()
    other = cheap_wallet()
    sent = purse.pay(other.paycode(), UNC // 4, b"rent")
    made.label("transfer", sent.txid, "May")
    PayeeBook(made.store, REG).add("landlord", other.paycode())
    AccountNames(made.store).set_name(1, "savings")
    lock = hash_time_lock(REG, made.address(), other.address(), 50)
    made.add_contract(lock.contract, 0, preimage=lock.preimage)
    chain.mine()
    purse.sync()
    return made


def test_brings_everything_back(wallet: Wallet, tmp_path: Path) -> None:
    path = tmp_path / "backup"
    assert write_backup(wallet, path) == path.stat().st_size
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    elsewhere = tmp_path / "elsewhere"
    read_backup(path, REG).restore(elsewhere, "again", REG)
    for name in ("again.wallet", "again.db"):
        assert stat.S_IMODE((elsewhere / name).stat().st_mode) == 0o600
    again = Wallet.open(elsewhere, "again", REG)
    assert again.locked
    with pytest.raises(WrongPassphraseError):
        again.unlock("other")
    again.unlock("pass")
    assert again.balance() == wallet.balance()
    assert again.history() == wallet.history()
    assert [entry.label for entry in again.history() if entry.label] == ["May"]
    assert again.contracts() == wallet.contracts()
    assert again.contracts()[0].preimage is not None
    assert PayeeBook(again.store, REG).entries() == PayeeBook(wallet.store, REG).entries()
    assert again.address("savings") == wallet.address(1)
    assert again.store.last_anchor() == wallet.store.last_anchor()
    again.close()
    # what is there is not overwritten, keys or not
    with pytest.raises(BackupError, match="is there already"):
        write_backup(wallet, path)
    with pytest.raises(WalletExistsError):
        read_backup(path, REG).restore(elsewhere, "again", REG)
    (elsewhere / "again.wallet").unlink()
    with pytest.raises(FileInTheWayError, match=r"/again\.db is there already"):
        read_backup(path, REG).restore(elsewhere, "again", REG)
    for name in ("../again", "-again"):
        with pytest.raises(BadWalletNameError):
            read_backup(path, REG).restore(elsewhere, name, REG)
    wallet.close()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EEXIST])
def test_where_the_keys_cannot_be_written_nothing_is_left(
    wallet: Wallet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    path, elsewhere = tmp_path / "backup", tmp_path / "elsewhere"
    write_backup(wallet, path)
    wallet.close()
    write = backup.write_private

    def fail_for_keys(path: Path, content: bytes, *, replace: bool = True) -> None:
        if path.suffix == ".wallet":
            raise OSError(error, os.strerror(error), str(path))
        write(path, content, replace=replace)

    with monkeypatch.context() as patch:
        patch.setattr(backup, "write_private", fail_for_keys)
        with pytest.raises((OSError, WalletExistsError)):
            read_backup(path, REG).restore(elsewhere, "again", REG)
    assert os.listdir(elsewhere) == []
    read_backup(path, REG).restore(elsewhere, "again", REG)


def test_only_a_sound_file_is_taken(wallet: Wallet, tmp_path: Path) -> None:
    path = tmp_path / "backup"
    write_backup(wallet, path)
    raw = path.read_bytes()
    with pytest.raises(BackupError, match="another network"):
        read_backup(path, LOCAL)
    rng = random.Random(2)
    for at in [*range(60), *(rng.randrange(len(raw)) for _ in range(60))]:
        wrong = bytearray(raw)
        wrong[at] ^= 1 << rng.randrange(8)
        with pytest.raises(BackupError):
            Backup.from_file(bytes(wrong), REG)
    for wrong_file in (b"", raw[:-1], raw + b"\x00", raw[:100]):
        with pytest.raises(BackupError):
            Backup.from_file(wrong_file, REG)
    for other in (tmp_path, Path("/dev/zero")):
        with pytest.raises(BackupError, match="is no file"):
            read_backup(other, REG)
    sound = Backup.from_file(raw, REG)
    for broken, why in (
        ({"database": sound.database[:5_000]}, "db in the backup"),
        ({"database": b""}, "db in the backup"),
        ({"keystore": sound.keystore[:-1]}, "damaged"),
        ({"keystore": b"UNCHAINED-WALLET"}, "version|damaged"),
    ):
        changed = msgspec.structs.replace(sound, **broken)
        with pytest.raises(BackupError, match=why):
            Backup.from_file(changed.to_file(), REG)
    wallet.close()
