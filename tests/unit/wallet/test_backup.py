"""A backup brings back all that the wallet had, and nothing but a sound one is taken."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import sqlite3
import stat
from pathlib import Path

import msgspec
import pytest

from tests.framework.wallets import CHEAP, Purse, WalletChain, cheap_wallet
from unchained.node.base.files import write_private
from unchained.node.consensus.params import LOCAL, REG
from unchained.node.wallet import backup
from unchained.node.wallet.backup import Backup, read_backup, write_backup
from unchained.node.wallet.contracts import hash_time_lock
from unchained.node.wallet.errors import (
    BackupError,
    BadWalletNameError,
    EmptyPassphraseError,
    FileInTheWayError,
    NoSuchPayeeError,
    PayeeBookError,
    StoreDamagedError,
    UnconfirmedPayeeError,
    WalletExistsError,
    WrongPassphraseError,
)
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.keystore import Keystore, new_secret
from unchained.node.wallet.new_wallet import save_new
from unchained.node.wallet.payee_book import AccountNames, PayeeBook
from unchained.node.wallet.records import HistoryEntry, InvoiceStatus, OutgoingState, Payee
from unchained.node.wallet.replacement import standing
from unchained.node.wallet.tables import Sealer
from unchained.node.wallet.wallet import Wallet

UNC = 10**8


@pytest.fixture
def chain() -> WalletChain:
    return WalletChain()


def known(wallet: Wallet) -> list[HistoryEntry]:
    """Return a wallet's history, apart from what tells when it was told."""
    return [msgspec.structs.replace(entry, changed=0) for entry in wallet.history()]


@pytest.fixture
def wallet(tmp_path: Path, chain: WalletChain) -> Wallet:
    """A wallet on disk with labels, a payee, a contract and a payment."""
    directory = tmp_path / "wallets"
    save_new(Keystore.create(REG, new_secret(), "pass", cost=CHEAP, accounts=2), directory, "w")
    made = Wallet.open(directory, "w", REG)
    made.unlock("pass")
    purse = Purse(chain, made)
    chain.grow(3, purse.mine_to)
    purse.sync()
    other = cheap_wallet()
    sent = purse.pay(other.paycode(), UNC // 4, b"rent")
    made.label("transfer", sent.txid, "May")
    PayeeBook(made.store, REG).add("landlord", other.paycode())
    AccountNames(made.store).set_name(1, "savings")
    lock = hash_time_lock(REG, made.address(), other.address(), 50)
    made.add_contract(lock.contract, 0, preimage=lock.preimage, label="the swap")
    made.label("coin", made.store.rows("SELECT coin_id FROM coins")[0][0], "the first")
    made.invoices.add(0, amount=UNC // 8, label="three loaves")
    chain.mine()
    purse.sync()
    return made


def test_brings_everything_back(wallet: Wallet, chain: WalletChain, tmp_path: Path) -> None:
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
    assert again.balance().on_chain == 0
    Purse(chain, again).sync()
    assert again.balance() == wallet.balance()
    assert known(again) == known(wallet)
    assert [entry.label for entry in again.history() if entry.label] == ["May"]
    (swap,) = again.contracts()
    assert [msgspec.structs.replace(swap, confirmed=True)] == wallet.contracts()
    assert swap.preimage is not None
    assert (swap.label, swap.confirmed) == ("the swap", False)
    for table in ("labels", "invoices", "contracts", "outgoing", "frozen"):
        asked = f"SELECT count(*) FROM {table}"
        assert again.store.rows(asked) == wallet.store.rows(asked), table
    (invoice,) = again.invoices.page(list(InvoiceStatus), 9)
    assert (invoice.label, invoice.amount) == ("three loaves", UNC // 8)
    assert [invoice] == wallet.invoices.page(list(InvoiceStatus), 9)
    book = PayeeBook(again.store, REG)
    assert not book.entries()[0].confirmed
    assert [book.confirm("landlord")] == PayeeBook(wallet.store, REG).entries() == book.entries()
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


@pytest.mark.parametrize("cut_short", [False, True], ids=["after a rescan", "within a rescan"])
def test_what_a_rescan_finds_below_the_birth_is_found_again(
    tmp_path: Path, chain: WalletChain, *, cut_short: bool
) -> None:
    directory = tmp_path / "wallets"
    save_new(Keystore.create(REG, new_secret(), "pass", cost=CHEAP, birth=6), directory, "w")
    with contextlib.closing(Wallet.open(directory, "w", REG)) as wallet:
        purse = Purse(chain, wallet)
        chain.grow(2)
        chain.grow(2, purse.mine_to)
        chain.grow(6)
        purse.sync()
        assert wallet.balance().on_chain == 0
        wallet.rescan(0)
        if not cut_short:
            purse.sync()
            assert wallet.balance().on_chain == 2 * UNC
        write_backup(wallet, tmp_path / "backup")
    read_backup(tmp_path / "backup", REG).restore(tmp_path / "elsewhere", "again", REG)
    with contextlib.closing(Wallet.open(tmp_path / "elsewhere", "again", REG)) as again:
        Purse(chain, again).sync()
        assert [coin.height for coin in again.store.coins()] == [4, 3]
        assert again.balance().on_chain == 2 * UNC


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


def test_its_passphrase_proves_whose_addresses_it_shows(wallet: Wallet, tmp_path: Path) -> None:
    sound = Backup.of(wallet)
    wallet.close()
    sound.prove(REG, "pass")
    with pytest.raises(EmptyPassphraseError):
        sound.prove(REG, "")
    for wrong in ("other", ""):
        with pytest.raises(WrongPassphraseError):
            sound.prove(REG, wrong, allow_empty=True)
    keys, other = wallet.keystore, Keystore.create(REG, new_secret(), "mine", cost=CHEAP)

    def with_keys(changed: Keystore) -> Backup:
        return msgspec.structs.replace(sound, keystore=changed.to_bytes())

    # what a stranger can put into the part that stands in clear, with its checksum
    clear = msgspec.structs.replace(keys.file.clear, accounts=other.accounts)
    file = msgspec.structs.replace(keys.file, clear=clear)
    with pytest.raises(WrongPassphraseError):
        with_keys(msgspec.structs.replace(keys, file=file)).prove(REG, "pass")
    # a wallet of his own, or one that nobody has to open to make
    open_ = Keystore.create(REG, new_secret(), "", cost=CHEAP, allow_empty=True)
    with pytest.raises(WrongPassphraseError):
        with_keys(other).prove(REG, "pass")
    for without in (open_, Keystore.watch(REG, other.accounts)):
        with pytest.raises(BackupError, match="has no passphrase: if yours had one"):
            with_keys(without).prove(REG, "pass")
        with pytest.raises(EmptyPassphraseError):
            with_keys(without).prove(REG, "")
        with_keys(without).prove(REG, "", allow_empty=True)


INVENT = """
    UPDATE coins SET value = value * 1000 WHERE height = 2;
    UPDATE coins SET spent_height = 2, spent_by = zeroblob(32) WHERE height = 1;
    UPDATE coins SET account = 1, height = 2 WHERE height = 3;
    UPDATE coins SET height = 1 << 40 WHERE txid != x'';
    INSERT INTO coins SELECT randomblob(32), account, origin, value, lock, txid, idx, 1, time_ms,
        NULL, x'', secret, tag, seen_ms FROM coins WHERE origin = 0 LIMIT 1;
    INSERT INTO coins SELECT randomblob(32), account, origin, value, lock, txid, idx, -7, time_ms,
        NULL, x'', secret, tag, seen_ms FROM coins WHERE origin = 0 LIMIT 1;
    INSERT INTO coins SELECT randomblob(32), account, origin, value, lock, txid, idx, 1 << 40,
        time_ms, NULL, x'', secret, tag, seen_ms FROM coins WHERE origin = 0 LIMIT 1;
    UPDATE outgoing SET height = 2;
    UPDATE history SET received = received * 7;
    UPDATE invoices SET status = 2, received = 12500000, confirmed = 1;
    DELETE FROM dirty;
    DELETE FROM dirty_tags;
"""
"""What hides coins of a wallet, and shows others, a payment and a paid invoice that there are not.
"""


def test_an_altered_backup_shows_what_the_chain_says(
    wallet: Wallet, chain: WalletChain, tmp_path: Path
) -> None:
    path = tmp_path / "backup"
    altered(wallet, path, INVENT)
    read_backup(path, REG).restore(tmp_path / "elsewhere", "again", REG)
    with contextlib.closing(Wallet.open(tmp_path / "elsewhere", "again", REG)) as again:
        assert again.balance().on_chain == 0
        assert [invoice.status for invoice in again.invoices.page(list(InvoiceStatus), 9)] == [
            InvoiceStatus.OPEN
        ]
        assert again.events.last == 0
        Purse(chain, again).sync()
        assert again.balance() == wallet.balance()
        assert known(again) == known(wallet)
        assert again.store.coins(spent=True) == wallet.store.coins(spent=True)
        assert again.invoices.page(list(InvoiceStatus), 9) == wallet.invoices.page(
            list(InvoiceStatus), 9
        )
        assert again.events.log_id != wallet.events.log_id
    wallet.close()


def test_reading_all_of_the_chain_again_makes_coins_what_it_says(
    wallet: Wallet, chain: WalletChain
) -> None:
    coins, balance = wallet.store.coins(spent=True), wallet.balance()
    entries, invoices = known(wallet), wallet.invoices.page(list(InvoiceStatus), 9)
    for change in INVENT.split(";")[:-1]:
        wallet.store.run(change)
    assert wallet.balance() != balance
    wallet.rescan(0)
    Purse(chain, wallet).sync()
    assert wallet.store.coins(spent=True) == coins
    assert wallet.balance() == balance
    assert known(wallet) == entries
    assert wallet.invoices.page(list(InvoiceStatus), 9) == invoices
    # and what was sound it leaves alone
    told = wallet.events.last
    wallet.rescan(0)
    Purse(chain, wallet).sync()
    assert wallet.events.last == told
    wallet.close()


def altered(wallet: Wallet, path: Path, sql: str) -> None:
    """Write a wallet's backup as whoever has it in hand may alter it: the view key is in clear."""
    write_backup(wallet, path)
    backup = Backup.from_file(path.read_bytes(), REG)
    sealer = Sealer(Keystore.from_bytes(backup.keystore, REG).accounts[0].view_seed)
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.deserialize(backup.database)
        rows = database.execute("SELECT key FROM labels WHERE kind LIKE '%payee'").fetchall()
        for (key,) in rows:
            secret = sealer.seal(("landlord", wallet.address(), ""), key)
            database.execute("UPDATE labels SET secret = ? WHERE key = ?", (secret, key))
        database.executescript(sql)
        image = database.serialize()
    path.write_bytes(msgspec.structs.replace(backup, database=image).to_file())


def test_a_payee_of_a_backup_is_paid_by_name_once_he_is_confirmed(
    wallet: Wallet, tmp_path: Path
) -> None:
    path = tmp_path / "backup"
    # also where he is there twice, as the one and as the other
    altered(
        wallet,
        path,
        """INSERT INTO labels SELECT 'unconfirmed payee', key, secret FROM labels
            WHERE kind = 'payee'""",
    )
    wallet.close()
    read_backup(path, REG).restore(tmp_path / "elsewhere", "again", REG)
    again = Wallet.open(tmp_path / "elsewhere", "again", REG)
    book = PayeeBook(again.store, REG)
    with pytest.raises(UnconfirmedPayeeError, match="'landlord' came out of a backup"):
        book.resolve(Payee("Landlord", 1, b""))
    assert book.names() == {}, "a summary would call a stranger by the payee's name"
    with pytest.raises(PayeeBookError, match="is in the address book already"):
        book.add("landlord", again.paycode())
    assert book.confirm("LANDLORD").confirmed
    assert book.resolve(Payee("Landlord", 1, b"")).payee == again.address()
    with pytest.raises(NoSuchPayeeError):
        book.confirm("nobody")
    book.remove("landlord")
    assert book.entries() == []
    again.close()


def test_the_label_of_a_contract_out_of_a_backup_names_no_output_until_it_is_given_anew(
    wallet: Wallet, tmp_path: Path
) -> None:
    """Who alters a backup can put a contract of his own into it, under a name that is trusted."""
    path, lock = tmp_path / "backup", wallet.contracts()[0].contract.lock
    unsigned = wallet.spender.pay(
        [Payee(wallet.contracts()[0].contract.to_text(), UNC // 8, b"")], Fee(1)
    ).unsigned
    write_backup(wallet, path)
    wallet.close()
    read_backup(path, REG).restore(tmp_path / "elsewhere", "again", REG)
    with contextlib.closing(Wallet.open(tmp_path / "elsewhere", "again", REG)) as again:

        def names() -> list[str]:
            return [output.contract for output in again.summary(unsigned).outputs if output.terms]

        assert names() == [""]
        again.add_contract(again.contracts()[0].contract, 0)
        assert names() == [""]
        again.label("contract", lock, "the swap")
        assert names() == ["the swap"]
        (swap,) = again.contracts()
        assert (swap.label, swap.confirmed) == ("the swap", True)
        again.label("contract", lock, "")
        (swap,) = again.contracts()
        assert (swap.label, swap.confirmed) == ("", True)


def test_sql_of_somebody_elses_is_neither_restored_nor_opened(
    wallet: Wallet, tmp_path: Path
) -> None:
    wallet.close()
    store = tmp_path / "wallets" / "w.db"
    sound = store.read_bytes()
    for number, sql in enumerate(
        (
            "CREATE TRIGGER evil AFTER INSERT ON anchors BEGIN DELETE FROM coins; END",
            "CREATE VIEW evil AS SELECT 1",
            "CREATE TABLE evil (a)",
            "CREATE INDEX evil ON coins (abs(value))",
            "DROP TRIGGER coins_insert",
            "ALTER TABLE labels ADD COLUMN evil GENERATED ALWAYS AS (hex(secret))",
            "ALTER TABLE frozen RENAME TO evil; CREATE VIEW frozen AS SELECT coin_id FROM evil",
            "PRAGMA user_version = 2",
            "PRAGMA user_version = 0",
            "PRAGMA user_version = 9",
        )
    ):
        store.write_bytes(sound)
        path = tmp_path / f"{number}.backup"
        opened = Wallet.open(tmp_path / "wallets", "w", REG)
        altered(opened, path, sql)
        opened.close()
        with pytest.raises(BackupError, match=r"in the backup the wallet's \.db file"):
            read_backup(path, REG)
        with contextlib.closing(sqlite3.connect(store)) as database:
            database.executescript(sql)
        with pytest.raises(StoreDamagedError, match=r"altered|has layout 9"):
            Wallet.open(tmp_path / "wallets", "w", REG)


def test_what_is_sealed_and_malformed_is_damage(wallet: Wallet) -> None:
    """Whoever alters a backup has the key that seals: it is no bug of this program."""
    store = wallet.store
    store.run("UPDATE labels SET secret = ?", store.sealer.seal(7, b"key"))
    store.run("UPDATE labels SET key = ? WHERE kind = 'payee'", b"key")
    with pytest.raises(StoreDamagedError):
        PayeeBook(store, REG).entries()
    wallet.close()


def test_text_in_a_column_of_bytes_is_damage(wallet: Wallet, tmp_path: Path) -> None:
    wallet.store.run("INSERT INTO contracts VALUES (?, 'text', 1, x'')", bytes(32))
    wallet.close()
    with pytest.raises(StoreDamagedError, match=r"its column contracts\.secret"):
        Wallet.open(tmp_path / "wallets", "w", REG)
    # it is closed again: no journal is left open beside it
    assert sorted(os.listdir(tmp_path / "wallets")) == ["w.db", "w.wallet"]


@pytest.mark.parametrize(
    ("column", "sql"),
    [
        ("contracts.secret", "INSERT INTO contracts VALUES (zeroblob(32), 'text', 1, x'')"),
        ("outgoing.raw", "UPDATE outgoing SET raw = hex(raw)"),
        ("coins.time_ms", "UPDATE coins SET time_ms = 0.5"),
        ("history.height", "UPDATE history SET height = x'00'"),
        ("labels.kind", "UPDATE labels SET kind = x'00' WHERE kind = 'transfer'"),
    ],
)
def test_a_value_that_is_not_of_its_columns_type_is_not_restored(
    wallet: Wallet, tmp_path: Path, column: str, sql: str
) -> None:
    altered(wallet, tmp_path / "backup", sql)
    wallet.close()
    with pytest.raises(BackupError, match=rf"its column {column} holds what is not of its type"):
        read_backup(tmp_path / "backup", REG)


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("UPDATE outgoing SET raw = x'00'", "the bytes of the transfer"),
        ("UPDATE outgoing SET txid = zeroblob(32)", "the bytes of the transfer"),
        ("UPDATE outgoing SET state = 99", r"outgoing\.state is 99, expected 0 to"),
        ("UPDATE coins SET origin = -1", r"coins\.origin is -1, expected 0 to"),
        ("UPDATE history SET kind = 99", r"history\.kind is 99, expected 0 to"),
        ("UPDATE history SET status = 99", r"history\.status is 99, expected 0 to"),
        ("UPDATE invoices SET status = 99", r"invoices\.status is 99, expected 0 to"),
        ("UPDATE anchors SET height = height + (1 << 62)", r"anchors\.height is"),
    ],
)
def test_a_value_that_this_program_never_writes_is_not_restored(
    wallet: Wallet, tmp_path: Path, sql: str, why: str
) -> None:
    altered(wallet, tmp_path / "backup", sql)
    wallet.close()
    with pytest.raises(
        BackupError, match=rf"in the backup the wallet's \.db file was altered: {why}"
    ):
        read_backup(tmp_path / "backup", REG)


def test_an_index_that_holds_what_its_table_does_not_is_made_anew(
    wallet: Wallet, tmp_path: Path
) -> None:
    altered(
        wallet,
        tmp_path / "backup",
        """PRAGMA writable_schema = ON;
        CREATE TEMP TABLE kept AS SELECT * FROM sqlite_master WHERE name = 'uses_txid';
        DELETE FROM sqlite_master WHERE name = 'uses_txid';
        PRAGMA writable_schema = RESET;
        UPDATE uses SET txid = zeroblob(32);
        PRAGMA writable_schema = ON;
        INSERT INTO sqlite_master SELECT * FROM kept;
        PRAGMA writable_schema = RESET;""",
    )
    wallet.close()
    read_backup(tmp_path / "backup", REG).restore(tmp_path / "elsewhere", "again", REG)
    with contextlib.closing(sqlite3.connect(tmp_path / "elsewhere" / "again.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_of_a_wallet_that_cannot_be_opened_nothing_is_left(wallet: Wallet, tmp_path: Path) -> None:
    sealed = wallet.store.sealer.seal("no contract", bytes(32)).hex()
    sql = f"INSERT INTO contracts VALUES (zeroblob(32), x'{sealed}', 1, x'')"
    altered(wallet, tmp_path / "backup", sql)
    wallet.close()
    with pytest.raises(StoreDamagedError):
        read_backup(tmp_path / "backup", REG).restore(tmp_path / "elsewhere", "again", REG)
    assert os.listdir(tmp_path / "elsewhere") == []


def test_transfers_that_replace_one_another_in_a_circle_are_damage(wallet: Wallet) -> None:
    ((txid,),) = wallet.store.rows("SELECT txid FROM outgoing")
    wallet.store.run(
        "UPDATE outgoing SET replaces = txid, height = NULL, state = ?", OutgoingState.REPLACED
    )
    with pytest.raises(StoreDamagedError, match="in a circle"):
        standing(wallet.store, txid)
    wallet.close()


def test_of_an_empty_database_no_wallet_is_made(wallet: Wallet, tmp_path: Path) -> None:
    backup = Backup.of(wallet)
    wallet.close()
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.execute("PRAGMA user_version = 0")
        database.execute("CREATE TABLE a (b)")
        database.execute("DROP TABLE a")
        image = database.serialize()
    raw = msgspec.structs.replace(backup, database=image).to_file()
    with pytest.raises(BackupError, match="is empty"):
        Backup.from_file(raw, REG)


def test_no_backup_is_reported_that_is_too_large_to_be_read(
    wallet: Wallet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "BACKUP_BYTES_MAX", 1_000)
    with pytest.raises(BackupError, match="at most 1000 bytes"):
        write_backup(wallet, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()
    wallet.close()


def test_a_directory_is_no_file_to_write(wallet: Wallet, tmp_path: Path) -> None:
    for directory in (tmp_path, Path("/")):
        with pytest.raises(BackupError, match="is a directory, expected a file"):
            write_backup(wallet, directory)
    with pytest.raises(IsADirectoryError):
        write_private(Path("/"), b"")
