"""What peers say of themselves when a link begins, and echoes: libp2p's `identify` and `ping`.

The protocol ids that a peer serves show which network it is of before anything else is asked.
Addresses of private networks are given to nobody: they would say where the node lives.
"""

from __future__ import annotations

import base64
import importlib.metadata
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import trio
from google.protobuf.message import DecodeError
from libp2p.identity.identify.pb import identify_pb2

from unchained.node.base.token_bucket import TokenBucket
from unchained.node.transport.address import Address
from unchained.node.transport.address_groups import is_public, is_stand_in
from unchained.node.transport.contract import PeerInfo
from unchained.node.transport.identity import Identity
from unchained.node.transport.libp2p.pace import WORK_PER_PING, Pace
from unchained.node.transport.libp2p.streams import (
    MuxedStream,
    StreamFaultError,
    read_varint,
    varint,
)

IDENTIFY_PROTOCOL: Final = "/ipfs/id/1.0.0"
PING_PROTOCOL: Final = "/ipfs/ping/1.0.0"
PROTOCOL_VERSION: Final = "unchained/1"
AGENT: Final = f"unchained-node/{importlib.metadata.version('unchained')}"

IDENTIFY_BYTES_MAX: Final = 8 << 10
"""Bytes of what a peer says of itself."""
OBSERVED_BYTES_MAX: Final = 320
"""Of these, bytes that are left for where a peer is seen: of a name the longest."""
TAKEN_S: Final = 10.0
"""A peer that asks who we are must have taken the answer after so long."""
PROTOCOLS_MAX: Final = 256
TEXT_BYTES_MAX: Final = 128
"""Bytes of a protocol id or an agent's name that are looked at."""
PING_BYTES: Final = 32
ECHOES_BURST: Final = 16
ECHOES_PER_S: Final = 2.0
PING_IDLE_S: Final = 120.0
"""A stream on which nobody pings for so long is closed."""

_IP4, _TCP, _IP6 = 4, 6, 41
_ONION3: Final = 445
_CODES: Final = {"ip4": _IP4, "ip6": _IP6, "dns": 53, "dns4": 54, "dns6": 55}
"""The table of multiaddr's protocols."""


@dataclass(frozen=True, slots=True)
class Identified:
    """What a peer says of itself: nothing of it is proven."""

    agent: str = ""
    protocols: tuple[str, ...] = ()
    """Protocol ids that it serves."""
    observed: Address | None = None
    """Where it sees us: an IP literal and a port."""


def own_message(
    identity: Identity, protocols: Iterable[str], listening: Iterable[str], peer: PeerInfo
) -> bytes:
    """Return what is sent to a peer, with its length before it.

    Of the addresses that we listen on, only public ones are given."""
    observed = b"" if is_stand_in(peer.ip) else multiaddress(_seen_at(peer))
    # Protobufs of one kind merge where they follow each other.
    message = _same_for_all(
        identity.key_pair.public_key.serialize(), tuple(protocols), tuple(listening)
    )
    message += identify_pb2.Identify(observed_addr=observed).SerializeToString()
    return varint(len(message)) + message


@lru_cache(maxsize=16)
def _same_for_all(key: bytes, protocols: tuple[str, ...], listening: tuple[str, ...]) -> bytes:
    """Return what every peer is told, but for where we see it: of the addresses as many as it
    reads."""
    message = identify_pb2.Identify(
        protocol_version=PROTOCOL_VERSION,
        agent_version=AGENT,
        public_key=key,
        protocols=list(protocols),
    )
    left = IDENTIFY_BYTES_MAX - OBSERVED_BYTES_MAX - message.ByteSize()
    for address in map(Address.parse, listening):
        if not address.is_name and not is_public(address.ip):
            continue
        raw = multiaddress(address)
        left -= 1 + len(varint(len(raw))) + len(raw)
        if left < 0:
            break
        message.listen_addrs.append(raw)
    return message.SerializeToString()


async def introduce(stream: MuxedStream, message: bytes) -> None:
    """Answer a peer that asks who we are."""
    with trio.move_on_after(TAKEN_S):
        await stream.write(message)
        await stream.close()
        await stream.ended()


async def read_message(stream: MuxedStream) -> Identified:
    """Read what a peer says of itself; raises `StreamFaultError`, `StreamBrokenError`."""
    length = await read_varint(stream, IDENTIFY_BYTES_MAX)
    return decode(await stream.read(length))


def decode(data: bytes) -> Identified:
    """Read a message; raises `StreamFaultError` for bytes that are none."""
    message = identify_pb2.Identify()
    try:
        message.ParseFromString(data)
    except (DecodeError, UnicodeDecodeError) as error:
        raise StreamFaultError(f"no identify: {error}") from None
    if len(message.protocols) > PROTOCOLS_MAX:
        raise StreamFaultError(f"identify: more than {PROTOCOLS_MAX} protocols")
    # What is no UTF-8 comes as bytes.
    if not all(isinstance(text, str) for text in (message.agent_version, *message.protocols)):
        raise StreamFaultError("identify: a text that is no UTF-8")
    return Identified(
        _plain(message.agent_version),
        tuple(_plain(protocol) for protocol in message.protocols),
        from_multiaddress(message.observed_addr),
    )


def multiaddress(address: Address) -> bytes:
    """Return the binary form of a place."""
    if address.kind == "onion3":
        service = base64.b32decode(address.host.upper())
        return varint(_ONION3) + service + address.port.to_bytes(2, "big")
    if address.is_name:
        name = address.host.encode("ascii")
        host = varint(len(name)) + name
    else:
        host = ipaddress.ip_address(address.host).packed
    return bytes((_CODES[address.kind],)) + host + bytes((_TCP,)) + address.port.to_bytes(2, "big")


def from_multiaddress(data: bytes) -> Address | None:
    """Return the IP literal and the port of a binary address, None if it is another kind."""
    size = {_IP4: 4, _IP6: 16}.get(data[0]) if data else None
    if size is None or len(data) < size + 4 or data[size + 1] != _TCP:
        return None
    ip = ipaddress.ip_address(data[1 : size + 1])
    port = int.from_bytes(data[size + 2 : size + 4], "big")
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return Address.of_ip(str(ip.ipv4_mapped), port)
    return Address.of_ip(str(ip), port)


def _seen_at(peer: PeerInfo) -> Address:
    return Address.of_ip(peer.ip, Address.parse(peer.address).port)


def _plain(text: str) -> str:
    """Return a peer's text as it may be shown and logged: printable ASCII, and not long."""
    cut = text[:TEXT_BYTES_MAX]
    return "".join(sign if sign.isascii() and sign.isprintable() else "?" for sign in cut)


def echoes() -> TokenBucket:
    """Return how often the pings of one connection are sent back, all of its streams together."""
    return TokenBucket(ECHOES_BURST, ECHOES_PER_S, trio.current_time())


async def echo_pings(stream: MuxedStream, rate: TokenBucket, pace: Pace) -> None:
    """Send back every 32 bytes that come, at a bounded rate, until the stream ends or idles."""
    while True:
        with trio.move_on_after(PING_IDLE_S) as waiting:
            data = await stream.read(PING_BYTES)
        if waiting.cancelled_caught:
            return
        await trio.sleep(rate.spend(trio.current_time()))
        await pace.spend(WORK_PER_PING)
        await stream.write(data)
