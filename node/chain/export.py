"""The main chain as one file, written and read (Protocol §12).

    file   = "UNCHAINED-EXPORT" ‖ 01 ‖ u32 chain_id ‖ frames
    frame  = u32 length ‖ record
    record = [anchor, fresh, uncles, transfers, state_root, history_root]

Writing needs a store's snapshot, reading nothing but the file. A file that is imported is validated
as what a peer sends: nothing in it says that its chain is the heaviest.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Annotated, BinaryIO, Final

import msgspec

from unchained.node.chain.results import Package
from unchained.node.consensus.errors import (
    ExportBadFrameError,
    ExportBadMagicError,
    ExportNotLinkedError,
    ProtocolError,
    TransferTooLargeError,
    WrongChainError,
)
from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.params import Network
from unchained.node.primitives.body import Body
from unchained.node.primitives.codec import CanonicalDecoder, encode
from unchained.node.primitives.coin import COIN_SIZE, Coin
from unchained.node.primitives.transfer import MAX_TRANSFER_ENCODED, Transfer, wid_of
from unchained.node.primitives.types import Bytes32, CoinId, Wid
from unchained.storage import schema
from unchained.storage.kv import Reader
from unchained.storage.presence import there

MAGIC: Final = b"UNCHAINED-EXPORT\x01"
"""What a file begins with: the name, then the version."""

MAX_RECORD: Final = 8 << 20
"""Bytes of a record that a reader looks at."""

_U32 = struct.Struct(">I")

CoinBytes = Annotated[bytes, msgspec.Meta(min_length=COIN_SIZE, max_length=COIN_SIZE)]


class Record(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One anchor of the main chain with all that its body lists, in body order."""

    anchor: CoinBytes
    fresh: tuple[CoinBytes, ...]
    uncles: tuple[CoinBytes, ...]
    transfers: tuple[Transfer, ...]
    state_root: Bytes32
    history_root: Bytes32


class _RawRecord(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A record whose transfers are encoded already."""

    anchor: bytes
    fresh: tuple[bytes, ...]
    uncles: tuple[bytes, ...]
    transfers: tuple[msgspec.Raw, ...]
    state_root: bytes
    history_root: bytes


_DECODER = CanonicalDecoder(Record, max_size=MAX_RECORD)


class ImportFailedError(Exception):
    """A record broke a rule: `height` is its place in the file, `error` the rule."""

    def __init__(self, height: int, error: ProtocolError) -> None:
        super().__init__(f"record of height {height}: {error}")
        self.height = height
        self.error = error


def export_chain(reader: Reader, network: Network, file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Write the main chain of a snapshot; yield height written and height of the tip.

    Raises OSError, and a `StoreError` when the store does not hold what it should.
    """
    tip_id = schema.meta_id(reader, schema.META_TIP)
    assert tip_id is not None, "an opened chain has a tip"
    tip_height = _coin(reader, tip_id).height
    file.write(MAGIC + _U32.pack(network.chain_id))
    for height in range(1, tip_height + 1):
        record = encode(_record_at(reader, height))
        file.write(_U32.pack(len(record)) + record)
        yield height, tip_height


def _record_at(reader: Reader, height: int) -> _RawRecord:
    anchor_id = there(schema.HEIGHT.get(reader, height), f"height {height}")
    anchor = there(schema.ANCHOR.get(reader, anchor_id), f"anchor {anchor_id.hex()}")
    body = Body.from_bytes(anchor.body)
    return _RawRecord(
        anchor.coin,
        tuple(_coin(reader, CoinId(coin_id)).raw for coin_id in body.fresh),
        tuple(_coin(reader, CoinId(coin_id)).raw for coin_id in body.uncles),
        tuple(
            msgspec.Raw(there(schema.TRANSFER.get(reader, wid), f"transfer {wid.hex()}"))
            for wid in body.transfers
        ),
        body.state_root,
        body.history_root,
    )


def read_head(file: BinaryIO, network: Network) -> None:
    """Read the file's head. Raises `ExportBadMagicError`, `WrongChainError`."""
    magic = file.read(len(MAGIC))
    # Protocol §12: EXPORT_BAD_MAGIC
    if magic != MAGIC:
        raise ExportBadMagicError(expected=MAGIC, actual=magic)
    chain_id = file.read(_U32.size)
    # Protocol §12: WRONG_CHAIN
    if chain_id != _U32.pack(network.chain_id):
        raise WrongChainError(expected=f"{network.chain_id:#x}", actual=f"0x{chain_id.hex()}")


def read_packages(file: BinaryIO, network: Network) -> Iterator[Package]:
    """Yield the anchors of a file whose head was read, lowest first.

    Every coin and transfer is decoded and hashed, nothing is checked but that each anchor's
    parent is the one before. Raises `ImportFailedError`.
    """
    parent = genesis_of(network).id
    height = 1
    while (frame := _read_frame(file, height)) is not None:
        try:
            package = _package_of(frame)
            # Protocol §12: EXPORT_NOT_LINKED
            if package.anchor.parent != parent:
                raise ExportNotLinkedError(
                    expected=parent.hex(), actual=package.anchor.parent.hex()
                )
        except ProtocolError as error:
            raise ImportFailedError(height, error) from None
        yield package
        parent = package.anchor.id
        height += 1


def _read_frame(file: BinaryIO, height: int) -> bytes | None:
    # Protocol §12: EXPORT_BAD_FRAME
    head = file.read(_U32.size)
    if not head:
        return None
    if len(head) < _U32.size:
        raise ImportFailedError(
            height,
            ExportBadFrameError(expected=f"{_U32.size} bytes of length", actual=len(head)),
        )
    (length,) = _U32.unpack(head)
    if length > MAX_RECORD:
        raise ImportFailedError(
            height, ExportBadFrameError(expected=f"at most {MAX_RECORD} bytes", actual=length)
        )
    record = file.read(length)
    if len(record) < length:
        raise ImportFailedError(
            height, ExportBadFrameError(expected=f"{length} bytes", actual=len(record))
        )
    return record


def _package_of(raw: bytes) -> Package:
    record = _DECODER.decode(raw)
    anchor = Coin.from_bytes(record.anchor)
    fresh = [Coin.from_bytes(coin) for coin in record.fresh]
    uncles = [Coin.from_bytes(coin) for coin in record.uncles]
    wids: list[Wid] = []
    transfers: dict[Wid, bytes] = {}
    for transfer in record.transfers:
        encoded = transfer.to_bytes()
        # Protocol §8.3: TRANSFER_TOO_LARGE
        if len(encoded) > MAX_TRANSFER_ENCODED:
            raise TransferTooLargeError(
                expected=f"at most {MAX_TRANSFER_ENCODED} bytes", actual=f"{len(encoded)} bytes"
            )
        wid = wid_of(encoded)
        wids.append(wid)
        transfers[wid] = encoded
    body = Body(
        tuple(coin.id for coin in fresh),
        tuple(coin.id for coin in uncles),
        tuple(wids),
        record.state_root,
        record.history_root,
    )
    return Package(anchor, body, {coin.id: coin for coin in (*fresh, *uncles)}, transfers)


def _coin(reader: Reader, coin_id: CoinId) -> Coin:
    return Coin.from_bytes(there(schema.COIN.get(reader, coin_id), f"coin {coin_id.hex()}"))
