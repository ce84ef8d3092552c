"""Receipts hold without a node, and not one bit of them can be changed."""

from __future__ import annotations

import random

import msgspec
import pytest

from tests.framework.wallets import Purse, WalletChain, cheap_wallet
from unchained.node.consensus.params import LOCAL, REG, work
from unchained.node.crypto.pow import compute_mix, default_backend
from unchained.node.primitives.codec import encode
from unchained.node.primitives.coin import Coin
from unchained.node.wallet import receipts
from unchained.node.wallet.errors import ReceiptError
from unchained.node.wallet.receipts import (
    RECEIPT_MAGIC,
    Receipt,
    VerifiedReceipt,
    make_receipt,
    verify_receipt,
)

BACKEND = default_backend()


class ProvenChain(WalletChain):
    """A chain whose mixes are real: on the reg network that costs next to nothing."""

    def _coin(self, template, payout, anchor):  # type: ignore[no-untyped-def]
        self.now_ms = max(self.now_ms, template.parent_time) + 100
        lock = payout(template.parent, self.now_ms)
        grade = self.network.grade_target(template.target)
        while True:
            nonce = self._random.getrandbits(64)
            header = template.header(lock=lock, time=self.now_ms, nonce=nonce)
            mix = compute_mix(BACKEND, header.to_bytes(), self.network.mem_kib)
            coin = Coin.assemble(header, mix)
            number = int.from_bytes(coin.id, "big")
            if (number <= grade) if anchor else (grade < number <= template.target):
                return coin


@pytest.fixture(scope="module")
def scene() -> tuple[ProvenChain, bytes, bytes]:
    chain = ProvenChain()
    a = Purse(chain, cheap_wallet())
    chain.grow(5, a.mine_to, a.mine_to)
    a.sync()
    a.pay(cheap_wallet().paycode(), 10**8)
    sent = a.pay(cheap_wallet().paycode(), 10**8)
    chain.grow(4, a.mine_to, a.mine_to)
    with chain.snapshot() as view:
        return chain, sent.txid, make_receipt(view, REG, sent.txid)


def verify(raw: bytes) -> VerifiedReceipt:
    return verify_receipt(raw, REG, BACKEND)


def test_a_receipt_shows_the_work_on_top(scene: tuple[ProvenChain, bytes, bytes]) -> None:
    chain, txid, raw = scene
    shown = verify(raw)
    assert shown.txid == txid
    assert (shown.height, shown.tip_height) == (6, 9)
    assert shown.tip_id == chain.core.tip.id
    assert shown.work == 4 * REG.coins_per_epoch * work(REG.target0)
    assert 10**8 in [output.value for output in shown.outputs]
    with chain.snapshot() as view:
        assert verify(make_receipt(view, REG, txid, anchors=2)).tip_height == 7


def test_needs_a_transfer_of_the_chain(scene: tuple[ProvenChain, bytes, bytes]) -> None:
    with scene[0].snapshot() as view, pytest.raises(ReceiptError, match="not on the chain"):
        make_receipt(view, REG, bytes(32))


def test_not_one_bit_can_be_changed(scene: tuple[ProvenChain, bytes, bytes]) -> None:
    raw = scene[2]
    rng = random.Random(3)
    places = [*range(40), *(rng.randrange(len(raw)) for _ in range(300))]
    for at in places:
        wrong = bytearray(raw)
        wrong[at] ^= 1 << rng.randrange(8)
        with pytest.raises(ReceiptError):
            verify(bytes(wrong))
    for length in (0, 5, len(RECEIPT_MAGIC), len(raw) // 2, len(raw) - 1):
        with pytest.raises(ReceiptError):
            verify(raw[:length])
    with pytest.raises(ReceiptError):
        verify(raw + b"\x00")


def test_says_what_does_not_hold(scene: tuple[ProvenChain, bytes, bytes]) -> None:
    chain, _, raw = scene
    receipt = receipts._DECODER.decode(raw[len(RECEIPT_MAGIC) :])
    replace = msgspec.structs.replace
    first, second, *rest = receipt.anchors
    forged = Coin.from_bytes(second).header
    forged = replace(forged, target=REG.max_target - 1)
    other = chain.packages[0][1].anchor.raw

    def broken(**fields: object) -> bytes:
        changed: Receipt = replace(receipt, **fields)
        return RECEIPT_MAGIC + encode(changed)

    for wrong, why in (
        (
            broken(place=replace(receipt.place, index=receipt.place.index ^ 1)),
            "not in the anchor's",
        ),
        (broken(fresh_root=bytes(32)), "not those that the anchor commits to"),
        (broken(genesis=replace(receipt.genesis, height=1)), "not of its first id"),
        (broken(genesis=replace(receipt.genesis, peaks=())), "does not begin with the genesis"),
        (broken(anchors=(first, *rest)), "not linked"),
        (broken(anchors=(first, other)), "not linked"),
        (broken(anchors=(second, *rest)), "commits to"),
        (broken(anchors=(first, forged.to_bytes() + bytes(32))), "does not hold|no anchor"),
        (broken(chain_id=LOCAL.chain_id), "another network"),
        (b"UNCHAINED-RECEIPT\x01", "version 2"),
    ):
        with pytest.raises(ReceiptError, match=why):
            verify(wrong)
    with pytest.raises(ReceiptError, match="another network"):
        verify_receipt(raw, LOCAL, BACKEND)


def test_a_chain_without_proofs_of_work_convinces_nobody() -> None:
    chain = WalletChain()
    a = Purse(chain, cheap_wallet())
    chain.grow(2, a.mine_to)
    a.sync()
    sent = a.pay(cheap_wallet().paycode(), 10**7)
    chain.mine()
    with chain.snapshot() as view, pytest.raises(ReceiptError, match="BAD_MIX"):
        verify(make_receipt(view, REG, sent.txid))
