"""A wallet's .db file that somebody has altered: it is used or refused, and nothing else."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import msgspec
import pytest

from tests.framework.wallets import CHEAP, Purse, WalletChain, cheap_wallet
from unchained.node.consensus.params import REG
from unchained.node.wallet.backup import Backup
from unchained.node.wallet.contract_spender import driven_out
from unchained.node.wallet.contracts import hash_time_lock
from unchained.node.wallet.database import is_of_wallet
from unchained.node.wallet.errors import BackupError, StoreDamagedError, WalletError
from unchained.node.wallet.keystore import Keystore, new_secret
from unchained.node.wallet.new_wallet import save_new
from unchained.node.wallet.payee_book import PayeeBook
from unchained.node.wallet.records import InvoiceStatus
from unchained.node.wallet.tables import SCHEMA
from unchained.node.wallet.wallet import Wallet

UNC = 10**8

VALUES = {
    "INTEGER": (-(1 << 63), -1, 7, 99, (1 << 63) - 1),
    "BLOB": (b"", b"\0", bytes(32), b"\xff" * 40),
    "TEXT": ("", "x"),
}
"""What is put into a column of each type, and into those of the others."""


class Scene:
    """A wallet's closed files with something in each table, and the chain that it followed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "w.db"
        save_new(Keystore.create(REG, new_secret(), "pass", cost=CHEAP), directory, "w")
        wallet = Wallet.open(directory, "w", REG)
        wallet.unlock("pass")
        self.chain = WalletChain()
        purse = Purse(self.chain, wallet)
        self.chain.grow(3, purse.mine_to)
        purse.sync()
        other = cheap_wallet()
        sent = purse.pay(other.paycode(), UNC // 4, b"rent")
        wallet.store.put_request("the rent", bytes(32), sent.txid)
        wallet.label("transfer", sent.txid, "May")
        PayeeBook(wallet.store, REG).add("landlord", other.paycode())
        lock = hash_time_lock(REG, wallet.address(), other.address(), 50)
        wallet.add_contract(lock.contract, 0, preimage=lock.preimage, label="the swap")
        wallet.store.freeze(wallet.store.rows("SELECT coin_id FROM coins")[0][0], frozen=True)
        wallet.invoices.add(0, amount=UNC // 8)
        self.chain.mine()
        purse.sync()
        purse.pay(other.address(), UNC // 8)
        wallet.rescan(2)
        self.backup = Backup.of(wallet)
        wallet.close()
        self.chain.mine(purse.mine_to)
        self.sound = self.path.read_bytes()

    def alter(self, sql: str, *values: object) -> bool:
        """Put back the sound file and change it; return whether SQLite lets it be changed so."""
        self.path.write_bytes(self.sound)
        with contextlib.closing(sqlite3.connect(self.path)) as db, db:
            try:
                db.execute(sql, values)
            except sqlite3.IntegrityError:
                return False
        return True

    def use(self) -> None:
        """Open the wallet and do with it what a node does by itself, and what is looked at."""
        with contextlib.closing(Wallet.open(self.directory, "w", REG)) as wallet:
            for _ in range(2):
                with self.chain.snapshot() as view:
                    wallet.catch_up(view, 10**13)
            store = wallet.store
            for look in (wallet.info, wallet.balance, wallet.history, wallet.contracts):
                look()
            store.coins(spent=True)
            store.unheard()
            store.statistics()
            driven_out(store, self.chain)
            wallet.invoices.page(list(InvoiceStatus), 9)
            wallet.invoices.unconfirmed()
            wallet.invoices.next_expiry_ms()
            PayeeBook(store, REG).entries()
            wallet.events.since(max(wallet.events.last - 5, 0), 9)

    def refusal(self) -> str:
        """Use the wallet; return why that is refused, empty if it is not."""
        try:
            self.use()
        except WalletError as error:
            return str(error)
        return ""

    def restored(self) -> bool:
        """Return whether a backup with this .db would be taken."""
        changed = msgspec.structs.replace(self.backup, database=self.path.read_bytes())
        try:
            Backup.from_file(changed.to_file(), REG)
        except BackupError:
            return False
        return True


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    made = Scene(tmp_path_factory.mktemp("wallets"))
    made.use()
    return made


def columns() -> list[tuple[str, str, str]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript(SCHEMA)
        tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return [
            (table, column, kind)
            for (table,) in tables
            for _, column, kind, *_ in db.execute(f"PRAGMA table_info({table})")
        ]


@pytest.mark.parametrize(("table", "column", "kind"), columns())
def test_whatever_stands_in_a_column_the_wallet_is_used_or_refused(
    scene: Scene, table: str, column: str, kind: str
) -> None:
    values = [(value, of == kind) for of in VALUES for value in VALUES[of]]
    for value, is_of_type in [*values, (0.5, False), (None, True)]:
        if not scene.alter(f"UPDATE {table} SET {column} = ?", value):
            continue
        with contextlib.closing(sqlite3.connect(scene.path)) as db:
            (kept,) = db.execute(f"SELECT group_concat(typeof({column})) FROM {table}").fetchone()
        is_wrong = kept is not None and not is_of_type and kind.lower() not in kept
        refusal = scene.refusal()
        assert "\n" not in refusal
        if is_wrong:
            assert "not of its type" in refusal, value
            assert not scene.restored(), "a backup is checked as a file that is opened is"


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("UPDATE outgoing SET raw = x'00'", "the bytes of the transfer"),
        ("UPDATE coins SET origin = -1", r"coins\.origin is -1, expected 0 to"),
        ("UPDATE anchors SET height = height + (1 << 62)", r"anchors\.height is"),
        ("UPDATE labels SET kind = x'00'", r"column labels\.kind holds what is not of its type"),
        (f"UPDATE coins SET value = {(1 << 63) - 1}", "integer overflow"),
    ],
)
def test_it_is_told_what_is_wrong(scene: Scene, sql: str, why: str) -> None:
    scene.alter(sql)
    with pytest.raises(StoreDamagedError, match=rf"^the wallet's \.db file.*{why}.*put back a"):
        scene.use()


def test_what_pythons_own_module_refuses_to_read_is_damage(scene: Scene) -> None:
    """Its errors have no code of SQLite's."""
    scene.alter("DELETE FROM frozen")
    wallet = Wallet.open(scene.directory, "w", REG)
    with pytest.raises(StoreDamagedError, match="Could not decode to UTF-8"):
        wallet.store.rows("SELECT CAST(x'ff' AS TEXT) AS name")
    wallet.close()


def test_what_sqlite_says_in_other_than_one_line_of_text_is_told_in_one(scene: Scene) -> None:
    raw = scene.path.read_bytes()
    for put in (b"CR\x80ATE", b"CR\n\x1bTE"):
        scene.path.write_bytes(raw.replace(b"CREATE", put, 1))
        with pytest.raises(StoreDamagedError, match=r"malformed database schema") as damaged:
            Wallet.open(scene.directory, "w", REG)
        assert str(damaged.value).isprintable()
        assert not is_of_wallet(scene.path, bytes(32), bytes(32))


def test_a_log_that_would_go_on_elsewhere_than_where_it_ends_is_damage(scene: Scene) -> None:
    scene.alter("DELETE FROM frozen")
    with contextlib.closing(Wallet.open(scene.directory, "w", REG)) as wallet:
        wallet.note_changes(0)
        last = wallet.events.last
    assert last > 1
    for other in (last - 1, last + 1):
        with contextlib.closing(sqlite3.connect(scene.path)) as db, db:
            put = "UPDATE meta SET value = ? WHERE name = 'last event'"
            db.execute(put, (other.to_bytes(8, "big"),))
        with pytest.raises(StoreDamagedError, match=f"its last event is {other}, of a log"):
            Wallet.open(scene.directory, "w", REG)


def test_what_sqlite_notes_of_a_file_for_itself_is_no_damage(scene: Scene) -> None:
    scene.alter("DELETE FROM frozen")
    with contextlib.closing(sqlite3.connect(scene.path)) as db, db:
        db.execute("ANALYZE")
    assert b"sqlite_stat1" in scene.path.read_bytes()
    Wallet.open(scene.directory, "w", REG).close()


def test_what_is_sealed_and_makes_no_sense_is_damage(scene: Scene) -> None:
    """Who can write the file can read the view key beside it, and seal."""
    scene.alter("DELETE FROM frozen")
    with contextlib.closing(Wallet.open(scene.directory, "w", REG)) as wallet:
        sealed = wallet.store.sealer.seal((b"no condition", bytes(32)), bytes(32))
        wallet.store.run("INSERT INTO contracts VALUES (zeroblob(32), ?, 1, x'')", sealed)
    with pytest.raises(StoreDamagedError, match="cannot be made sense of") as caught:
        Wallet.open(scene.directory, "w", REG)
    assert caught.value.__cause__ is not None


def amounts(path: Path) -> set[int]:
    """Return what unspent coins are worth, by the table and by the index."""
    unspent = "WHERE spent_height IS NULL AND height IS NOT NULL"
    with contextlib.closing(sqlite3.connect(path)) as db:
        return {
            value
            for how in ("NOT INDEXED", "INDEXED BY coins_unspent")
            for (value,) in db.execute(f"SELECT value FROM coins {how} {unspent}")
        }


def test_an_amount_that_has_changed_in_the_table_or_in_its_index_is_refused(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path)
    value = 0x0102_0304_0506
    assert scene.alter("UPDATE coins SET value = ?", value)
    plain = scene.path.read_bytes()
    places = [at for at in range(len(plain)) if plain.startswith(value.to_bytes(6, "big"), at)]
    seen = set()
    for at in places:
        changed = bytearray(plain)
        changed[at + 3] ^= 4
        scene.path.write_bytes(changed)
        is_harmful = amounts(scene.path) != {value}
        seen.add(is_harmful)
        # the others are spent coins, and what SQLite has left of rows that were moved
        assert not is_harmful or "was altered" in scene.refusal()
    assert True in seen
