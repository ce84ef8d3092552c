"""Peers that are reached through a SOCKS5 proxy: by name, by onion address, each by itself."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha3_256

import pytest
import structlog
import trio

from tests.framework.socks_server import socks_server
from unchained.node.transport.address import Address
from unchained.node.transport.address_groups import is_public, is_stand_in
from unchained.node.transport.contract import (
    DialRefusedError,
    DialUnreachableError,
    PeerDisconnected,
)
from unchained.node.transport.identity import Identity
from unchained.node.transport.libp2p import route
from unchained.node.transport.libp2p.host import HostConfig, Libp2pTransport

pytestmark = pytest.mark.real_time


def onion(number: int) -> str:
    """Return the address of an onion service, without its ending."""
    key = bytes([number]) * 32
    checksum = sha3_256(b".onion checksum" + key + b"\3").digest()[:2]
    return base64.b32encode(key + checksum + b"\3").decode().lower()


def looked_up(host: str, port: int, family: int) -> list[str]:
    raise AssertionError(f"{host} is the proxy's to look up")


@asynccontextmanager
async def running(seed: int, config: HostConfig) -> AsyncIterator[Libp2pTransport]:
    transport = Libp2pTransport(
        config,
        Identity.from_seed(bytes([seed]) * 32),
        structlog.wrap_logger(None, processors=[_drop]),
        resolver=looked_up,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(transport.run)
        yield transport
        nursery.cancel_scope.cancel()


def _drop(_logger: object, _name: str, _event: object) -> str:
    raise structlog.DropEvent


def listening() -> HostConfig:
    return HostConfig(listen=("/ip4/127.0.0.1/tcp/0",))


def port_of(transport: Libp2pTransport) -> int:
    return Address.parse(transport.addresses()[0]).port


async def test_names_and_onion_addresses_are_left_to_the_proxy() -> None:
    async with running(1, listening()) as one, running(2, listening()) as two:
        service = onion(7)
        known = {
            ("a.example", 7): port_of(one),
            (f"{service}.onion", 9): port_of(two),
            ("203.0.113.9", 11): port_of(one),
        }
        async with (
            socks_server(known) as proxy,
            running(3, HostConfig(listen=(), proxy=f"127.0.0.1:{proxy.port}")) as ours,
        ):
            await ours.connect(f"/dns/a.example/tcp/7/p2p/{one.id}")
            await ours.connect(f"/onion3/{service}:9/p2p/{two.id}")
            assert {info.peer for info in ours.peers()} == {one.id, two.id}
            for info in ours.peers():
                # Limits and bans have something to go by, and it is no address of this machine.
                assert is_stand_in(info.ip)
                assert is_public(info.ip)
            assert len({info.ip for info in ours.peers()}) == 2
            await ours.disconnect(one.id)
            await ours.connect(f"/ip4/203.0.113.9/tcp/11/p2p/{one.id}")
            assert await ours.identify("/dns/a.example/tcp/7") == one.id
            hosts = [(host, port) for _, host, port in proxy.asked]
            assert hosts == [*known, ("a.example", 7)]
            users = [user for user, _, _ in proxy.asked]
            assert users[0] == users[3]
            assert len(set(users)) == 3


async def test_a_link_through_a_proxy_ends_when_the_proxy_does() -> None:
    gone = trio.Event()

    def observe(event: object) -> None:
        if isinstance(event, PeerDisconnected):
            gone.set()

    async with running(1, listening()) as one, trio.open_nursery() as nursery:
        async with socks_server({("a.example", 7): port_of(one)}) as proxy:
            config = HostConfig(listen=(), proxy=f"127.0.0.1:{proxy.port}")
            ours = Libp2pTransport(config, Identity.from_seed(bytes(32)), structlog.get_logger())
            ours.observe(observe)
            await nursery.start(ours.run)
            await ours.connect(f"/dns/a.example/tcp/7/p2p/{one.id}")
        with trio.fail_after(20):
            await gone.wait()
        with pytest.raises(DialUnreachableError, match=r"by the proxy .*refused"):
            await ours.connect(f"/dns/a.example/tcp/7/p2p/{one.id}")
        nursery.cancel_scope.cancel()


async def test_the_longest_of_names_is_reached() -> None:
    """A SOCKS user name has 255 bytes; two names that differ at their ends have circuits apart."""
    label = "a" * 63
    names = [f"{label}.{label}.{label}.{'a' * 60}{end}" for end in "xy"]
    async with running(1, listening()) as one:
        known = {(name, 7): port_of(one) for name in names}
        async with (
            socks_server(known) as proxy,
            running(3, HostConfig(listen=(), proxy=f"127.0.0.1:{proxy.port}")) as ours,
        ):
            for name in names:
                assert len(name) == 253
                assert await ours.identify(f"/dns/{name}/tcp/7") == one.id
            users = [user for user, _, _ in proxy.asked]
            assert len(set(users)) == 2
            assert {len(user) for user in users} == {32}


@pytest.mark.parametrize("error", [ValueError("one\nand two"), RuntimeError(), KeyError("x")])
async def test_whatever_the_library_of_the_proxy_raises_is_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def connect(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(route.Proxy, "connect", connect)
    async with running(3, HostConfig(listen=(), proxy="127.0.0.1:9")) as ours:
        peer = Identity.from_seed(bytes(32)).peer
        with pytest.raises(DialUnreachableError, match=r"by the proxy 127.0.0.1:9: ") as raised:
            await ours.connect(f"/dns/a.example/tcp/7/p2p/{peer}")
        assert "\n" not in str(raised.value)


async def test_what_the_proxy_refuses_is_said() -> None:
    async with socks_server({}) as proxy:
        config = HostConfig(listen=(), proxy=f"127.0.0.1:{proxy.port}")
        async with running(3, config) as ours:
            peer = Identity.from_seed(bytes(32)).peer
            with pytest.raises(
                DialUnreachableError, match=f"by the proxy 127.0.0.1:{proxy.port}: "
            ):
                await ours.connect(f"/ip4/203.0.113.9/tcp/11/p2p/{peer}")


@pytest.mark.parametrize(
    ("only", "proxied", "reached"),
    [
        ((), False, {"ip4", "ip6", "dns"}),
        ((), True, {"ip4", "ip6", "dns", "onion3"}),
        (("onion",), True, {"onion3"}),
        (("ipv4",), False, {"ip4", "dns"}),
        (("ipv6", "onion"), True, {"ip6", "dns", "onion3"}),
    ],
)
async def test_only_some_networks_are_dialled(
    only: tuple[str, ...], proxied: bool, reached: set[str]
) -> None:
    proxy = "127.0.0.1:9" if proxied else ""
    async with running(3, HostConfig(listen=(), proxy=proxy, only=only)) as ours:
        peer = Identity.from_seed(bytes(32)).peer
        texts = ("/ip4/203.0.113.9/tcp/1", "/ip6/2001:db8::9/tcp/1", "/dns/a.example/tcp/1")
        addresses = [Address.parse(text) for text in (*texts, f"/onion3/{onion(1)}:1")]
        found = {address.kind for address in addresses if ours.refusal(address) is None}
        assert found == reached
        for address in addresses:
            if address.kind not in reached:
                with pytest.raises(DialRefusedError, match=r"network\.(only|proxy)"):
                    await ours.connect(str(address.with_peer(peer)))


def test_an_onion_address_that_is_none_is_refused() -> None:
    good = f"/onion3/{onion(1)}:80"
    assert str(Address.parse(good)) == good
    for text in (
        f"/onion3/{onion(1)[:-2]}aa:80",
        f"/onion3/{onion(1)[1:]}:80",
        f"/onion3/{onion(1).upper()}:80",
        f"/onion3/{onion(1)}",
        f"/onion3/{onion(1)}:70000",
        f"/onion3/{onion(1)}:80/tcp/1",
        "/onion3/",
        "/onion3",
    ):
        with pytest.raises(Exception, match="bad address"):
            Address.parse(text)
