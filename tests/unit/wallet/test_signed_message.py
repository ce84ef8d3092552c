"""Signed messages against known answers, and what they are not: transfers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.framework.vectors import label, load, unhex
from tests.framework.wallet_proof_files import made_wallet_proofs
from tests.framework.wallets import cheap_wallet
from unchained.node.consensus.params import NETWORKS, REG
from unchained.node.crypto.keys import SpendKey, verify_signature
from unchained.node.wallet.errors import BadPaymentError, SignedMessageError, WalletLockedError
from unchained.node.wallet.proofs import sign_message
from unchained.node.wallet.signed_message import MESSAGE_BYTES_MAX, SignedMessage

VECTORS = load("wallet_proofs")


def test_the_vectors_are_as_made() -> None:
    """After a change: python -m tests.framework.wallet_proof_files > …/wallet_proofs.json"""
    assert made_wallet_proofs() == VECTORS


@pytest.mark.parametrize("case", VECTORS["messages"], ids=lambda case: case["message"])
def test_messages(case: Any) -> None:
    network = NETWORKS[case["network"]]
    signed = SignedMessage.from_file(unhex(case["file"]), network)
    assert signed.message == case["message"].encode()
    assert signed.address(network) == case["address"]
    assert signed.to_file().hex() == case["file"]
    signed.check_signer(network, case["address"])
    again = SignedMessage.sign(network, signed.message, SpendKey.from_seed(unhex(case["seed"])))
    assert SignedMessage.from_file(again.to_file(), network).address(network) == case["address"]


@pytest.mark.parametrize("case", VECTORS["refused_messages"], ids=label)
def test_refused(case: Any) -> None:
    with pytest.raises(SignedMessageError):
        SignedMessage.from_file(unhex(case["file"]), REG)


def test_by_address_of_an_account() -> None:
    wallet = cheap_wallet(accounts=2)
    signed = sign_message(wallet, b"mine", 1)
    signed.check_signer(REG, wallet.address(1))
    signed.check_signer(REG, wallet.paycode(1))
    with pytest.raises(SignedMessageError, match=f"signed by {wallet.address(1)}, expected"):
        signed.check_signer(REG, wallet.address(0))
    with pytest.raises(BadPaymentError, match="no address or paycode"):
        signed.check_signer(REG, "somebody")
    with pytest.raises(SignedMessageError, match="at most"):
        sign_message(wallet, bytes(MESSAGE_BYTES_MAX + 1))
    wallet.lock()
    with pytest.raises(WalletLockedError):
        sign_message(wallet, b"mine")


def test_a_signature_of_a_message_is_none_of_a_transfer() -> None:
    key = SpendKey.from_seed(bytes(32))
    digest = bytes(range(32))
    signed = SignedMessage.sign(REG, digest, key).signature
    assert not verify_signature(signed.public_key, digest, signed.signature)
