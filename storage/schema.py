"""The layout on disk: every table, its keys and its values. Nothing else knows them.

A key is the table's prefix byte, then fixed fields: ids and locks of 32 bytes, heights and
sequence numbers as u64 big-endian, so that the order of bytes is the order of numbers. Only
names (meta, addresses, bans) are of varying length, and each stands last in its key. Values
are fixed layouts where they are many or hot, else canonical MessagePack arrays (Protocol §2).
A value that does not decode raises `StoreCorruptError` with the table and the key.

prefix  table      key                  value
m       meta       name                 what the name says: u64, id or bytes
a       anchor     anchor id            AnchorRecord
h       height     height               id of the main chain's anchor there
s       state      height               StateRecord after the main chain's anchor there
r       state page level, index         nodes of the state's range after the tip (Protocol §4)
g       history page level, index       nodes of the history's range after the tip
u       undo       height               UndoRecord of the main chain's anchor there
c       coin       coin id              the 198 bytes of a minted coin, listed or not
b       bound      parent id, coin id   nothing: the coin is bound to the parent, and a vote
x       unspent    coin id              value u64, lock 32, height u64, minted u8, position u64:
                                        the coin set
i       history    coin id              CoinHistory on the main chain
o       owner      lock, coin id        value u64, height u64 of inclusion, spent or not
t       txid       txid                 TransferPlace on the main chain
w       transfer   wid                  a transfer's whole encoding
p       mempool    wid                  MempoolRecord
e       event      sequence             Event
k       address    name                 what the network keeps of an address
n       ban        name                 what the network keeps of a ban
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec

from unchained.node.consensus.mints import CoinKind
from unchained.node.consensus.transfers import UnspentCoin
from unchained.node.crypto.history_range import HISTORY_PAGE_SIZE
from unchained.node.crypto.state_range import STATE_PAGE_SIZE
from unchained.node.primitives.body import MAX_BODY_ENCODED
from unchained.node.primitives.codec import CanonicalDecoder, encode
from unchained.node.primitives.coin import COIN_SIZE
from unchained.node.primitives.transfer import MAX_TRANSFER_ENCODED
from unchained.node.primitives.types import Bytes32, CoinId, Lock, UInt64
from unchained.storage.kv import Getter
from unchained.storage.tables import IdTable, NameTable, NumberTable, PageTable, PairTable, Table

SCHEMA_VERSION: Final = 2
"""Goes up with every change of layout, which then brings a migration step (storage.open)."""

MAX_UNDO_ENCODED: Final = 8 << 20
"""Bytes of an encoded undo record. The 4 MiB of transfers in a body spend some 40,000 coins at
most (an input is 104 bytes or more), of 97 bytes here."""

MAX_SMALL_ENCODED: Final = 8 << 10
"""Bytes of any other encoded record."""

CoinBytes = Annotated[bytes, msgspec.Meta(min_length=COIN_SIZE, max_length=COIN_SIZE)]
"""The 198 bytes of a coin."""

_U64 = struct.Struct(">Q")
_UNSPENT = struct.Struct(">Q32sQBQ")
_OWNED = struct.Struct(">QQ")


# -- values ---------------------------------------------------------------------------------------


class AnchorRecord(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A coin of anchor grade. `body` is its body's encoding, empty while that is unknown;
    `status` what the chain has found out about it; `votes` how many coins are known to be
    bound to it; `connected_running_ms` the node's running time when it joined the main chain."""

    coin: CoinBytes
    body: bytes
    status: UInt64
    votes: UInt64
    connected_running_ms: UInt64


class StateRecord(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What follows from the chain up to an anchor (Protocol §4, §5.4): how many positions there
    are, all grains in the coin set and in the pool, and the history's count and peaks."""

    positions: UInt64
    supply: UInt64
    pool: UInt64
    history: bytes


class SpentCoin(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A member of the coin set that an anchor removed; `minted` is 1 or 0."""

    coin_id: Bytes32
    value: UInt64
    lock: Bytes32
    height: UInt64
    minted: Annotated[int, msgspec.Meta(ge=0, le=1)]
    position: UInt64

    @classmethod
    def of(cls, coin_id: bytes, coin: UnspentCoin) -> SpentCoin:
        """Record a member before it is removed."""
        return cls(
            coin_id,
            coin.value,
            coin.lock,
            coin.height,
            int(coin.minted),
            position_of(coin),
        )

    def unspent(self) -> UnspentCoin:
        """Return the member as it was."""
        return UnspentCoin(
            self.value, Lock(self.lock), self.height, self.minted == 1, self.position
        )


class UndoRecord(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What an anchor removed from the coin set, in order of removal. What it added follows
    from its body."""

    spent: tuple[SpentCoin, ...]


class CoinHistory(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What the main chain did with a coin.

    `kind` is a `CoinKind`, `height` that of inclusion, `value` in grains. An output has its
    `txid` and its `index` among the outputs; a minted coin an empty txid and its index in the
    body's list (fresh or uncles; 0 for the anchor itself). Unspent: `spent_height` 0 and
    `spent_by` empty; else the height of the anchor and the txid of the transfer. `position` is
    that of Protocol §4.
    """

    kind: CoinKind
    height: UInt64
    value: UInt64
    txid: Annotated[bytes, msgspec.Meta(max_length=32)]
    index: UInt64
    spent_height: UInt64
    spent_by: Annotated[bytes, msgspec.Meta(max_length=32)]
    position: UInt64


class OwnedCoin(msgspec.Struct, frozen=True, gc=False):
    """What the owner index keeps beside a coin: value in grains, height of inclusion."""

    value: int
    height: int


class TransferPlace(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Where a transfer stands on the main chain: its wid, the anchor's height, and its index
    in the body."""

    wid: Bytes32
    height: UInt64
    index: UInt64


class MempoolRecord(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A transfer that waits. `arrival` counts up, so that parents come before children;
    `added_ms` since the Unix epoch; `fee` in grains; `size` as fee rates count it."""

    arrival: UInt64
    added_ms: UInt64
    fee: UInt64
    size: UInt64


class AnchorConnected(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=1):
    """An anchor joined the main chain at its tip."""

    height: UInt64
    anchor_id: Bytes32


class AnchorDisconnected(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=2):
    """The main chain's tip was taken off it."""

    height: UInt64
    anchor_id: Bytes32


class CoinAccepted(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=3):
    """A valid coin became known."""

    coin_id: Bytes32


class TransferEntered(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=4):
    """A transfer entered the mempool."""

    wid: Bytes32


class TransferLeft(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=5):
    """A transfer left the mempool, for one of the mempool's numbered reasons."""

    wid: Bytes32
    reason: UInt64


Event = AnchorConnected | AnchorDisconnected | CoinAccepted | TransferEntered | TransferLeft
"""One entry of the event log."""


def position_of(coin: UnspentCoin) -> int:
    """Return the position of a member of the coin set."""
    assert coin.position is not None, "whatever is connected has one"
    return coin.position


# -- layouts --------------------------------------------------------------------------------------


def _same(raw: bytes) -> bytes:
    return raw


def _bytes_of(least: int, most: int) -> Callable[[bytes], bytes]:
    def decode(raw: bytes) -> bytes:
        if not least <= len(raw) <= most:
            raise ValueError(f"expected {least} to {most} bytes")
        return raw

    return decode


def _encode_nothing(_value: None) -> bytes:
    return b""


def _decode_nothing(raw: bytes) -> None:
    if raw:
        raise ValueError("expected no bytes")


def _encode_unspent(coin: UnspentCoin) -> bytes:
    return _UNSPENT.pack(coin.value, coin.lock, coin.height, coin.minted, position_of(coin))


def _decode_unspent(raw: bytes) -> UnspentCoin:
    value, lock, height, minted, position = _UNSPENT.unpack(raw)
    if minted > 1:
        raise ValueError(f"minted is {minted}, expected 0 or 1")
    return UnspentCoin(value, lock, height, minted == 1, position)


def _encode_owned(coin: OwnedCoin) -> bytes:
    return _OWNED.pack(coin.value, coin.height)


def _decode_owned(raw: bytes) -> OwnedCoin:
    return OwnedCoin(*_OWNED.unpack(raw))


def _decode_coin_id(raw: bytes) -> CoinId:
    return CoinId(_id(raw))


_id = _bytes_of(32, 32)
_anchor = CanonicalDecoder(AnchorRecord, max_size=MAX_BODY_ENCODED + MAX_SMALL_ENCODED)
_state = CanonicalDecoder(StateRecord, max_size=MAX_SMALL_ENCODED)
_undo = CanonicalDecoder(UndoRecord, max_size=MAX_UNDO_ENCODED)
_history = CanonicalDecoder(CoinHistory, max_size=MAX_SMALL_ENCODED)
_place = CanonicalDecoder(TransferPlace, max_size=MAX_SMALL_ENCODED)
_mempool = CanonicalDecoder(MempoolRecord, max_size=MAX_SMALL_ENCODED)
_event: CanonicalDecoder[Event] = CanonicalDecoder(Event, max_size=MAX_SMALL_ENCODED)  # type: ignore[arg-type]

META: Final = NameTable("meta", b"m", None, _same, _same)
ANCHOR: Final = IdTable("anchor", b"a", 32, encode, _anchor.decode)
HEIGHT: Final = NumberTable("height", b"h", 8, _same, _decode_coin_id)
STATE: Final = NumberTable("state", b"s", 8, encode, _state.decode)
STATE_PAGE: Final = PageTable(
    "state page", b"r", 9, _same, _bytes_of(STATE_PAGE_SIZE, STATE_PAGE_SIZE)
)
HISTORY_PAGE: Final = PageTable(
    "history page", b"g", 9, _same, _bytes_of(HISTORY_PAGE_SIZE, HISTORY_PAGE_SIZE)
)
UNDO: Final = NumberTable("undo", b"u", 8, encode, _undo.decode)
COIN: Final = IdTable("coin", b"c", 32, _same, _bytes_of(COIN_SIZE, COIN_SIZE))
BOUND: Final = PairTable("bound", b"b", 64, _encode_nothing, _decode_nothing)
UNSPENT: Final = IdTable("unspent", b"x", 32, _encode_unspent, _decode_unspent)
HISTORY: Final = IdTable("history", b"i", 32, encode, _history.decode)
OWNER: Final = PairTable("owner", b"o", 64, _encode_owned, _decode_owned)
TXID: Final = IdTable("txid", b"t", 32, encode, _place.decode)
TRANSFER: Final = IdTable("transfer", b"w", 32, _same, _bytes_of(0, MAX_TRANSFER_ENCODED))
MEMPOOL: Final = IdTable("mempool", b"p", 32, encode, _mempool.decode)
EVENT: Final = NumberTable("event", b"e", 8, encode, _event.decode)
ADDRESS: Final = NameTable("address", b"k", None, _same, _same)
BAN: Final = NameTable("ban", b"n", None, _same, _same)

TABLES: Final[tuple[Table[Any], ...]] = (
    META,
    ANCHOR,
    HEIGHT,
    STATE,
    STATE_PAGE,
    HISTORY_PAGE,
    UNDO,
    COIN,
    BOUND,
    UNSPENT,
    HISTORY,
    OWNER,
    TXID,
    TRANSFER,
    MEMPOOL,
    EVENT,
    ADDRESS,
    BAN,
)
"""Every table there is."""


# -- meta -----------------------------------------------------------------------------------------

META_SCHEMA_VERSION: Final = b"schema version"
"""u64: `SCHEMA_VERSION` of the program that laid the store out."""

META_GENESIS: Final = b"genesis"
"""id: the genesis of the network whose chain this is."""

META_NETWORK: Final = b"network"
"""bytes: that network's name, for messages."""

META_TIP: Final = b"tip"
"""id: the main chain's last anchor."""

META_NEXT_EVENT: Final = b"next event"
"""u64: the sequence number that the next event will have; the first event has 0."""

META_RUNNING_MS: Final = b"running ms"
"""u64: how long nodes have run on this store, in ms (Protocol §6, last rule)."""

META_UNFINISHED: Final = b"unfinished"
"""bytes: name of work on the whole store that was begun and has to be done again if found."""


def encode_number(number: int) -> bytes:
    """Return a meta value of 8 bytes."""
    return _U64.pack(number)


def meta_number(reader: Getter, name: bytes) -> int | None:
    """Return a number of the meta table, or None. Raises `StoreCorruptError`."""
    raw = META.get(reader, name)
    if raw is None:
        return None
    if len(raw) != _U64.size:
        raise META.corrupt(META.key(name), f"{len(raw)} bytes, expected a number of 8")
    return int.from_bytes(raw, "big")


def meta_id(reader: Getter, name: bytes) -> CoinId | None:
    """Return an id of the meta table, or None. Raises `StoreCorruptError`."""
    raw = META.get(reader, name)
    if raw is None:
        return None
    if len(raw) != 32:
        raise META.corrupt(META.key(name), f"{len(raw)} bytes, expected an id of 32")
    return CoinId(raw)
