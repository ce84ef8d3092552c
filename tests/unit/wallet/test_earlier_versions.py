"""Wallet files of earlier versions open, with what their owner put into them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.framework.vectors import VECTORS
from tests.framework.wallets import WalletChain
from unchained.node.consensus.params import REG
from unchained.node.wallet.errors import WrongPassphraseError
from unchained.node.wallet.keystore import WALLET_VERSION, Keystore
from unchained.node.wallet.records import OutgoingState
from unchained.node.wallet.wallet import Wallet

TXID = bytes.fromhex("94893f0f9dc3c5cc0aaba2caba736acc5ca622440990f89426bf9a21834fbf0f")
CONTRACT = "6ed12518bf1b97aa0ec9916062d2de43582c387b74a3454ff12fa97327553a47"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A wallet as version 0.1.0 wrote it, passphrase `pass`, born at height 1 of its chain: two
    accounts, a payment on the chain and one that waited, a label, a contract."""
    for file in (VECTORS / "wallet-0.1").iterdir():
        shutil.copy(file, tmp_path)
    return tmp_path


def test_keeps_keys_labels_payees_and_contracts(directory: Path) -> None:
    wallet = Wallet.open(directory, "kept", REG)
    wallet.unlock("pass")
    assert wallet.info().accounts == (0, 1)
    assert wallet.store.label("transfer", TXID) == "the bakery"
    assert [contract.contract.lock.hex() for contract in wallet.contracts()] == [CONTRACT]
    paid = wallet.store.outgoing(TXID)
    assert [(payee.value, payee.memo) for payee in paid.payees] == [(50_000_000, b"for the bread")]
    # A chain that is no more holds nothing, and nothing is sent to the new one by itself.
    assert wallet.balance().on_chain == wallet.balance().pending == 0
    assert paid.height is None
    assert paid.state is OutgoingState.ABANDONED
    assert wallet.store.waiting_outgoing() == []
    wallet.close()


def test_reads_the_new_chain_from_its_beginning(directory: Path) -> None:
    chain = WalletChain()
    wallet = Wallet.open(directory, "kept", REG)
    chain.grow(3, wallet.payout().lock_for)
    wallet.catch_up(chain.snapshot())
    assert wallet.balance().on_chain == 3 * REG.subsidy
    wallet.close()
    again = Wallet.open(directory, "kept", REG)
    assert again.balance().on_chain == 3 * REG.subsidy
    again.close()


def test_what_is_sealed_anew_has_the_present_version(directory: Path) -> None:
    old = Keystore.load(directory / "kept.wallet", REG)
    assert (old.version, old.birth) == (1, 0)
    with pytest.raises(WrongPassphraseError):
        old.unlock("wrong")
    new = old.with_passphrase(old.unlock("pass"), "other")
    new.save(directory / "kept.wallet")
    read = Keystore.load(directory / "kept.wallet", REG)
    assert (read.version, read.birth) == (WALLET_VERSION, 0)
    assert read.unlock("other").mnemonic() == old.unlock("pass").mnemonic()
