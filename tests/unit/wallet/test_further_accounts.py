"""A restored wallet finds the accounts that it had, up to a gap, whatever came when."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.framework.restored_wallets import UNC, Past, restored
from tests.framework.wallets import cheap_wallet, reseal
from unchained.node.consensus.params import REG
from unchained.node.wallet.database import Database
from unchained.node.wallet.errors import NoSuchAccountError, StoreUnavailableError
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.further_accounts import ACCOUNT_GAP
from unchained.node.wallet.keystore import Keystore
from unchained.node.wallet.new_wallet import save_new
from unchained.node.wallet.records import Payee
from unchained.node.wallet.resealing import OneMoreAccount
from unchained.node.wallet.scanner import Scanner
from unchained.node.wallet.wallet import Wallet
from unchained.node.wallet.wallet_file import MAX_ACCOUNTS
from unchained.node.wallet.watch_export import WatchExport


def test_accounts_come_back_with_what_they_have() -> None:
    past = Past([0, 3, 1, 7, 12])
    again = past.read(restored(past.secret))
    assert again.info().accounts == tuple(range(13))
    assert again.info().found_accounts == tuple(range(1, 13))
    assert again.balance() == past.old.balance
    assert again.balance(12).on_chain == UNC // 50
    assert again.paycode(7) == past.old.wallet.paycode(7)
    # they can be spent from, and exported
    again.unlock("pass")
    prepared = again.spender.pay([Payee(again.address(), UNC // 100, b"")], Fee(1), account=12)
    past.chain.submit(again.finish(prepared).sized.raw)
    exported = WatchExport.from_text(again.export_watch(), REG)
    assert [keys.index for keys in exported.accounts] == list(range(13))
    assert [keys.index for keys in exported.further] == list(range(13, MAX_ACCOUNTS))


def test_a_watch_only_copy_finds_what_the_wallet_finds() -> None:
    past = Past([0, 16, 9, 4])
    text = restored(past.secret).export_watch()
    exported = WatchExport.from_text(text, REG)
    copied = Keystore.watch(REG, exported.accounts, exported.birth, exported.further)
    watch = past.read(Wallet("watch", REG, copied, None))
    assert watch.info().accounts == tuple(range(17))
    assert watch.balance() == past.old.balance
    # one that nobody restored has no account but those that it was made with, nor has its copy
    plain = cheap_wallet(secret=past.secret, accounts=2)
    assert WatchExport.from_text(plain.export_watch(), REG).further == ()


def test_coins_that_came_before_an_account_was_watched_are_found() -> None:
    # the far account was paid first, when nothing led to it yet
    past = Past([16, 9, 4])
    again = past.read(restored(past.secret))
    assert again.info().accounts == tuple(range(17))
    assert again.balance() == past.old.balance


def test_accounts_come_back_whenever_the_node_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies on the disk after each write is where a killed node goes on from."""
    past = Past([16, 9, 4])
    secret, whole = past.secret, range(17)
    first = tmp_path / "first"
    keystore = restored(secret).keystore
    save_new(keystore, first, "again")
    copies: list[Path] = []
    transaction = Database.transaction

    @contextmanager
    def copied(database: Database) -> Iterator[None]:
        before = database.transactions
        with transaction(database):
            yield
        if database.transactions > before:
            copies.append(tmp_path / f"{len(copies)}")
            shutil.copytree(first, copies[-1])

    with monkeypatch.context() as patched:
        patched.setattr(Database, "transaction", copied)
        wallet = Wallet.open(first, "again", REG)
        assert past.read(wallet).info().accounts == tuple(whole)
        wallet.close()
    assert len(copies) >= 5
    for copy in copies:
        wallet = Wallet.open(copy, "again", REG)
        assert past.read(wallet).info().accounts == tuple(whole), copy
        assert wallet.balance() == past.old.balance
        wallet.close()


def test_what_is_not_written_leads_to_no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    past = Past([16, 9, 4])
    wallet = restored(past.secret)

    def full(_: object, height: int) -> None:
        raise StoreUnavailableError("its disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(Scanner, "rescan", full)
        with pytest.raises(StoreUnavailableError):
            past.read(wallet)
    assert wallet.info().accounts == (0,)
    assert past.read(wallet).info().accounts == tuple(range(17))


def test_a_gap_ends_the_search() -> None:
    past = Past([2 + 2 * ACCOUNT_GAP + 1])
    again = past.read(restored(past.secret))
    assert again.info().accounts == (0,)
    assert again.balance().on_chain == 0
    with pytest.raises(NoSuchAccountError):
        again.address(1)


def test_a_new_wallet_looks_for_nothing() -> None:
    past = Past([1])
    plain = past.read(cheap_wallet(secret=past.secret))
    assert plain.info().accounts == (0,)


def test_an_account_more_after_those_found() -> None:
    past = Past([2])
    again = past.read(restored(past.secret))
    assert reseal(again, OneMoreAccount("pass")).accounts[-1].index == 3
    assert again.info().accounts == (0, 1, 2, 3)
    assert again.info().found_accounts == ()
    assert again.paycode(3) == past.old.wallet.paycode(3)
    assert again.keystore.further[0].index == 4
    past.read(again)
    assert again.balance() == past.old.balance
