"""Whom a receipt shows to be paid: for payer and payee, by address and by paycode."""

from __future__ import annotations

from typing import Any

import pytest

from tests.framework.vectors import label, load, unhex
from tests.framework.wallets import BACKEND, ProvenWalletChain, Purse, cheap_wallet
from unchained.node.consensus.params import REG
from unchained.node.crypto.addresses import Paycode, encode_paycode
from unchained.node.wallet.errors import BadPaymentError, ReceiptError
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.proofs import _only, prove_payment
from unchained.node.wallet.receipts import VerifiedReceipt, verify_receipt
from unchained.node.wallet.records import Payee

RECEIPTS = load("wallet_proofs")["receipts"]
UNC = 10**8


class Scene:
    """A pays B by paycode, by paycode with a tag and by address, and C by paycode."""

    def __init__(self) -> None:
        self.chain = ProvenWalletChain(seed=7)
        self.a, self.b = Purse(self.chain, cheap_wallet()), Purse(self.chain, cheap_wallet("b"))
        self.c = Purse(self.chain, cheap_wallet("c"))
        keys = self.b.wallet.account()
        paycode = Paycode(REG.chain_id, keys.key_hash, keys.view.public_key, b"shop 001")
        self.tagged = encode_paycode(paycode)
        self.chain.grow(3, self.a.mine_to)
        self.a.sync()
        self.payees = [
            Payee(self.b.wallet.paycode(), UNC // 4, b"rent"),
            Payee(self.tagged, UNC // 8, b""),
            Payee(self.b.wallet.address(), UNC // 16, b""),
            Payee(self.c.wallet.paycode(), UNC // 5, b"secret"),
        ]
        self.txid = self.a.send(self.a.wallet.spender.pay(self.payees, Fee(1))).txid
        self.chain.grow(3)
        for purse in (self.a, self.b, self.c):
            purse.sync()

    def receipt(self, by: Purse, payees: list[str] | None = None) -> VerifiedReceipt:
        with self.chain.snapshot() as view:
            raw = prove_payment(by.wallet, view, self.txid, payees=payees)
        return verify_receipt(raw, REG, BACKEND)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


def paid(found: VerifiedReceipt, payee: str) -> list[tuple[int, bytes]]:
    return [(one.value, one.memo) for one in found.payments_to(REG, payee)]


@pytest.mark.parametrize("case", RECEIPTS["files"], ids=label)
def test_known_answers(case: Any) -> None:
    found = verify_receipt(unhex(case["file"]), REG, BACKEND)
    shown = RECEIPTS["shown"]
    assert {
        "txid": found.txid.hex(),
        "height": found.height,
        "anchor": found.anchor_id.hex(),
        "time_ms": found.time_ms,
        "tip_height": found.tip_height,
        "tip": found.tip_id.hex(),
        "tip_time_ms": found.tip_time_ms,
        "votes": found.votes,
    } == shown
    by_paycode = [(250_000_000, b"rent")] if case["shows_paycode"] else []
    assert paid(found, RECEIPTS["paycode"]) == by_paycode
    assert paid(found, RECEIPTS["address"]) == [(70_000, b"")]
    assert paid(found, RECEIPTS["nobody"]) == []


@pytest.mark.parametrize("case", RECEIPTS["refused"], ids=label)
def test_refused(case: Any) -> None:
    with pytest.raises(ReceiptError):
        verify_receipt(unhex(case["file"]), REG, BACKEND)


def test_the_payer_shows_all_whom_he_paid(scene: Scene) -> None:
    found = scene.receipt(scene.a)
    for payee in scene.payees:
        assert paid(found, payee.payee) == [(payee.value, payee.memo)]
    # the tag of a paycode says for whom it was made: another one was not paid
    assert paid(found, scene.a.wallet.paycode()) == []
    assert paid(found, scene.c.wallet.address()) == []
    with pytest.raises(BadPaymentError):
        found.payments_to(REG, "somebody")


def test_the_payer_shows_one_payee_and_not_the_others(scene: Scene) -> None:
    found = scene.receipt(scene.a, [scene.payees[0].payee])
    assert paid(found, scene.payees[0].payee) == [(UNC // 4, b"rent")]
    assert paid(found, scene.payees[3].payee) == []
    nobody = scene.receipt(scene.a, [])
    assert nobody.secrets == ()
    with pytest.raises(ReceiptError, match="does not pay"):
        scene.receipt(scene.a, [scene.a.wallet.address()])


def test_one_payee_of_a_transfer_that_came_back_from_its_signers(scene: Scene) -> None:
    wallet = scene.a.wallet
    while True:  # where the change stands is drawn
        prepared = wallet.spender.pay([scene.payees[0], scene.payees[3]], Fee(1))
        if prepared.change == 0:
            break
    unsigned = wallet.sign(prepared.unsigned)
    sent = wallet.record(
        unsigned.finish(REG),
        0,
        payees=wallet.payees_in(unsigned),
        proven_payees=unsigned.payees,
    )
    chosen = _only(wallet, sent.txid, sent.secrets, [scene.payees[3].payee])
    assert [secret.index for secret in chosen] == [2]
    wallet.store.forget_outgoing(sent.txid)


def test_the_payee_shows_that_he_was_paid(scene: Scene) -> None:
    found = scene.receipt(scene.b)
    assert paid(found, scene.b.wallet.paycode()) == [(UNC // 4, b"rent")]
    assert paid(found, scene.tagged) == [(UNC // 8, b"")]
    assert paid(found, scene.c.wallet.paycode()) == []


def test_who_has_nothing_to_do_with_it_shows_the_transfer_alone(scene: Scene) -> None:
    stranger = Purse(scene.chain, cheap_wallet("d"))
    stranger.sync()
    assert scene.receipt(stranger).secrets == ()
