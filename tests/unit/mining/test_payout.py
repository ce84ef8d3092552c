"""Whom mined coins pay: the default wallet, until then one of the node's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from unchained.node.consensus.params import LOCAL, REG
from unchained.node.mining.payout import (
    MINING_WALLET,
    AccountPayout,
    PayoutError,
    new_mining_wallet,
    wallet_payout,
)
from unchained.node.primitives.types import CoinId, Lock
from unchained.node.wallet.keystore import (
    DEFAULT_WALLET,
    KdfCost,
    Keystore,
    new_secret,
    save_new,
    wallet_path,
)

PARENT = CoinId(bytes(32))


def keystore() -> Keystore:
    return Keystore.create(REG, new_secret(), "pass", cost=KdfCost(32, 1, 1))


def lock_of(made: Keystore) -> Lock:
    return made.accounts[0].account(REG.chain_id).mining_lock(PARENT, 7)


def test_without_a_wallet_it_pays_nobody(tmp_path: Path) -> None:
    payout, name = wallet_payout(tmp_path, REG)
    assert name == ""
    with pytest.raises(PayoutError, match="mines to nobody"):
        payout.lock_for(PARENT, 7)
    assert not list(tmp_path.iterdir())


def test_a_wallet_is_made_for_mining_and_found_again(tmp_path: Path) -> None:
    made = new_mining_wallet(tmp_path, REG, 5)
    assert wallet_path(tmp_path, MINING_WALLET).stat().st_mode & 0o777 == 0o600
    found, name = wallet_payout(tmp_path, REG)
    assert name == MINING_WALLET
    assert found.lock_for(PARENT, 7) == made.lock_for(PARENT, 7)
    assert Keystore.load(wallet_path(tmp_path, MINING_WALLET), REG).birth == 5


def test_the_default_wallet_goes_first(tmp_path: Path) -> None:
    new_mining_wallet(tmp_path, REG, 0)
    default = keystore()
    save_new(default, tmp_path, DEFAULT_WALLET)
    payout, name = wallet_payout(tmp_path, REG)
    assert (name, payout.lock_for(PARENT, 7)) == (DEFAULT_WALLET, lock_of(default))


def test_it_follows_to_a_wallet_that_is_made_later(tmp_path: Path) -> None:
    payout = new_mining_wallet(tmp_path, REG, 0)
    mining = payout.lock_for(PARENT, 7)
    opened = []
    payout.follow(lambda: opened[-1] if opened else None)
    assert payout.lock_for(PARENT, 7) == mining
    default = keystore()
    opened.append(default.accounts[0].account(REG.chain_id))
    assert payout.lock_for(PARENT, 7) == lock_of(default)
    opened.clear()
    assert payout.lock_for(PARENT, 7) == lock_of(default), "a closed wallet is paid all the same"


def test_a_wallet_of_another_network_or_damaged_is_named(tmp_path: Path) -> None:
    save_new(keystore(), tmp_path, DEFAULT_WALLET)
    with pytest.raises(PayoutError, match=r"default\.wallet is for network reg, expected local"):
        wallet_payout(tmp_path, LOCAL)
    wallet_path(tmp_path, DEFAULT_WALLET).write_bytes(b"")
    with pytest.raises(PayoutError, match=r"default\.wallet is no wallet file"):
        wallet_payout(tmp_path, REG)


def test_nobody_at_first(tmp_path: Path) -> None:
    default = keystore()
    payout = AccountPayout(None)
    payout.follow(lambda: default.accounts[0].account(REG.chain_id))
    assert payout.lock_for(PARENT, 7) == lock_of(default)
