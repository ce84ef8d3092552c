"""What goes into the chain and what comes of it: packages, outcomes, changes."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Protocol

import msgspec

from unchained.node.consensus.transfers import ProvenTransfer
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.errors import ProtocolError
from unchained.node.primitives.types import CoinId, Wid
from unchained.storage.schema import Event


class Outcome(enum.Enum):
    """What became of something that was submitted and broke no rule."""

    ACCEPTED = "accepted"
    KNOWN = "known"


class TransferIntake(Protocol):
    """Takes transfers that are made here: the chain of a node that is alone, else the stem."""

    async def submit_transfer(self, transfer: bytes | ProvenTransfer) -> Outcome:
        """Take in a transfer: its whole encoding, or one that was proven where it was made.

        Raises the `ProtocolError` that it breaks, or the `PolicyError` for which it is not
        relayed.
        """


class Held(msgspec.Struct, frozen=True, gc=False):
    """A coin waits: for `parent`, or for the clock if there is none."""

    parent: CoinId | None


class NeedsProof(msgspec.Struct, frozen=True, gc=False):
    """All cheap checks passed: verify the mixes of these coins and submit again as proven."""

    coins: tuple[Coin, ...]


class Package(msgspec.Struct, frozen=True):
    """An anchor with all that its body lists and the receiver may not know.

    `coins` by id and `transfers` (whole encodings) by wid; the caller has hashed both.
    """

    anchor: Coin
    body: Body
    coins: Mapping[CoinId, Coin]
    transfers: Mapping[Wid, bytes]


class ProvenCoin(msgspec.Struct, frozen=True, gc=False):
    """A coin whose mix is known to be the Argon2id of its header: verified, or mined here.

    What has been proven is a type, so that nobody can forget to prove a coin, or prove it twice.
    Only those make one who know the mix: those who have called the verifier, and own mining.
    """

    coin: Coin


class ProvenAnchor(msgspec.Struct, frozen=True):
    """An anchor with what its body lists, the mixes of all of them known to be right: verified,
    mined here, known before, or of an anchor that the operator trusts."""

    package: Package

    @property
    def coin(self) -> ProvenCoin:
        """The anchor's own coin."""
        return ProvenCoin(self.package.anchor)


class ReorgRefused(msgspec.Struct, frozen=True):
    """A chain won that would undo more than this node undoes by itself (Protocol §6)."""

    fork_height: int
    depth: int
    winner: CoinId


class UnknownAnchorError(Exception):
    """There is no such anchor among those that can be set aside: of `lowest` height and above."""

    def __init__(self, anchor_id: CoinId, lowest: int) -> None:
        super().__init__(
            f"no anchor {anchor_id.hex()} is known at height {lowest} or above: only what a "
            "reorganisation can undo can be set aside"
        )


class ConnectedAnchor(msgspec.Struct, frozen=True, gc=False):
    """An anchor that joined the main chain, by its coin; the rest counts its body's entries."""

    coin: Coin
    fresh: int
    late: int
    stray: int
    transfers: int


class CountedAnchor(msgspec.Struct, frozen=True, gc=False):
    """An anchor that passed Protocol §5.2, as all its ancestors have: what is bound to it can be
    validated from here on."""

    coin: Coin
    body: Body


class BatchOutcome(msgspec.Struct, frozen=True, gc=False):
    """What became of several anchors that were submitted together: the first rule that one of them
    broke, and whether a lowered tree has no room for more."""

    error: ProtocolError | None
    is_full: bool


class Changes(msgspec.Struct):
    """What happened since the last time it was asked: for log lines and for subscribers.

    `events` are on disk; their first has sequence number `first_event`. `coins` became known (each
    names its parent), `counted` those anchors whose children can be validated from here on.
    `ruled_out` names anchors that became invalid (Protocol §5.2), `dead` those that failed when
    they were connected (§5.3), each with the rule; `aside` those that the operator has set aside,
    or taken back. `barren` are anchors whose children never will be validated: invalid, or gone
    with a lost branch.
    """

    first_event: int
    events: list[Event] = msgspec.field(default_factory=list)
    connected: list[ConnectedAnchor] = msgspec.field(default_factory=list)
    disconnected: list[tuple[int, CoinId]] = msgspec.field(default_factory=list)
    coins: list[Coin] = msgspec.field(default_factory=list)
    ruled_out: list[tuple[CoinId, ProtocolError]] = msgspec.field(default_factory=list)
    dead: list[tuple[CoinId, ProtocolError]] = msgspec.field(default_factory=list)
    aside: list[tuple[CoinId, bool]] = msgspec.field(default_factory=list)
    counted: list[CountedAnchor] = msgspec.field(default_factory=list)
    barren: list[CoinId] = msgspec.field(default_factory=list)
    refused: ReorgRefused | None = None
