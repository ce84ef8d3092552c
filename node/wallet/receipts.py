"""Receipts: one file that shows, without a node, that a transfer was included and built upon.

    file = "UNCHAINED-RECEIPT" ‖ 03 ‖ MessagePack array                          (Protocol §9.2)

A receipt carries the transfer, the Merkle proof of its wid in the including anchor's list, the
proof that this anchor's history begins with the network's genesis, the headers of the anchors
from the including one on, and for outputs to paycodes the secrets that show whom they pay. What it
proves is the work that was done on top of the transfer up to the last of its anchors; not that
no heavier chain exists, nor that the transfer's outputs are still unspent (a proof of a coin,
`consensus.coin_proof`, shows that). Files of version 02, without secrets, are read as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from unchained.node.consensus.coins import check_mix
from unchained.node.consensus.context import leaf_of
from unchained.node.consensus.fork_choice import anchor_work
from unchained.node.consensus.opened_anchors import (
    HistoryStart,
    UnprovenHistoryError,
    check_opened,
    check_start,
)
from unchained.node.consensus.params import Network, network_for, other_network
from unchained.node.consensus.transfers import (
    MAX_OUTPUTS,
    check_conditions,
    check_signatures,
    check_transfer_alone,
    decode_transfer,
)
from unchained.node.crypto import merkle
from unchained.node.crypto.addresses import OutputPlace, opens_note
from unchained.node.crypto.anchor_header import ANCHOR_HEADER_SIZE_MAX, AnchorHeader
from unchained.node.crypto.history_range import HistoryRange
from unchained.node.crypto.merkle import MerkleProof
from unchained.node.crypto.pow import ProofOfWork
from unchained.node.primitives.body import Body
from unchained.node.primitives.codec import CanonicalDecoder, encode
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.errors import NonCanonicalError, ProtocolError
from unchained.node.primitives.transfer import MAX_TRANSFER_ENCODED, Output, Transfer
from unchained.node.primitives.types import U64_MAX, CoinId, Lock, Txid, UInt64, Wid
from unchained.node.wallet.errors import ReceiptError
from unchained.node.wallet.payment_request import memo_for
from unchained.node.wallet.records import PaymentSecret
from unchained.storage import schema
from unchained.storage.kv import Reader
from unchained.storage.pages import StoredPages
from unchained.storage.presence import there

RECEIPT_NAME: Final = b"UNCHAINED-RECEIPT"
"""What a file begins with, before the byte of its version."""

RECEIPT_VERSION: Final = 3
"""Of receipts that are written. Those of version 2 show nobody whom a paycode's outputs pay; those
of version 1 are of chains that are no more."""

RECEIPT_ANCHORS_MAX: Final = 1_024
"""Most anchors of a receipt."""

RECEIPT_BYTES_MAX: Final = (
    MAX_TRANSFER_ENCODED + ANCHOR_HEADER_SIZE_MAX * RECEIPT_ANCHORS_MAX + (32 << 10)
)
"""Bytes of a file that is looked at."""


class ReceiptCore(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a file of version 2 holds. `place` leads to the root of the transfers of the first of
    `anchors`, `start` to its history root."""

    chain_id: UInt64
    transfer: Annotated[bytes, msgspec.Meta(max_length=MAX_TRANSFER_ENCODED)]
    place: MerkleProof
    start: HistoryStart
    anchors: Annotated[
        tuple[AnchorHeader, ...], msgspec.Meta(min_length=1, max_length=RECEIPT_ANCHORS_MAX)
    ]


class Receipt(ReceiptCore, array_like=True, frozen=True, gc=False):
    """What a file holds: `payments` prove whom outputs to paycodes pay, by ascending index."""

    payments: Annotated[tuple[PaymentSecret, ...], msgspec.Meta(max_length=MAX_OUTPUTS)] = ()


class ShownPayment(msgspec.Struct, frozen=True, gc=False):
    """An output that a receipt shows to pay somebody. `value` in grains."""

    index: int
    value: int
    memo: bytes


class VerifiedReceipt(msgspec.Struct, frozen=True):
    """What a sound receipt shows. Times in ms, amounts in grains; `work` is the number of hashes
    that the anchors from the including one on stand for, coins of lesser grade included on
    average (K for each anchor). `votes` is how many coins that those anchors list are votes for the
    including one for certain (Protocol §6); there may be more."""

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
    tip_time_ms: int
    votes: int
    work: int
    first_input: CoinId
    secrets: tuple[PaymentSecret, ...]

    @property
    def anchors_on_top(self) -> int:
        """Anchors above the including one, up to the last of which the receipt knows."""
        return self.tip_height - self.height

    def payments_to(self, network: Network, payee: str) -> tuple[ShownPayment, ...]:
        """Return the outputs that pay an address, a paycode, a contract or a lock.

        Raises `BadPaymentError` for what is no payee.
        """
        shared = {secret.index: secret.shared for secret in self.secrets}
        found = []
        for index, output in enumerate(self.outputs):
            place = OutputPlace(self.first_input, index)
            memo = memo_for(network, payee, place, output, shared.get(index, b""))
            if memo is not None:
                found.append(ShownPayment(index, output.value, memo))
        return tuple(found)


def make_receipt(
    view: Reader,
    network: Network,
    txid: bytes,
    *,
    anchors: int = 64,
    secrets: Sequence[PaymentSecret] = (),
) -> bytes:
    """Return the receipt of a transfer on the main chain, with up to so many anchors, and with the
    secrets that show whom some of its outputs pay.

    Raises `ReceiptError`.
    """
    place = schema.TXID.get(view, txid)
    if place is None:
        raise ReceiptError(f"transfer {txid.hex()} is not on the chain")
    raw = schema.TRANSFER.get(view, place.wid)
    found = _anchor(view, place.height)
    if raw is None or found is None:
        raise ReceiptError(f"the store does not have transfer {txid.hex()} any more")
    wids = found[1].transfers
    headers: list[AnchorHeader] = []
    while found is not None and len(headers) < min(anchors, RECEIPT_ANCHORS_MAX):
        headers.append(AnchorHeader.of(*found))
        found = _anchor(view, place.height + len(headers))
    receipt = Receipt(
        network.chain_id,
        raw,
        merkle.prove(wids, place.index),
        _start(view, place.height),
        tuple(headers),
        tuple(sorted(secrets, key=lambda secret: secret.index)),
    )
    return RECEIPT_NAME + bytes((RECEIPT_VERSION,)) + encode(receipt)


def _start(view: Reader, anchors: int) -> HistoryStart:
    """Return how the main chain's history of so many anchors begins."""
    tip_id = there(schema.meta_id(view, schema.META_TIP), "tip")
    tip = Coin.from_bytes(there(schema.COIN.get(view, tip_id), "the tip's coin"))
    history = HistoryRange(StoredPages(view, schema.HISTORY_PAGE), tip.height + 1)
    history.truncate(anchors)
    return HistoryStart.of(history)


def _anchor(view: Reader, height: int) -> tuple[Coin, Body] | None:
    anchor_id = schema.HEIGHT.get(view, height)
    record = None if anchor_id is None else schema.ANCHOR.get(view, anchor_id)
    if record is None:
        return None
    return Coin.from_bytes(record.coin), Body.from_bytes(record.body)


def verify_receipt(raw: bytes, expected: Network | None, backend: ProofOfWork) -> VerifiedReceipt:
    """Check a receipt by itself: hashes, proofs of work, signatures. With None for the network
    expected it may be of any.

    Takes one Argon2id for each anchor, some milliseconds on the main network. Raises
    `ReceiptError` naming what does not hold.
    """
    try:
        receipt = _decode(raw)
        sized = decode_transfer(receipt.transfer)
        network = network_for(receipt.chain_id, expected)
        if network is None:
            raise ReceiptError(other_network("the receipt", receipt.chain_id, expected))
        check_transfer_alone(sized.transfer, network)
        check_conditions(sized.transfer)
        check_signatures(sized)
        _check_secrets(receipt, sized.transfer)
        if not merkle.verify(receipt.place, sized.wid, receipt.anchors[0].transfers.root()):
            raise ReceiptError("the transfer is not in the anchor's list of transfers")
        anchors = _check_anchors(receipt, network)
        for anchor in anchors:
            check_mix(anchor, network, backend)
    except NonCanonicalError as error:
        raise ReceiptError(f"the receipt is malformed: {error.in_words()}") from None
    except ProtocolError as error:
        raise ReceiptError(f"the receipt does not hold: {error.in_words()}") from None
    except UnprovenHistoryError as error:
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
        last.header.time,
        sum(header.fresh.n + 1 for header in receipt.anchors[1:]),
        sum(anchor_work(anchor.header.target, network) for anchor in anchors),
        CoinId(sized.transfer.inputs[0].coin_id),
        receipt.payments,
    )


def _check_secrets(receipt: Receipt, transfer: Transfer) -> None:
    indexes = [secret.index for secret in receipt.payments]
    if indexes != sorted(set(indexes)) or any(at >= len(transfer.outputs) for at in indexes):
        raise ReceiptError("the receipt has secrets of outputs that its transfer does not have")
    for secret in receipt.payments:
        output = transfer.outputs[secret.index]
        if not opens_note(Lock(output.lock), output.note, secret.shared):
            raise ReceiptError(f"the secret of output {secret.index} does not open its note")


def _decode(raw: bytes) -> Receipt:
    head, content = raw[: len(RECEIPT_NAME) + 1], raw[len(RECEIPT_NAME) + 1 :]
    if head == RECEIPT_NAME + b"\x01":
        raise ReceiptError(
            "a receipt of version 1, of a chain of earlier rules that is no more: it shows nothing "
            "of the chain that there is"
        )
    if head == RECEIPT_NAME + b"\x02":
        return Receipt(*msgspec.structs.astuple(_DECODER_2.decode(content)))
    if head != RECEIPT_NAME + bytes((RECEIPT_VERSION,)):
        raise ReceiptError(
            f"not a receipt of version {RECEIPT_VERSION}: it does not begin like one"
        )
    return _DECODER.decode(content)


def _check_anchors(receipt: Receipt, network: Network) -> list[Coin]:
    """Check that the anchors are those of one chain from genesis; all that is cheap before any
    Argon2id. Returns their coins."""
    history = check_start(receipt.start, receipt.anchors[0].history_root, network)
    first = receipt.start.first()
    anchors: list[Coin] = []
    for header in receipt.anchors:
        anchor = check_opened(header, history, first, network)
        if anchors and anchor.parent != anchors[-1].id:
            raise ReceiptError(f"the anchor at height {anchor.height} is not linked")
        listed = header.fresh.n + header.uncles.n
        if history.coins + listed + 1 > U64_MAX:
            raise ReceiptError("the chain has more coins than there can be")
        history = history.append(leaf_of(anchor, listed, network))
        anchors.append(anchor)
    return anchors


_DECODER: CanonicalDecoder[Receipt] = CanonicalDecoder(Receipt, max_size=RECEIPT_BYTES_MAX)
_DECODER_2: CanonicalDecoder[ReceiptCore] = CanonicalDecoder(
    ReceiptCore, max_size=RECEIPT_BYTES_MAX
)
