"""What a node says of itself, and what it makes of what others say."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from libp2p.crypto.serialization import deserialize_public_key
from libp2p.identity.identify.pb import identify_pb2
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from unchained.node.transport.address import Address
from unchained.node.transport.contract import Direction, PeerId, PeerInfo
from unchained.node.transport.identity import Identity
from unchained.node.transport.libp2p.identify import (
    AGENT,
    ECHOES_BURST,
    ECHOES_PER_S,
    IDENTIFY_BYTES_MAX,
    PROTOCOLS_MAX,
    TEXT_BYTES_MAX,
    Identified,
    decode,
    echo_pings,
    echoes,
    from_multiaddress,
    multiaddress,
    own_message,
)
from unchained.node.transport.libp2p.pace import Pace
from unchained.node.transport.libp2p.streams import StreamFaultError

OURS = Identity.from_seed(bytes(32))


def seen(ip: str, address: str) -> PeerInfo:
    return PeerInfo(PeerId("x"), ip, address, Direction.INBOUND, 0.0)


def test_what_a_node_says_of_itself() -> None:
    listening = [
        "/ip4/192.168.1.2/tcp/4001",
        "/ip4/127.0.0.1/tcp/4001",
        "/ip6/fd00::1/tcp/4001",
        "/ip4/8.8.8.8/tcp/4001",
        "/ip6/2600::1/tcp/4001",
        "/dns4/node.example/tcp/4001",
    ]
    info = seen("9.9.9.9", "/ip4/9.9.9.9/tcp/5000")
    raw = own_message(
        OURS, ("/a/1", "/b/1"), [f"{text}/p2p/{OURS.peer}" for text in listening], info
    )
    message = identify_pb2.Identify.FromString(raw[2:])
    assert int.from_bytes(raw[:1], "big") & 0x7F | raw[1] << 7 == len(raw) - 2
    assert list(message.protocols) == ["/a/1", "/b/1"]
    assert message.agent_version == AGENT
    assert str(Multiaddr(message.observed_addr)) == "/ip4/9.9.9.9/tcp/5000"
    assert ID.from_pubkey(deserialize_public_key(message.public_key)).to_base58() == OURS.peer
    # Nothing of the network that it lives in.
    assert [str(Multiaddr(raw)) for raw in message.listen_addrs] == listening[3:]


def test_a_machine_of_many_addresses_tells_as_many_as_are_read() -> None:
    listening = [f"/ip6/2a01:4f8:1:{n:x}::1/tcp/4031/p2p/{OURS.peer}" for n in range(1, 1000)]
    info = seen("9.9.9.9", "/ip4/9.9.9.9/tcp/5000")
    raw = own_message(OURS, ("/a/1",), listening, info)
    message = identify_pb2.Identify.FromString(raw[2:])
    assert IDENTIFY_BYTES_MAX - 400 < len(raw) - 2 <= IDENTIFY_BYTES_MAX
    told = [str(Multiaddr(address)) for address in message.listen_addrs]
    assert told == [text.partition("/p2p/")[0] for text in listening[: len(told)]]
    assert message.observed_addr


def test_what_a_peer_says_is_bounded_and_plain() -> None:
    message = identify_pb2.Identify(
        agent_version="go\x1b[31m\u2028" + "x" * 1000,
        protocols=["/a\n/1"],
        observed_addr=Multiaddr("/ip4/9.9.9.9/tcp/5000").to_bytes(),
    )
    found = decode(message.SerializeToString())
    assert found.agent.startswith("go?[31m?xxx")
    assert len(found.agent) == TEXT_BYTES_MAX
    assert found.protocols == ("/a?/1",)
    assert found.observed == Address("ip4", "9.9.9.9", 5000)
    assert decode(b"") == Identified()
    many = identify_pb2.Identify(protocols=["/a"] * (PROTOCOLS_MAX + 1))
    with pytest.raises(StreamFaultError, match="protocols"):
        decode(many.SerializeToString())


@given(st.binary(max_size=100))
def test_any_bytes_are_a_message_or_a_fault(data: bytes) -> None:
    with suppress(StreamFaultError):
        assert all(name.isascii() for name in decode(data).protocols)


@pytest.mark.parametrize(
    "text",
    ["/ip4/1.2.3.4/tcp/0", "/ip6/2600::1/tcp/65535", "/dns/a.example/tcp/1", "/dns6/b/tcp/2"],
)
def test_binary_addresses_are_those_of_multiaddr(text: str) -> None:
    address = Address.parse(text)
    assert multiaddress(address) == Multiaddr(text).to_bytes()
    found = from_multiaddress(multiaddress(address))
    assert found == (None if address.is_name else address)


@pytest.mark.parametrize("field", [b"\x1a", b"\x32"], ids=["protocols", "agent_version"])
def test_a_text_that_is_no_utf_8_is_a_fault(field: bytes) -> None:
    with pytest.raises(StreamFaultError, match="no UTF-8"):
        decode(field + b"\x02\xff\xfe")


def test_an_address_of_ipv4_in_ipv6_is_one_of_ipv4() -> None:
    data = Multiaddr("/ip6/::ffff:9.9.9.9/tcp/1").to_bytes()
    assert from_multiaddress(data) == Address("ip4", "9.9.9.9", 1)


@given(st.binary(max_size=30))
def test_any_bytes_are_an_address_or_none(data: bytes) -> None:
    found = from_multiaddress(data)
    assert found is None or Address.parse(str(found)) == found


class Pinging:
    """A stream on which pings come as fast as they are answered."""

    def __init__(self) -> None:
        self.answered = 0

    async def read(self, n: int) -> bytes:
        return bytes(n)

    async def write(self, data: bytes) -> None:
        self.answered += 1


async def test_pings_on_many_streams_of_a_link_have_one_rate() -> None:
    streams: list[Any] = [Pinging() for _ in range(8)]
    rate, pace = echoes(), Pace(None)
    with trio.move_on_after(10):
        async with trio.open_nursery() as nursery:
            for stream in streams:
                nursery.start_soon(echo_pings, stream, rate, pace)
    answered = sum(stream.answered for stream in streams)
    assert answered == pytest.approx(ECHOES_BURST + 10 * ECHOES_PER_S, abs=1)
