from __future__ import annotations

import socket

import pytest
import trio

from unchained.node.transport.address import ADDRESS_LENGTH_MAX, Address
from unchained.node.transport.contract import BadAddressError, CannotListenError, PeerId
from unchained.node.transport.libp2p.listener import (
    ListenPlace,
    announced,
    listen,
    parse_listen,
    places,
    plain,
)

PEER = PeerId("12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5")


@pytest.mark.parametrize(
    "text",
    [
        "/ip4/127.0.0.1/tcp/9000",
        f"/ip6/2001:db8::1/tcp/65535/p2p/{PEER}",
        f"/dns/seed.example.org/tcp/1/p2p/{PEER}",
        "/dns4/node-1/tcp/9000",
        "/dns6/a.b.c./tcp/9000",
    ],
)
def test_reads_what_it_writes(text: str) -> None:
    assert str(Address.parse(text)) == text


def test_literals_come_out_canonical() -> None:
    assert str(Address.parse("/ip6/2001:DB8:0::1/tcp/1")) == "/ip6/2001:db8::1/tcp/1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1:9000",
        "/ip4/127.0.0.1",
        "/ip4/127.0.0.1/udp/9000",
        "/ip4/127.0.0.1/tcp/9000/ws",
        "/ip4/127.0.0.1/tcp/65536",
        "/ip4/127.0.0.1/tcp/-1",
        "/ip4/127.0.0.1/tcp/٣",
        "/ip4/127.0.0.256/tcp/1",
        "/ip4/::1/tcp/1",
        "/ip6/fe80::1%eth0/tcp/1",
        "/dns4/a..b/tcp/1",
        "/dns4/" + "a" * 254 + "/tcp/1",
        "/dnsaddr/example.org/tcp/1",
        "/ip4/127.0.0.1/tcp/1/p2p/0OIl",
        f"/ip4/127.0.0.1/tcp/1/ipfs/{PEER}",
        "/dns4/" + "a" * ADDRESS_LENGTH_MAX + "/tcp/1",
    ],
)
def test_refuses_in_one_line(text: str) -> None:
    with pytest.raises(BadAddressError) as caught:
        Address.parse(text)
    assert "\n" not in str(caught.value)


def test_listening_needs_a_literal() -> None:
    assert parse_listen("/ip4/0.0.0.0/tcp/0") == ListenPlace(Address("ip4", "0.0.0.0", 0))
    place = ListenPlace(Address("ip6", "::", 4011), takes_next=True)
    assert parse_listen("/ip6/::/tcp/auto", 4011) == place
    with pytest.raises(CannotListenError, match="not a name"):
        parse_listen("/dns4/localhost/tcp/0")
    with pytest.raises(CannotListenError, match="bad address"):
        parse_listen("localhost:80")


async def test_binds_all_or_none() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = ListenPlace(Address("ip4", "127.0.0.1", holder.getsockname()[1]))
        free = ListenPlace(Address("ip4", "127.0.0.2", 0))
        with pytest.raises(CannotListenError, match="the port is in use"):
            await listen([free, taken])
        with pytest.raises(CannotListenError, match="Cannot assign"):
            await listen([ListenPlace(Address("ip4", "192.0.2.1", 0))])
        ((address, listening),) = await listen([ListenPlace(taken.address, takes_next=True)])
        assert address.port > taken.address.port
        listening.close()
    ((address, listening),) = await listen([free])
    assert address.port != 0
    listening.close()


def test_an_unspecified_address_is_announced_as_those_of_the_machine() -> None:
    given = announced([Address("ip4", "0.0.0.0", 9000), Address("ip4", "127.0.0.9", 1)], PEER)
    assert f"/ip4/127.0.0.9/tcp/1/p2p/{PEER}" in given
    assert not any("0.0.0.0" in address for address in given)
    assert len(given) >= 2


async def test_names_are_looked_up_in_a_thread() -> None:
    def resolver(host: str, port: int, family: int) -> list[str]:
        assert (host, port, family) == ("seed.example", 7, socket.AF_INET6)
        return ["2001:db8::1", "2001:db8::1", "::ffff:1.2.3.4"]

    limiter = trio.CapacityLimiter(1)
    name = Address.parse("/dns6/seed.example/tcp/7")
    assert await places(name, resolver, limiter) == ["2001:db8::1", "1.2.3.4"]
    literal = Address.parse("/ip4/1.2.3.4/tcp/7")
    assert await places(literal, resolver, limiter) == ("1.2.3.4",)


def test_limits_go_by_plain_literals() -> None:
    assert plain("::ffff:1.2.3.4") == "1.2.3.4"
    assert plain("fe80::1%eth0") == "fe80::1"
