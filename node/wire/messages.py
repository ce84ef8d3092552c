"""What peers ask, answer and announce (Protocol §11): layouts only, no I/O.

A request is a canonical MessagePack array (Protocol §2). An answer is one byte, its `Code`,
followed by the layout that belongs to the request if the code is `OK`, by nothing otherwise. Names
and addresses are byte strings of ASCII, since the encoding knows no text.
"""

from __future__ import annotations

import enum
from typing import Annotated, Final, Generic, TypeVar

import msgspec

from unchained.node.crypto.anchor_header import AnchorHeader
from unchained.node.primitives.body import Body
from unchained.node.primitives.codec import CanonicalDecoder, encode
from unchained.node.primitives.coin import COIN_SIZE
from unchained.node.primitives.errors import NonCanonicalError
from unchained.node.primitives.types import ZERO32, Bytes32, UInt64
from unchained.node.wire.errors import MalformedAnswerError, RefusedAnswerError
from unchained.node.wire.limits import (
    ADDRESSES,
    BODIES,
    COINS,
    HEADERS,
    MAX_ADDRESS,
    MAX_LOCATOR,
    STATUS,
    STEM,
    TRANSFER_GOSSIP,
    TRANSFERS,
    VOTES,
    MessageLimits,
)

T = TypeVar("T")

VERSION: Final = 1
"""Version of the protocol between peers, in `status`."""

OWN_TIP: Final = ZERO32
"""In a request for headers: the tip of the peer that answers."""


class Code(enum.IntEnum):
    """The first byte of an answer."""

    OK = 0
    NOT_FOUND = 1
    """What was asked for is not known here."""
    BUSY = 2
    """Asked more often than the table of limits allows, or overloaded."""
    BAD_REQUEST = 3
    """The request breaks its layout or its limits."""


class Status(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """How things stand with a node; asked with one's own. `work` is the sum over its main chain
    of K * work(target), 32 bytes big-endian; `clock` its wall clock in ms."""

    genesis: Bytes32
    tip: Bytes32
    height: UInt64
    work: Bytes32
    version: UInt64
    clock: UInt64


class HeadersRequest(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The anchors of the chain that ends in `tip`, from the first id of the locator on that is
    on it, which is not sent itself; genesis if there is none."""

    locator: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=MAX_LOCATOR)]
    tip: Bytes32


class VotesRequest(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The coins bound to the anchors, listed or not, in the order of these, ids ascending; of the
    first anchor only those above the id `after`."""

    anchors: Annotated[tuple[Bytes32, ...], msgspec.Meta(min_length=1, max_length=VOTES.max_asked)]
    after: Bytes32


class VotesPage(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Some coins; the places (from 0) of those among them that count as anchors, ascending; and 1
    if there are more coins."""

    coins: Annotated[
        tuple[Annotated[bytes, msgspec.Meta(min_length=COIN_SIZE, max_length=COIN_SIZE)], ...],
        msgspec.Meta(max_length=VOTES.max_items),
    ]
    counting: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=0, lt=VOTES.max_items)], ...],
        msgspec.Meta(max_length=VOTES.max_items),
    ]
    more: Annotated[int, msgspec.Meta(ge=0, le=1)]


class AddressesRequest(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Addresses of other nodes, at most so many."""

    most: UInt64


class StemRequest(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A transfer's encoding that is not to be gossiped yet, to be handed on."""

    transfer: Annotated[bytes, msgspec.Meta(min_length=1, max_length=TRANSFER_GOSSIP.max_size)]


class Taken(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """That a transfer has come, and nothing else."""


Ids = tuple[Bytes32, ...]
"""What `bodies`, `coins` and `transfers` are asked by."""
Headers = tuple[AnchorHeader, ...]
Bodies = tuple[tuple[Body, ...], ...]
"""For each id asked, in order, the body or nothing; the last ones may be left out."""
Blobs = tuple[bytes, ...]
"""For each id asked, in order, its bytes, empty where it is not known; the last may be left out."""
Addresses = tuple[Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_ADDRESS)], ...]


class Exchange(Generic[T]):
    """One kind of request: its name, its limits, the layout of its answer."""

    def __init__(self, limits: MessageLimits, request: type[object], answer: type[T]) -> None:
        self.name = limits.name
        self.limits = limits
        self._request: CanonicalDecoder[object] = CanonicalDecoder(
            request, max_size=limits.max_request
        )
        self._answer = CanonicalDecoder(answer, max_size=limits.max_answer)

    def decode_request(self, raw: bytes) -> object:
        """Return the request. Raises `NonCanonicalError`, also where it names an id twice: who
        asks so would have us send the same again and again."""
        request = self._request.decode(raw)
        ids = _ids_in(request)
        if len(set(ids)) < len(ids):
            raise NonCanonicalError(expected="ids that differ", actual="one that is repeated")
        return request

    def answer(self, value: T) -> bytes:
        """Return the bytes of an answer that gives what was asked for."""
        return bytes((Code.OK,)) + encode(value)

    def decode_answer(self, raw: bytes) -> T:
        """Return what an answer gives.

        Raises `RefusedAnswerError`, `MalformedAnswerError` and `NonCanonicalError`.
        """
        if not raw or raw[0] not in _CODES:
            raise MalformedAnswerError(
                self.name, f"a code of 0 to {max(Code)}", "nothing" if not raw else str(raw[0])
            )
        code = Code(raw[0])
        if code is not Code.OK:
            if len(raw) > 1:
                raise MalformedAnswerError(
                    self.name, "nothing after the code", f"{len(raw) - 1} bytes"
                )
            raise RefusedAnswerError(self.name, code.name)
        return self._answer.decode(raw[1:])


def refusal(code: Code) -> bytes:
    """Return the bytes of an answer that gives nothing."""
    return bytes((code,))


def _ids_in(request: object) -> tuple[bytes, ...]:
    match request:
        case tuple():
            return request
        case HeadersRequest():
            return request.locator
        case VotesRequest():
            return request.anchors
    return ()


_CODES: Final = frozenset(Code)
_ids = Annotated[Ids, msgspec.Meta(min_length=1, max_length=BODIES.max_items)]
_coin_ids = Annotated[Ids, msgspec.Meta(min_length=1, max_length=COINS.max_items)]
_wids = Annotated[Ids, msgspec.Meta(min_length=1, max_length=TRANSFERS.max_items)]
_headers = Annotated[Headers, msgspec.Meta(max_length=HEADERS.max_items)]
_bodies = Annotated[
    tuple[Annotated[tuple[Body, ...], msgspec.Meta(max_length=1)], ...],
    msgspec.Meta(max_length=BODIES.max_items),
]
_coins = Annotated[Blobs, msgspec.Meta(max_length=COINS.max_items)]
_transfers = Annotated[Blobs, msgspec.Meta(max_length=TRANSFERS.max_items)]
_addresses = Annotated[Addresses, msgspec.Meta(max_length=ADDRESSES.max_items)]

STATUS_EXCHANGE: Final = Exchange(STATUS, Status, Status)
HEADERS_EXCHANGE: Final[Exchange[Headers]] = Exchange(HEADERS, HeadersRequest, _headers)
BODIES_EXCHANGE: Final[Exchange[Bodies]] = Exchange(BODIES, _ids, _bodies)
COINS_EXCHANGE: Final[Exchange[Blobs]] = Exchange(COINS, _coin_ids, _coins)
TRANSFERS_EXCHANGE: Final[Exchange[Blobs]] = Exchange(TRANSFERS, _wids, _transfers)
VOTES_EXCHANGE: Final = Exchange(VOTES, VotesRequest, VotesPage)
ADDRESSES_EXCHANGE: Final[Exchange[Addresses]] = Exchange(ADDRESSES, AddressesRequest, _addresses)
STEM_EXCHANGE: Final = Exchange(STEM, StemRequest, Taken)
