"""What docs/wire.md takes from the code: tables of limits and networks, and examples in hex.

`python -m tests.framework.wire_document --write` writes them between the marks of that file.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from libp2p.stream_muxer.yamux.yamux import DEFAULT_WINDOW_SIZE

from tests.framework.forge import Forge, key_condition, of
from tests.framework.p2p_certificates import Forge as Certificates
from tests.framework.p2p_certificates import spki_of
from unchained.node.base.ports import DEFAULT_PORTS
from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.params import NETWORKS, REG
from unchained.node.crypto.anchor_header import AnchorHeader
from unchained.node.peers.manager import VISIT_S
from unchained.node.peers.penalty import FAULT_MS
from unchained.node.peers.reputation import PeerLimits
from unchained.node.primitives.codec import encode
from unchained.node.primitives.transfer import Input, Output, Transfer
from unchained.node.primitives.types import ZERO32
from unchained.node.transport import gossip_limits, gossip_wire
from unchained.node.transport.contract import Direction, MessageId, PeerId, PeerInfo
from unchained.node.transport.gossip_router import Rpc
from unchained.node.transport.identity import Identity
from unchained.node.transport.libp2p import (
    arrivals,
    connection,
    handshakes,
    identify,
    listener,
    pace,
    unsent_answers,
    yamux,
)
from unchained.node.transport.libp2p.certificate import SIGNED_PREFIX, peer_of
from unchained.node.transport.libp2p.identify import IDENTIFY_PROTOCOL, PING_PROTOCOL, own_message
from unchained.node.transport.libp2p.streams import MULTISTREAM, varint
from unchained.node.transport.seen_ids import message_id
from unchained.node.transport.switchboard import ResponseStatus
from unchained.node.wire import limits
from unchained.node.wire import messages as wire

DOCUMENT: Final = Path(__file__).resolve().parents[2] / "docs/wire.md"
COMMAND: Final = "python -m tests.framework.wire_document --write"
SHOWN_BYTES: Final = 640
"""Bytes of an example that are shown; of a longer one its beginning."""
GENESIS: Final = genesis_of(REG).id
LIMITS: Final = PeerLimits()
CLOCK_MS: Final = REG.birth_ms + 1_000


def name_of(kind: str) -> str:
    return limits.name_of(GENESIS, kind)


class Chain:
    """A coin, an anchor that lists it, and a transfer, on `reg`: the same every time."""

    def __init__(self) -> None:
        forge = Forge(REG)
        self.coin = forge.coin(forge.genesis)
        self.anchor = forge.anchor(forge.genesis, [self.coin])
        self.header = AnchorHeader.of(self.anchor.coin, self.anchor.body)
        self.transfer = of(
            Transfer(
                1,
                REG.chain_id,
                0,
                1_000,
                (Input(self.coin.id, key_condition(0), ZERO32),),
                (Output(99_999_000, ZERO32, b""),),
                (),
                (),
            )
        )


def examples(chain: Chain) -> Mapping[str, tuple[object, object]]:
    """Return a request and what answers it, for each kind of request."""
    anchor, coin = chain.anchor, chain.coin
    at_genesis = wire.Status(GENESIS, GENESIS, 0, ZERO32, wire.VERSION, CLOCK_MS)
    work = REG.coins_per_epoch * (2**256 // (REG.target0 + 1))
    status = wire.Status(
        GENESIS, anchor.id, 1, work.to_bytes(32, "big"), wire.VERSION, CLOCK_MS + 25
    )
    address = b"/ip4/203.0.113.7/tcp/4011/p2p/" + Identity.from_seed(ZERO32).peer.encode()
    return {
        "status": (at_genesis, status),
        "headers": (wire.HeadersRequest((GENESIS,), wire.OWN_TIP), (chain.header,)),
        "bodies": ((anchor.id,), ((anchor.body,),)),
        "coins": ((coin.id, bytes([0xFF]) * 32), (coin.raw, b"")),
        "transfers": ((chain.transfer.wid,), (chain.transfer.raw,)),
        "votes": (
            wire.VotesRequest((GENESIS,), ZERO32),
            wire.VotesPage(
                tuple(sorted((coin.raw, anchor.coin.raw), key=_id_of)),
                (sorted((coin.id, anchor.id)).index(anchor.id),),
                0,
            ),
        ),
        "addresses": (wire.AddressesRequest(8), (address,)),
        "stem": (wire.StemRequest(chain.transfer.raw), wire.Taken()),
    }


def _id_of(raw: bytes) -> bytes:
    from unchained.node.primitives.coin import Coin

    return Coin.from_bytes(raw).id


EXCHANGES: Final = {
    exchange.name: exchange
    for exchange in vars(wire).values()
    if isinstance(exchange, wire.Exchange)
}


def hexed(data: bytes) -> str:
    """Return bytes as a block of hex, 48 bytes on a line."""
    lines = [data[at : at + 48].hex() for at in range(0, min(len(data), SHOWN_BYTES), 48)]
    if len(data) > SHOWN_BYTES:
        lines[-1] = lines[-1][: 2 * (SHOWN_BYTES % 48) or None]
        lines.append(f"… {len(data)} bytes in all")
    return "```\n" + "\n".join(lines) + "\n```"


def networks() -> str:
    rows = ["| network | `<g>` | genesis id | port |", "|---|---|---|---|"]
    for network in NETWORKS.values():
        genesis_id = genesis_of(network).id.hex()
        port = DEFAULT_PORTS[network.name].peers
        rows.append(f"| `{network.name}` | `{genesis_id[:8]}` | `{genesis_id}` | {port} |")
    return "\n".join(rows)


def request_limits() -> str:
    rows = [
        "| request | bytes | answer, bytes | items asked | items answered | at once | per second "
        "| under way, one peer / all | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    rows += [
        f"| `{kind.name}` | {kind.max_request:,} | {kind.max_answer:,} "
        f"| {kind.max_asked or '-'} | {kind.max_items} | {kind.burst:g} "
        f"| {kind.per_second:.3g} | {kind.max_per_peer} / {kind.max_total} "
        f"| {kind.timeout_s:g} |"
        for kind in limits.EXCHANGES
    ]
    return "\n".join(rows)


def topic_limits() -> str:
    rows = ["| topic | bytes of a message | in validation, one peer / all |", "|---|---|---|"]
    rows += [
        f"| `/unchained/<g>/{kind.name}/1` | {kind.max_size:,} "
        f"| {kind.max_per_peer} / {kind.max_validating} |"
        for kind in limits.TOPICS
    ]
    return "\n".join(rows)


def request_examples() -> str:
    chain = Chain()
    found = examples(chain)
    parts = []
    for kind in limits.EXCHANGES:
        if kind.name not in found:
            raise LookupError(f"give an example of `{kind.name}` in {__name__}.examples")
        request, answer = found[kind.name]
        raw, given = encode(request), EXCHANGES[kind.name].answer(answer)
        EXCHANGES[kind.name].decode_request(raw)
        EXCHANGES[kind.name].decode_answer(given)
        parts += [
            f"### `{name_of(kind.name)}`",
            f"Request, {len(raw)} bytes:\n{hexed(raw)}",
            f"Answer, {len(given)} bytes, the code first:\n{hexed(given)}",
        ]
    return "\n\n".join(parts)


def stream_example() -> str:
    """Return all bytes of one request and its answer, as each side writes them."""
    request, answer = (encode((8,)), EXCHANGES["addresses"].answer(()))
    protocol = name_of("addresses")
    asked = line(MULTISTREAM) + line(protocol) + len(request).to_bytes(4, "big") + request
    told = line(MULTISTREAM) + line(protocol) + bytes((ResponseStatus.OK,))
    told += len(answer).to_bytes(4, "big") + answer
    return f"Who asks:\n{hexed(asked)}\n\nWho answers:\n{hexed(told)}"


def line(text: str) -> bytes:
    data = text.encode() + b"\n"
    return varint(len(data)) + data


def identify_example() -> str:
    info = PeerInfo(PeerId(""), "203.0.113.7", "/ip4/203.0.113.7/tcp/5000", Direction.INBOUND, 0.0)
    identity = Identity.from_seed(ZERO32)
    protocols = (*gossip_wire.GOSSIP_PROTOCOLS, IDENTIFY_PROTOCOL, PING_PROTOCOL, name_of("status"))
    raw = own_message(identity, protocols, ("/ip4/192.0.43.8/tcp/4011",), info)
    return (
        f"The peer `{identity.peer}`, whose secret seed is 32 zero bytes, at `/ip4/192.0.43.8/tcp/"
        f"4011`, to a peer that it sees at `{info.address}`:\n{hexed(raw)}"
    )


def gossip_example() -> str:
    chain = Chain()
    topics = tuple(name_of(kind.name) for kind in limits.TOPICS)
    coin, anchor, transfer = chain.coin.raw, chain.header.to_bytes(), chain.transfer.raw
    mid = message_id(topics[0], coin)
    parts = [
        f"Taking part in all three topics:\n{hexed(gossip_wire.encode([Rpc(subscribe=topics)]))}",
        "Taking part in the last no more:\n"
        + hexed(gossip_wire.encode([Rpc(unsubscribe=topics[2:])])),
        f"A coin, {len(coin)} bytes, whose message id is\n`{mid.hex()}`:\n"
        + hexed(gossip_wire.encode([Rpc(messages=((topics[0], coin),))])),
        f"An anchor's announcement, {len(anchor)} bytes, whose message id is\n"
        f"`{message_id(topics[1], anchor).hex()}`:\n"
        + hexed(gossip_wire.encode([Rpc(messages=((topics[1], anchor),))])),
        f"A transfer, {len(transfer)} bytes, whose message id is\n"
        f"`{message_id(topics[2], transfer).hex()}`:\n"
        + hexed(gossip_wire.encode([Rpc(messages=((topics[2], transfer),))])),
        "Having, wanting and not wanting that coin, in one RPC:\n"
        + hexed(
            gossip_wire.encode(
                [Rpc(have=((topics[0], (mid,)),), want=(mid,), unwanted=(MessageId(mid),))]
            )
        ),
        "Joining the mesh of its topic, and leaving it for 60 s:\n"
        + hexed(gossip_wire.encode([Rpc(graft=topics[:1], prune=((topics[1], 60),))])),
    ]
    return "\n\n".join(parts)


def table(head: str, rows: Mapping[str, object]) -> str:
    """Return a table of two columns."""
    lines = [f"| {head} |", "|---|---|"]
    for name, value in rows.items():
        shown = value if isinstance(value, str) else f"{value:,}"
        lines.append(f"| {name} | {shown} |")
    return "\n".join(lines)


def bucket(at_once: float, per_s: float) -> str:
    """Return what a token bucket lets pass."""
    rate = f"{per_s:,.0f} per second" if per_s >= 1 else f"one in {1 / per_s:,.0f} s"
    return f"{at_once:,.0f} at once, then {rate}"


def rpc_limits() -> str:
    return table(
        "what | at most",
        {
            "bytes of an RPC": gossip_limits.RPC_BYTES_MAX,
            "messages of an RPC": gossip_limits.RPC_MESSAGES_MAX,
            "entries of all its other lists": gossip_limits.RPC_ENTRIES_MAX,
            "message ids of all its lists": gossip_limits.RPC_IDS_MAX,
            "bytes of a message id, neither more nor less": gossip_limits.ID_BYTES,
            f"message ids of one peer, that it has or wants, that are looked at in "
            f"{gossip_limits.HEARTBEAT_S:g} s": (gossip_limits.IDS_PER_HEARTBEAT_MAX),
            "ids that are asked of one peer (IWANT) and have not come": (
                gossip_limits.ASKED_OF_PEER_MAX
            ),
            f"ids that one peer is told in {gossip_limits.HEARTBEAT_S:g} s are not wanted "
            "(IDONTWANT)": gossip_limits.UNWANTED_SAID_PER_HEARTBEAT_MAX,
            f"such ids of one peer that are looked at in {gossip_limits.HEARTBEAT_S:g} s, and kept "
            f"for {gossip_limits.UNWANTED_HEARTBEATS * gossip_limits.HEARTBEAT_S:g} s": (
                gossip_limits.UNWANTED_PER_HEARTBEAT_MAX
            ),
            "times that one message is sent to one peer on request": (
                gossip_limits.SENDS_ON_REQUEST_MAX
            ),
        },
    )


def waste() -> str:
    """Return what gossip of no use costs."""
    units = table(
        "of no use | units",
        {
            "an id beyond those that are looked at, or asked for where there is none": 1,
            "an id that was announced, asked for and not sent": (
                gossip_limits.WASTE_OF_BROKEN_PROMISE
            ),
            "a GRAFT within the back-off of a PRUNE": gossip_limits.WASTE_OF_GRAFT,
            "a subscription, GRAFT or PRUNE of a topic that is none of the network's": (
                gossip_limits.WASTE_OF_UNKNOWN_TOPIC
            ),
        },
    )
    return (
        f"{units}\n\nEach {gossip_limits.WASTE_PER_FAULT:,} units are a fault; "
        f"{gossip_limits.WASTE_FORGIVEN_PER_HEARTBEAT:,} are forgiven every "
        f"{gossip_limits.HEARTBEAT_S:g} s."
    )


def work() -> str:
    """Return what all that a peer makes a node do counts, and how much of it a peer may."""
    units = table(
        "what | units",
        {
            "a byte of gossip": 1,
            "an RPC, besides": pace.WORK_PER_RPC,
            "each entry of its lists, messages among them, besides": pace.WORK_PER_ENTRY,
            "each message id": pace.WORK_PER_ID,
            "a TLS record": pace.WORK_PER_RECORD,
            "a multiplexer's frame": pace.WORK_PER_FRAME,
            "a stream that is opened": pace.WORK_PER_STREAM,
            "a protocol that is proposed on it": pace.WORK_PER_PROPOSAL,
            "an answer to `identify`": pace.WORK_PER_IDENTIFY,
            "an answer to a ping": pace.WORK_PER_PING,
            "a request that finds no place": pace.PRICE_OF_REFUSAL,
        },
    )
    return (
        f"{units}\n\nA link has {bucket(pace.PEER_WORK_BURST, pace.PEER_WORK_PER_S)}; all links "
        f"that others opened have {pace.INBOUND_WORK_PER_S:,} per second together. What comes "
        "faster is read later; it waits at its sender."
    )


def link_limits() -> str:
    ms = f"{FAULT_MS:g} ms"
    return table(
        "what | limit",
        {
            "connections looked at, networks (IPv4 /16, IPv6 /32) in turn": bucket(
                listener.ARRIVALS_BURST, listener.ARRIVALS_PER_S
            ),
            "connections of one address (IPv4, IPv6 /64) that wait for that": (
                arrivals.ARRIVALS_WAITING_PER_IP_MAX
            ),
            "handshakes under way, of one address / of all": (
                f"{handshakes.HANDSHAKES_PER_IP_MAX} / {handshakes.HANDSHAKES_MAX}, for "
                f"{handshakes.HANDSHAKE_S:g} s each"
            ),
            "handshakes that begin, of one address": bucket(
                handshakes.HANDSHAKES_PER_IP_BURST, handshakes.HANDSHAKES_PER_IP_PER_S
            ),
            "handshakes that begin, of all, networks in turn": bucket(
                handshakes.HANDSHAKES_BURST, handshakes.HANDSHAKES_PER_S
            ),
            "links of one address / of one network, to a node with public peers": (
                f"{LIMITS.inbound_per_host} / {LIMITS.inbound_per_network}"
            ),
            "the stay of who comes when all places are taken and nobody goes for it": (
                f"{VISIT_S:g} s"
            ),
            "silence after which a Yamux ping is sent": f"{yamux.KEEPALIVE_S:g} s",
            "Yamux pings that may be sent": bucket(yamux.PINGS_BURST, yamux.PINGS_PER_S),
            "a stream's window": (
                f"{DEFAULT_WINDOW_SIZE:,} bytes, up to {yamux.WINDOW_BYTES_MAX:,} as it is read"
            ),
            "streams open / served at a time": (
                f"{yamux.OPEN_STREAMS_MAX} / {connection.SERVED_STREAMS_MAX}"
            ),
            "streams beyond those served that are reset before it is a fault": bucket(
                connection.REFUSED_STREAMS_BURST, connection.REFUSED_STREAMS_PER_S
            ),
            "times that `identify` is answered": bucket(
                connection.IDENTIFIES_BURST, connection.IDENTIFIES_PER_S
            ),
            "`/ipfs/ping/1.0.0` of a link that are answered": bucket(
                identify.ECHOES_BURST, identify.ECHOES_PER_S
            ),
            "a request must have come, and its answer be taken, within": (
                f"{connection.WHOLE_READ_S:g} s"
            ),
            "bytes of one peer's answers that wait to be taken; further ones are refused": (
                unsent_answers.UNSENT_ANSWER_BYTES_OF_PEER_MAX
            ),
            "a request that names an id twice, or breaks its layout": (
                f"`BAD_REQUEST`, and a fault: {ms}"
            ),
        },
    )


def certificate_example() -> str:
    """Return a certificate that a handshake shows, and what the identity signs of it."""
    identity = Identity.from_seed(ZERO32)
    key = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
    since, until = datetime(1975, 1, 1, tzinfo=UTC), datetime(4096, 1, 1, tzinfo=UTC)
    made = Certificates(identity, key, since=since, until=until, hash=None).make()
    assert peer_of(made, datetime(2030, 1, 1, tzinfo=UTC)) == identity.peer
    (extension,) = made.extensions
    assert isinstance(extension.value, x509.UnrecognizedExtension)
    der = made.public_bytes(Encoding.DER)
    value = extension.value.value
    return (
        f"A certificate of `{identity.peer}` (the seed is 32 zero bytes), for an Ed25519 key whose "
        f"seed is 32 bytes `01`, {len(der)} bytes:\n{hexed(der)}\n\n"
        f"What its identity signs:\n{hexed(SIGNED_PREFIX + spki_of(key))}\n\n"
        f"The extension's value:\n{hexed(value)}"
    )


def ping_example() -> str:
    """Return all bytes of a ping, as each side writes them."""
    echoed = bytes(range(identify.PING_BYTES))
    sent = line(MULTISTREAM) + line(PING_PROTOCOL) + echoed
    return f"Each side writes the same:\n{hexed(sent)}"


def refusal_examples() -> str:
    """Return what comes on a stream, after its protocol, where a request is not answered."""
    parts = [
        f"Status {status.value} (`{status.name}`):\n{hexed(bytes((status, 0, 0, 0, 0)))}"
        for status in ResponseStatus
        if status is not ResponseStatus.OK
    ]
    for code in wire.Code:
        if code is not wire.Code.OK:
            body = wire.refusal(code)
            whole = bytes((ResponseStatus.OK,)) + len(body).to_bytes(4, "big") + body
            parts.append(f"Status 0, code {code.value} (`{code.name}`):\n{hexed(whole)}")
    return "\n\n".join(parts)


SECTIONS: Final[Mapping[str, Callable[[], str]]] = {
    "networks": networks,
    "request limits": request_limits,
    "topic limits": topic_limits,
    "rpc limits": rpc_limits,
    "waste": waste,
    "work": work,
    "link limits": link_limits,
    "certificate": certificate_example,
    "stream": stream_example,
    "refusals": refusal_examples,
    "requests": request_examples,
    "identify": identify_example,
    "ping": ping_example,
    "gossip": gossip_example,
}


def _section(name: str) -> re.Pattern[str]:
    return re.compile(
        rf"(<!-- {name}: made by `{re.escape(COMMAND)}` -->\n).*?(<!-- end -->)", re.DOTALL
    )


def filled(text: str) -> str:
    """Return the document with its sections as the code has them."""
    for name, made in SECTIONS.items():
        pattern = _section(name)
        found = list(pattern.finditer(text))
        if len(found) != 1:
            raise LookupError(f"docs/wire.md has no section {name!r}, or two")
        begin, end = found[0].span()
        text = f"{text[:begin]}{found[0][1]}{made()}\n{found[0][2]}{text[end:]}"
    return text


def main(arguments: Any) -> int:
    text = DOCUMENT.read_text("utf-8")
    made = filled(text)
    if "--write" in arguments:
        DOCUMENT.write_text(made, "utf-8")
        return 0
    return int(made != text)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
