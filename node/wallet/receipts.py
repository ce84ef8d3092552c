"""Receipts: one file that shows, without a node, that a transfer was included and built upon.

    file = "UNCHAINED-RECEIPT" ‖ 02 ‖ MessagePack array

A receipt carries the transfer, the Merkle proof of its wid in the including anchor's body root, the
proof that this anchor's history begins with the network's genesis, and the chain of anchors from
the including one on. What it proves is the work that was done on top of the transfer; not that no
heavier chain exists, nor that the transfer's outputs are still unspent.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from unchained.node.consensus.coins import (
    check_coin_alone,
    check_mix,
    check_time_after_parent,
    is_anchor_grade,
)
from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.header_work import anchor_work
from unchained.node.consensus.params import Network
from unchained.node.consensus.transfers import (
    check_conditions,
    check_signatures,
    check_transfer_alone,
    decode_transfer,
)
from unchained.node.crypto import history_range, merkle
from unchained.node.crypto.history_range import HistoryProof, HistoryRange
from unchained.node.crypto.merkle import MerkleProof
from unchained.node.crypto.pow import ProofOfWork
from unchained.node.primitives.body import Body, body_root_of
from unchained.node.primitives.codec import CanonicalDecoder, encode
from unchained.node.primitives.coin import COIN_SIZE, Coin
from unchained.node.primitives.errors import NonCanonicalError, ProtocolError
from unchained.node.primitives.transfer import MAX_TRANSFER_ENCODED, Output
from unchained.node.primitives.types import Bytes32, CoinId, Txid, UInt64, Wid
from unchained.node.wallet.errors import ReceiptError
from unchained.storage import schema
from unchained.storage.kv import Reader
from unchained.storage.pages import StoredPages
from unchained.storage.presence import there

RECEIPT_MAGIC: Final = b"UNCHAINED-RECEIPT\x02"
"""What a file begins with: the name, then the version."""

MAX_ANCHORS: Final = 1_024
"""Most anchors of a receipt."""

RECEIPT_BYTES_MAX: Final = MAX_TRANSFER_ENCODED + (COIN_SIZE + 2) * MAX_ANCHORS + (16 << 10)
"""Bytes of a file that is looked at."""

CoinBytes = Annotated[bytes, msgspec.Meta(min_length=COIN_SIZE, max_length=COIN_SIZE)]


class Receipt(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a file holds. The five roots of the including anchor's body stand in the order in
    which its body root hashes them, that of the transfers being worked out from `place`."""

    chain_id: UInt64
    transfer: Annotated[bytes, msgspec.Meta(max_length=MAX_TRANSFER_ENCODED)]
    place: MerkleProof
    transfers_root: Bytes32
    fresh_root: Bytes32
    uncles_root: Bytes32
    state_root: Bytes32
    history_root: Bytes32
    genesis: HistoryProof
    anchors: Annotated[tuple[CoinBytes, ...], msgspec.Meta(min_length=1, max_length=MAX_ANCHORS)]


class VerifiedReceipt(msgspec.Struct, frozen=True):
    """What a sound receipt shows. Times in ms, amounts in grains; `work` is the number of hashes
    that the anchors from the including one on stand for, coins of lesser grade included on
    average (K for each anchor)."""

    network: str
    txid: Txid
    wid: Wid
    fee: int
    outputs: tuple[Output, ...]
    height: int
    anchor_id: CoinId
    time_ms: int
    tip_height: int
    tip_id: CoinId
    work: int


def make_receipt(view: Reader, network: Network, txid: bytes, *, anchors: int = 64) -> bytes:
    """Return the receipt of a transfer on the main chain, with up to so many anchors.

    Raises `ReceiptError`.
    """
    place = schema.TXID.get(view, txid)
    if place is None:
        raise ReceiptError(f"transfer {txid.hex()} is not on the chain")
    raw = schema.TRANSFER.get(view, place.wid)
    anchor, body = _anchor(view, place.height)
    if raw is None or anchor is None or body is None:
        raise ReceiptError(f"the store does not have transfer {txid.hex()} any more")
    coins = [anchor]
    while len(coins) < min(anchors, MAX_ANCHORS):
        above, _ = _anchor(view, coins[-1].height + 1)
        if above is None:
            break
        coins.append(above)
    receipt = Receipt(
        network.chain_id,
        raw,
        merkle.prove(body.transfers, place.index),
        merkle.merkle_root(body.transfers),
        merkle.merkle_root(body.fresh),
        merkle.merkle_root(body.uncles),
        body.state_root,
        body.history_root,
        _genesis_proof(view, place.height),
        tuple(coin.raw for coin in coins),
    )
    return RECEIPT_MAGIC + encode(receipt)


def _genesis_proof(view: Reader, anchors: int) -> HistoryProof:
    """Return the proof of genesis in the main chain's history of so many anchors."""
    tip_id = there(schema.meta_id(view, schema.META_TIP), "tip")
    tip = Coin.from_bytes(there(schema.COIN.get(view, tip_id), "the tip's coin"))
    history = HistoryRange(StoredPages(view, schema.HISTORY_PAGE), tip.height + 1)
    history.truncate(anchors)
    return history.prove(0)


def _anchor(view: Reader, height: int) -> tuple[Coin | None, Body | None]:
    anchor_id = schema.HEIGHT.get(view, height)
    record = None if anchor_id is None else schema.ANCHOR.get(view, anchor_id)
    if record is None:
        return None, None
    return Coin.from_bytes(record.coin), Body.from_bytes(record.body)


def verify_receipt(raw: bytes, network: Network, backend: ProofOfWork) -> VerifiedReceipt:
    """Check a receipt by itself: hashes, proofs of work, signatures.

    Takes one Argon2id for each anchor, some milliseconds on the main network. Raises
    `ReceiptError` naming what does not hold.
    """
    if not raw.startswith(RECEIPT_MAGIC):
        raise ReceiptError("not a receipt of version 2: it does not begin like one")
    try:
        receipt = _DECODER.decode(raw[len(RECEIPT_MAGIC) :])
        sized = decode_transfer(receipt.transfer)
        if receipt.chain_id != network.chain_id:
            raise ReceiptError(f"the receipt is of another network, expected {network.name}")
        check_transfer_alone(sized.transfer, network)
        check_conditions(sized.transfer)
        check_signatures(sized)
        anchors = [Coin.from_bytes(coin) for coin in receipt.anchors]
        _check_inclusion(receipt, sized.wid, anchors[0], network)
        _check_anchors(anchors, network, backend)
    except NonCanonicalError as error:
        raise ReceiptError(f"the receipt is malformed: {error}") from None
    except ProtocolError as error:
        raise ReceiptError(f"the receipt does not hold: {error}") from None
    first, last = anchors[0], anchors[-1]
    return VerifiedReceipt(
        network.name,
        sized.txid,
        sized.wid,
        sized.transfer.fee,
        sized.transfer.outputs,
        first.height,
        first.id,
        first.header.time,
        last.height,
        last.id,
        sum(anchor_work(anchor.header.target, network) for anchor in anchors),
    )


def _check_inclusion(receipt: Receipt, wid: Wid, anchor: Coin, network: Network) -> None:
    if not merkle.verify(receipt.place, wid, receipt.transfers_root):
        raise ReceiptError("the transfer is not in the anchor's list of transfers")
    # Protocol §5.1
    root = body_root_of(
        receipt.fresh_root,
        receipt.uncles_root,
        receipt.transfers_root,
        receipt.state_root,
        receipt.history_root,
    )
    if root != anchor.header.body_root:
        raise ReceiptError("the lists are not those that the anchor commits to")
    # Protocol §4: the history after the anchor's parent has as many anchors as the anchor's height
    history = receipt.genesis
    if history.height != 0 or history.anchors != anchor.height:
        raise ReceiptError("the proof of the anchor's history is not of its first id")
    (genesis,) = genesis_of(network).history.peaks
    if not history_range.verify(history, genesis, receipt.history_root):
        raise ReceiptError(
            f"the anchor's history does not begin with the genesis of {network.name}"
        )


def _check_anchors(anchors: list[Coin], network: Network, backend: ProofOfWork) -> None:
    """Check that the anchors are linked and proven: all that is cheap before any Argon2id."""
    for at, anchor in enumerate(anchors):
        check_coin_alone(anchor, network)
        if anchor.header.target > network.max_target or not is_anchor_grade(anchor, network):
            raise ReceiptError(f"the coin at height {anchor.height} is no anchor")
        if at:
            below = anchors[at - 1]
            if anchor.parent != below.id or anchor.height != below.height + 1:
                raise ReceiptError(f"the anchor at height {anchor.height} is not linked")
            check_time_after_parent(anchor, below.header.time)
    for anchor in anchors:
        check_mix(anchor, network, backend)


_DECODER: CanonicalDecoder[Receipt] = CanonicalDecoder(Receipt, max_size=RECEIPT_BYTES_MAX)
