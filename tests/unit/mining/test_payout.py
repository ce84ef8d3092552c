"""Whom mined coins pay: the default wallet, until then one of the node's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from unchained.node.consensus.params import LOCAL, REG
from unchained.node.crypto.accounts import WatchAccount
from unchained.node.mining.payout import (
    MINING_WALLET,
    AccountPayout,
    PayoutError,
    new_mining_wallet,
    wallet_account,
)
from unchained.node.primitives.types import CoinId, Lock
from unchained.node.wallet.keystore import (
    DEFAULT_WALLET,
    Keystore,
    new_secret,
    wallet_path,
)
from unchained.node.wallet.new_wallet import save_new
from unchained.node.wallet.wallet_file import KdfCost

PARENT = CoinId(bytes(32))


def keystore() -> Keystore:
    return Keystore.create(REG, new_secret(), "pass", cost=KdfCost(32, 1, 1))


def lock_of(made: Keystore) -> Lock:
    return made.accounts[0].account(REG.chain_id).mining_lock(PARENT, 7)


class Wallets:
    """The open wallets' first accounts."""

    def __init__(self, opened: dict[str, WatchAccount] | None = None) -> None:
        self.opened = opened or {}
        self.deleted: set[str] = set()

    def account(self, name: str) -> WatchAccount | None:
        return self.opened.get(name)

    def name_of(self, account: WatchAccount) -> str | None:
        return next((name for name, it in self.opened.items() if it is account), None)

    def is_deleted(self, name: str) -> bool:
        return name in self.deleted


def test_without_a_wallet_it_pays_nobody(tmp_path: Path) -> None:
    assert wallet_account(tmp_path, REG) == (None, "")
    with pytest.raises(PayoutError, match="mines to nobody"):
        AccountPayout(None, Wallets()).lock_for(PARENT, 7)
    assert not list(tmp_path.iterdir())


def test_a_wallet_is_made_for_mining_and_found_again(tmp_path: Path) -> None:
    made = new_mining_wallet(tmp_path, REG, 5)
    assert wallet_path(tmp_path, MINING_WALLET).stat().st_mode & 0o777 == 0o600
    found, name = wallet_account(tmp_path, REG)
    assert name == MINING_WALLET
    assert found is not None
    assert found.mining_lock(PARENT, 7) == made.mining_lock(PARENT, 7)
    assert Keystore.load(wallet_path(tmp_path, MINING_WALLET), REG).birth == 5


def test_the_default_wallet_goes_first(tmp_path: Path) -> None:
    new_mining_wallet(tmp_path, REG, 0)
    default = keystore()
    save_new(default, tmp_path, DEFAULT_WALLET)
    found, name = wallet_account(tmp_path, REG)
    assert found is not None
    assert (name, found.mining_lock(PARENT, 7)) == (DEFAULT_WALLET, lock_of(default))


def test_it_follows_to_a_wallet_that_is_made_later(tmp_path: Path) -> None:
    made = new_mining_wallet(tmp_path, REG, 0)
    wallets = Wallets()
    payout = AccountPayout(made, wallets)
    assert payout.lock_for(PARENT, 7) == made.mining_lock(PARENT, 7)
    default = keystore()
    wallets.opened[DEFAULT_WALLET] = default.accounts[0].account(REG.chain_id)
    assert payout.lock_for(PARENT, 7) == lock_of(default)
    wallets.opened.clear()
    assert payout.lock_for(PARENT, 7) == lock_of(default), "a closed wallet is paid all the same"


def test_a_wallet_of_another_network_or_damaged_is_named(tmp_path: Path) -> None:
    save_new(keystore(), tmp_path, DEFAULT_WALLET)
    with pytest.raises(PayoutError, match=r"default\.wallet is for network reg, expected local"):
        wallet_account(tmp_path, LOCAL)
    wallet_path(tmp_path, DEFAULT_WALLET).write_bytes(b"")
    with pytest.raises(PayoutError, match=r"default\.wallet is no wallet file"):
        wallet_account(tmp_path, REG)


def test_no_mining_wallet_is_made_beside_the_file_of_one_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "mining.db").touch()
    with pytest.raises(PayoutError, match=r"mining\.db is there already.*move it away first"):
        new_mining_wallet(tmp_path, REG, 0)
    assert not (tmp_path / "mining.wallet").exists()


def test_nobody_at_first(tmp_path: Path) -> None:
    default = keystore()
    opened = {DEFAULT_WALLET: default.accounts[0].account(REG.chain_id)}
    payout = AccountPayout(None, Wallets(opened))
    assert payout.lock_for(PARENT, 7) == lock_of(default)


def test_it_says_whom_it_pays(tmp_path: Path) -> None:
    wallets = Wallets()
    payout = AccountPayout(new_mining_wallet(tmp_path, REG, 0), wallets)
    assert payout.payee == "wallet mining"
    wallets.opened[DEFAULT_WALLET] = keystore().accounts[0].account(REG.chain_id)
    assert payout.payee == "wallet default"
    assert AccountPayout(None, Wallets()).payee == "nobody"


def test_a_wallet_that_is_renamed_is_called_what_it_is_called() -> None:
    account = keystore().accounts[0].account(REG.chain_id)
    wallets = Wallets({DEFAULT_WALLET: account})
    payout = AccountPayout(None, wallets)
    assert payout.payee == "wallet default"
    wallets.opened = {"main": account}
    assert payout.payee == "wallet main"
    assert payout.lock_for(PARENT, 7) == account.mining_lock(PARENT, 7)


def test_a_wallet_that_is_deleted_is_not_paid_where_there_is_another() -> None:
    account, other = (keystore().accounts[0].account(REG.chain_id) for _ in range(2))
    wallets = Wallets({DEFAULT_WALLET: account})
    payout = AccountPayout(None, wallets)
    assert payout.payee == "wallet default"
    wallets.opened, wallets.deleted = {}, {DEFAULT_WALLET}
    assert payout.payee == "the deleted wallet default"
    assert payout.lock_for(PARENT, 7) == account.mining_lock(PARENT, 7)
    wallets.opened = {MINING_WALLET: other}
    assert payout.payee == "wallet mining"
    assert payout.lock_for(PARENT, 7) == other.mining_lock(PARENT, 7)
