"""Receipts hold without a node, and not one bit of them can be changed."""

from __future__ import annotations

import random

import msgspec
import pytest

from tests.framework.wallets import BACKEND, ProvenWalletChain, Purse, WalletChain, cheap_wallet
from unchained.node.consensus.fork_choice import work
from unchained.node.consensus.params import LOCAL, REG
from unchained.node.crypto.anchor_header import AnchorHeader
from unchained.node.crypto.pow import compute_mix
from unchained.node.primitives.codec import encode
from unchained.node.primitives.coin import Coin, CoinHeader
from unchained.node.primitives.types import CoinId
from unchained.node.wallet import receipts
from unchained.node.wallet.errors import ReceiptError
from unchained.node.wallet.receipts import (
    RECEIPT_NAME,
    RECEIPT_VERSION,
    Receipt,
    VerifiedReceipt,
    make_receipt,
    verify_receipt,
)
from unchained.node.wallet.records import PaymentSecret

MAGIC = RECEIPT_NAME + bytes((RECEIPT_VERSION,))


@pytest.fixture(scope="module")
def scene() -> tuple[ProvenWalletChain, bytes, bytes]:
    chain = ProvenWalletChain()
    a = Purse(chain, cheap_wallet())
    chain.grow(5, a.mine_to, a.mine_to)
    a.sync()
    a.pay(cheap_wallet().paycode(), 10**8)
    sent = a.pay(cheap_wallet().paycode(), 10**8)
    chain.grow(4, a.mine_to, a.mine_to)
    with chain.snapshot() as view:
        return chain, sent.txid, make_receipt(view, REG, sent.txid, secrets=sent.secrets)


def _mined(header: CoinHeader) -> bytes:
    """Return an anchor's coin with this header but for the nonce."""
    while True:
        header = msgspec.structs.replace(header, nonce=header.nonce + 1)
        coin = Coin.assemble(header, compute_mix(BACKEND, header.to_bytes(), REG.mem_kib))
        if int.from_bytes(coin.id, "big") <= REG.grade_target(header.target):
            return coin.raw


def verify(raw: bytes) -> VerifiedReceipt:
    return verify_receipt(raw, REG, BACKEND)


def test_a_receipt_shows_the_work_on_top(scene: tuple[ProvenWalletChain, bytes, bytes]) -> None:
    chain, txid, raw = scene
    shown = verify(raw)
    assert shown.txid == txid
    assert (shown.height, shown.tip_height) == (6, 9)
    assert shown.tip_id == chain.core.tip.id
    assert shown.work == 4 * REG.coins_per_epoch * work(REG.target0)
    assert 10**8 in [output.value for output in shown.outputs]
    # 3 anchors on top list one fresh coin each, and are coins themselves
    assert (shown.anchors_on_top, shown.votes) == (3, 6)
    assert shown.tip_time_ms == chain.packages[8][1].anchor.header.time
    with chain.snapshot() as view:
        assert verify(make_receipt(view, REG, txid, anchors=2)).tip_height == 7


def test_needs_a_transfer_of_the_chain(scene: tuple[ProvenWalletChain, bytes, bytes]) -> None:
    with scene[0].snapshot() as view, pytest.raises(ReceiptError, match="not on the chain"):
        make_receipt(view, REG, bytes(32))


def test_not_one_bit_can_be_changed(scene: tuple[ProvenWalletChain, bytes, bytes]) -> None:
    raw = scene[2]
    rng = random.Random(3)
    places = [*range(40), *(rng.randrange(len(raw)) for _ in range(300))]
    for at in places:
        wrong = bytearray(raw)
        wrong[at] ^= 1 << rng.randrange(8)
        with pytest.raises(ReceiptError):
            verify(bytes(wrong))
    for length in (0, 5, len(MAGIC), len(raw) // 2, len(raw) - 1):
        with pytest.raises(ReceiptError):
            verify(raw[:length])
    with pytest.raises(ReceiptError):
        verify(raw + b"\x00")


def test_says_what_does_not_hold(scene: tuple[ProvenWalletChain, bytes, bytes]) -> None:
    chain, _, raw = scene
    receipt = receipts._DECODER.decode(raw[len(MAGIC) :])
    replace = msgspec.structs.replace
    first, second, *rest = receipt.anchors
    start, path = receipt.start, receipt.start.path
    easier = replace(Coin.from_bytes(second.coin).header, target=REG.max_target - 1)
    forged = replace(second, coin=_mined(easier))
    ((_, other),) = chain.packages[:1]
    stranger = AnchorHeader.of(other.anchor, other.body)
    unlinked = replace(
        rest[0],
        coin=_mined(replace(Coin.from_bytes(rest[0].coin).header, parent=CoinId(bytes(32)))),
    )
    rival = chain.fork(6, 9)
    rival.grow(2)
    rivals = [AnchorHeader.of(made.anchor, made.body) for _, made in rival.packages[6:]]

    def broken(**fields: object) -> bytes:
        changed: Receipt = replace(receipt, **fields)
        return MAGIC + encode(changed)

    for wrong, why in (
        (
            broken(place=replace(receipt.place, index=receipt.place.index ^ 1)),
            "not in the anchor's",
        ),
        (broken(anchors=(replace(first, history_root=bytes(32)),)), "anchor of height 1"),
        (broken(anchors=(replace(first, state_root=bytes(32)),)), "the body is not"),
        (broken(start=replace(start, path=replace(path, height=2))), "anchor of height 1"),
        (broken(start=replace(start, path=replace(path, peaks=()))), "anchor of height 1"),
        (broken(start=replace(start, node=bytes(80))), "anchor of height 1"),
        (broken(anchors=(first, *rest)), "not bound to the last|the height is not"),
        (broken(anchors=(first, stranger)), "not bound to the last|the height is not"),
        (broken(anchors=(first, rivals[1])), "not bound to the last|the height is not"),
        (broken(anchors=(second, *rest)), "not in the anchor's"),
        (broken(anchors=(first, forged)), "the target is not"),
        (broken(anchors=(first, rivals[0])), "the mix is not"),
        (broken(anchors=(first, second, unlinked)), "height 8 is not linked"),
        (broken(chain_id=LOCAL.chain_id), "of network local, expected reg"),
        (b"UNCHAINED-RECEIPT\x01", "version 1, of a chain of earlier rules that is no more"),
        (broken(payments=(PaymentSecret(9, bytes(32)),)), "outputs that its transfer does not"),
        (broken(payments=(PaymentSecret(0, bytes(32)),)), "does not open its note"),
        (broken(payments=2 * receipt.payments), "outputs that its transfer does not"),
        (b"UNCHAINED-RECEIPT\x04", "not a receipt of version 3"),
        (b"UNCHAINED-RECEIPT", "not a receipt of version 3"),
    ):
        with pytest.raises(ReceiptError, match=why):
            verify(wrong)
    with pytest.raises(ReceiptError, match="of network reg, expected local"):
        verify_receipt(raw, LOCAL, BACKEND)


def test_a_chain_without_proofs_of_work_convinces_nobody() -> None:
    chain = WalletChain()
    a = Purse(chain, cheap_wallet())
    chain.grow(2, a.mine_to)
    a.sync()
    sent = a.pay(cheap_wallet().paycode(), 10**7)
    chain.mine()
    with chain.snapshot() as view, pytest.raises(ReceiptError, match="the mix is not"):
        verify(make_receipt(view, REG, sent.txid))
