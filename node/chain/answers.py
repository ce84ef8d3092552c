"""What the chain answers when it is asked: plain values, good for any thread and any time."""

from __future__ import annotations

from typing import Literal

import msgspec

from unchained.node.consensus.context import AnchorContext
from unchained.node.consensus.mints import CoinKind
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId, Lock, Txid, Wid
from unchained.storage.schema import CoinHistory

AnchorStanding = Literal["main", "side", "bodyless", "invalid", "dead", "set-aside"]
"""On the main chain; on a side branch that counts; with an unknown body; invalid; dead: it counts,
but cannot be connected; set aside by the operator."""

WaitingOrder = Literal["fee_rate", "time"]
"""By fee rate, the best first; or by arrival, the latest first."""


class HeaderBase(msgspec.Struct, frozen=True, gc=False):
    """A known anchor as the headers above it see it, and where its chain leaves the main chain."""

    context: AnchorContext
    fork_height: int


class MainWeight(msgspec.Struct, frozen=True, gc=False):
    """The main chain above a height: its sum of `anchor_work`, how many anchors that are, and
    whether the height is below the tree. If it is not, `targets` are theirs, lowest first, and then
    that of the tip's children."""

    work: int
    depth: int
    is_deep: bool
    targets: list[int]


class AnchorPlace(msgspec.Struct, frozen=True, gc=False):
    """Where an anchor stands. `next` is the main chain's anchor after it; `votes` counts known
    coins bound to it, `confirmations` as `chain.confirmations` counts them."""

    standing: AnchorStanding
    next: CoinId | None
    votes: int
    confirmations: int


class BranchEnd(msgspec.Struct, frozen=True, gc=False):
    """The last anchor of a branch. `fork_height` is where it leaves the main chain, `score` that
    of Protocol §6, None for an anchor that does not count."""

    id: CoinId
    height: int
    standing: AnchorStanding
    fork_height: int
    votes: int
    score: int | None


class AnchorVotes(msgspec.Struct, frozen=True, gc=False):
    """An anchor with what votes for it: how many coins are bound to it, and the ids of the first
    of them to come. `score` is that of Protocol §6, None where it does not count or is settled."""

    anchor: Coin
    standing: AnchorStanding
    votes: int
    score: int | None
    bound: list[CoinId]


class WaitingTransfer(msgspec.Struct, frozen=True, gc=False):
    """A transfer of the mempool. `fee` in grains, `size` as fee rates count it, `raw_size` in
    encoded bytes; `added_ms` is when it came. `parents` and `children` wait as well."""

    wid: Wid
    txid: Txid
    fee: int
    size: int
    raw_size: int
    added_ms: int
    inputs: int
    outputs: int
    parents: tuple[Txid, ...]
    children: tuple[Txid, ...]


class WaitingFees(msgspec.Struct, frozen=True, gc=False):
    """Grains per byte that the mempool asks at least, and fee and size of all that wait."""

    min_fee_rate: float
    fees: list[tuple[int, int]]


class MempoolState(msgspec.Struct, frozen=True, gc=False):
    """How full the mempool is. `bytes` encoded, of `capacity`; `fees` in grains; `min_fee_rate`
    in grains per byte of size; transfers leave `expiry_ms` after they came."""

    transfers: int
    bytes: int
    capacity: int
    fees: int
    min_fee_rate: float
    expiry_ms: int


class WaitingSpend(msgspec.Struct, frozen=True, gc=False):
    """That a transfer of the mempool, which came at `added_ms`, spends a coin."""

    txid: Txid
    added_ms: int


class WaitingOutput(msgspec.Struct, frozen=True, gc=False):
    """A coin that a transfer of the mempool would create. `value` in grains."""

    value: int
    lock: Lock
    txid: Txid


class KnownCoin(msgspec.Struct, frozen=True, gc=False):
    """What is known of a coin.

    `minted` unless it is an output; `history` once the main chain includes it, and then `lock`,
    the anchor that includes it and, once it is spent, the anchor that spends it. `confirmations`
    in votes, of its inclusion.
    """

    minted: Coin | None
    history: CoinHistory | None
    is_unspent: bool
    lock: Lock | None
    included_in: Coin | None
    spent_in: Coin | None
    confirmations: int
    output: WaitingOutput | None
    spender: WaitingSpend | None


class TransferEncoding(msgspec.Struct, frozen=True, gc=False):
    """A transfer of the main chain or the mempool: its encoding, and the values (grains) of the
    coins that it spends where they are known.

    An included one has the anchor, its `index` in the body and `confirmations` in votes; one that
    waits has `added_ms`, when it came.
    """

    raw: bytes
    values: list[int | None]
    added_ms: int | None
    anchor: Coin | None
    index: int
    confirmations: int


class CoinFates(msgspec.Struct, frozen=True, gc=False):
    """Which coins the main chain includes, up to its tip at `height`: kind and value (grains)."""

    height: int
    included: dict[CoinId, tuple[CoinKind, int]]


class VotesFound(msgspec.Struct, frozen=True, gc=False):
    """The bytes of coins bound to anchors, the places of those among them that count as anchors,
    and whether there are more coins."""

    coins: list[bytes]
    counting: list[int]
    has_more: bool


class Lacking(msgspec.Struct, frozen=True, gc=False):
    """What bodies list and is not known here, each once; and how many bytes the encodings have of
    those listed transfers that are."""

    coins: list[CoinId]
    transfers: list[Wid]
    lengths: dict[Wid, int]
