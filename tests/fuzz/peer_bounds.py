"""The bounds of what peers say: requests and their answers, gossip, and how a link begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from libp2p.identity.identify.pb import identify_pb2

from tests.framework.wire_document import EXCHANGES, Chain
from tests.fuzz.target import Bound, how_many, how_many_of, some_ids
from unchained.node.peers.asmap import Asmap, BadAsmapError
from unchained.node.primitives.codec import encode
from unchained.node.transport import gossip_wire
from unchained.node.transport.gossip_limits import (
    ID_BYTES,
    RPC_ENTRIES_MAX,
    RPC_IDS_MAX,
    RPC_MESSAGES_MAX,
)
from unchained.node.transport.gossip_router import Rpc
from unchained.node.transport.libp2p.identify import PROTOCOLS_MAX, TEXT_BYTES_MAX
from unchained.node.transport.libp2p.streams import (
    LINE_BYTES_MAX,
    MULTISTREAM,
    PROPOSALS_MAX,
    varint,
)
from unchained.node.transport.libp2p.tls import TLS_PROTOCOL
from unchained.node.transport.rpc_fields import RPC_FIELDS_MAX
from unchained.node.wire import limits
from unchained.node.wire import messages as wire

# Gossip


def _rpc(**fields: Any) -> bytes:
    framed = gossip_wire.encode([Rpc(**fields)])
    _, at = _length(framed, 0)
    return framed[at:]


def _length(raw: bytes, at: int) -> tuple[int, int]:
    """Return a length that stands somewhere, and where it ends."""
    value = shift = 0
    while at < len(raw):
        value |= (raw[at] & 0x7F) << shift
        shift += 7
        at += 1
        if raw[at - 1] < 0x80:
            break
    return value, at


def _entries(_raw: bytes, rpc: Rpc) -> int:
    lists = (rpc.subscribe, rpc.unsubscribe, rpc.have, rpc.graft, rpc.prune)
    return sum(map(len, lists))


def _ids_of(rpc: Rpc) -> list[bytes]:
    return [*rpc.want, *rpc.unwanted, *(one for _, ids in rpc.have for one in ids)]


_UNKNOWN_FIELD: Final = b"\x78\1"


def _unknown_fields(raw: bytes, _rpc: Rpc) -> int:
    """Return how many fields an RPC has that holds nothing known."""
    return len(raw) // 2 if not raw.replace(_UNKNOWN_FIELD, b"") else 0


# Identify and multistream


def _protocols(count: int) -> bytes:
    message = identify_pb2.Identify(protocols=["/x"] * count)
    return bytes(message.SerializeToString())


def long_identify() -> bytes:
    """Return what a peer says of itself in texts that are too long."""
    message = identify_pb2.Identify(
        agent_version="x" * (TEXT_BYTES_MAX + 1), protocols=["y" * (TEXT_BYTES_MAX + 1)]
    )
    return bytes(message.SerializeToString())


def _proposals(count: int) -> bytes:
    """Return a greeting, and so many proposals of which the last is served."""
    lines = (MULTISTREAM.encode(), *([b"/x"] * (count - 1)), TLS_PROTOCOL.encode())
    return b"".join(varint(len(line) + 1) + line + b"\n" for line in lines)


def _proposed(size: int) -> bytes:
    """Return a greeting, a proposal of so many bytes, and one that is served."""
    lines = (MULTISTREAM.encode(), b"/" + b"x" * (size - 2), TLS_PROTOCOL.encode())
    return b"".join(varint(len(line) + 1) + line + b"\n" for line in lines)


def _sizes_of_lines(raw: bytes, agreed: str) -> list[int]:
    """Return the lengths of the lines up to the one that was agreed upon."""
    sizes = []
    at = 0
    while at < len(raw):
        size, at = _length(raw, at)
        sizes.append(size)
        if raw[at : at + size] == agreed.encode() + b"\n":
            break
        at += size
    return sizes


# Maps of the internet


ASMAP: Final = b"\xae\0\0"
"""A sound map."""


def _is_map(raw: bytes) -> bool:
    try:
        Asmap(raw)
    except BadAsmapError:
        return False
    return True


# Requests and their answers


def _answer(name: str, value: object) -> bytes:
    return EXCHANGES[name].answer(value)


def _page(**fields: Any) -> bytes:
    return _answer("votes", msgspec.structs.replace(wire.VotesPage((), (), 0), **fields))


def _wire_bounds() -> Mapping[str, tuple[Bound, ...]]:
    """Return the bounds of requests and their answers."""
    coin = bytes(Chain().coin.raw)
    header, body = Chain().header, Chain().anchor.body
    asked = "ids that are asked for"
    return {
        "request-headers": (
            Bound(
                "ids in a locator",
                limits.MAX_LOCATOR,
                how_many_of("locator"),
                lambda count: encode(wire.HeadersRequest(some_ids(count), wire.OWN_TIP)),
            ),
        ),
        "request-votes": (
            Bound(
                asked,
                limits.VOTES.max_asked,
                how_many_of("anchors"),
                lambda count: encode(wire.VotesRequest(some_ids(count), bytes(32))),
            ),
        ),
        "request-stem": (
            Bound(
                "bytes of a transfer",
                limits.TRANSFER_GOSSIP.max_size,
                how_many_of("transfer"),
                lambda count: encode(wire.StemRequest(bytes(count))),
            ),
        ),
        **{
            f"request-{one.name}": (
                Bound(asked, one.max_items, how_many, lambda count: encode(some_ids(count))),
                Bound(
                    "times that one id is asked for",
                    1,
                    lambda _raw, ids: max(Counter(ids).values()),
                    lambda count: encode(some_ids(1) * count),
                ),
            )
            for one in (limits.BODIES, limits.COINS, limits.TRANSFERS)
        },
        **{
            f"answer-{one.name}": (
                Bound(
                    "items",
                    one.max_items,
                    how_many,
                    lambda count, name=one.name, item=item: _answer(  # type: ignore[misc]
                        name, (item,) * count
                    ),
                ),
            )
            for one, item in (
                (limits.HEADERS, header),
                (limits.BODIES, (body,)),
                (limits.COINS, coin),
                (limits.TRANSFERS, b"transfer"),
            )
        },
        "answer-addresses": (
            Bound(
                "addresses",
                limits.ADDRESSES.max_items,
                how_many,
                lambda count: _answer("addresses", (b"/",) * count),
            ),
            Bound(
                "bytes of an address",
                limits.MAX_ADDRESS,
                lambda _raw, addresses: max(map(len, addresses), default=0),
                lambda count: _answer("addresses", (bytes(count),)),
            ),
        ),
        "answer-votes": (
            Bound(
                "coins",
                limits.VOTES.max_items,
                how_many_of("coins"),
                lambda count: _page(coins=(coin,) * count),
            ),
            Bound(
                "anchors among them",
                limits.VOTES.max_items,
                how_many_of("counting"),
                lambda count: _page(counting=(0,) * count),
            ),
            Bound(
                "as the place of an anchor",
                limits.VOTES.max_items - 1,
                lambda _raw, page: max(page.counting, default=0),
                lambda place: _page(counting=(place,)),
            ),
            Bound(
                "as whether there is more",
                1,
                lambda _raw, page: int(page.more),
                lambda more: _page(more=more),
            ),
        ),
    }


def peer_bounds() -> Mapping[str, tuple[Bound, ...]]:
    """Return the bounds of targets, by their names."""
    return {
        "gossip": (
            Bound(
                "messages",
                RPC_MESSAGES_MAX,
                how_many_of("messages"),
                lambda n: _rpc(messages=(("t", b"x"),) * n),
            ),
            Bound("entries", RPC_ENTRIES_MAX, _entries, lambda n: _rpc(subscribe=("t",) * n)),
            Bound(
                "ids",
                RPC_IDS_MAX,
                lambda _raw, rpc: len(_ids_of(rpc)),
                lambda n: _rpc(have=(("t", (bytes(32),) * n),)),
            ),
            Bound(
                "bytes of an id",
                ID_BYTES,
                lambda _raw, rpc: max(map(len, _ids_of(rpc)), default=0),
                lambda n: _rpc(want=(bytes(n),)),
            ),
            Bound(
                "fields",
                RPC_FIELDS_MAX,
                _unknown_fields,
                lambda n: _UNKNOWN_FIELD * n,
            ),
        ),
        "identify": (Bound("protocols", PROTOCOLS_MAX, how_many_of("protocols"), _protocols),),
        "multistream": (
            Bound(
                "bytes of a line",
                LINE_BYTES_MAX,
                lambda raw, agreed: max(_sizes_of_lines(raw, agreed)),
                _proposed,
            ),
            Bound(
                "proposals",
                PROPOSALS_MAX,
                lambda raw, agreed: len(_sizes_of_lines(raw, agreed)) - 1,  # the first greets
                _proposals,
            ),
        ),
        "asmap": (
            Bound(
                "bytes after its end",
                0,
                lambda raw, _map: int(_is_map(raw[:-1])),
                lambda n: ASMAP + bytes(n),
            ),
        ),
        "multiaddr": (
            Bound(
                "as a port",
                0xFFFF,
                lambda _raw, address: int(address.port),
                lambda n: f"/ip4/203.0.113.7/tcp/{n}".encode(),
            ),
        ),
        **_wire_bounds(),
    }
