"""Ports mapped at a gateway: with one in memory, and by miniupnpc at one on loopback."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from tests.framework.upnp_gateway import (
    CONFLICT,
    LOOPBACK,
    FakeGateway,
    alone_on_loopback,
    upnp_gateway,
)
from unchained.node.transport import port_mapping
from unchained.node.transport.address import Address
from unchained.node.transport.port_mapping import (
    GATEWAY_TIMEOUT_S,
    RENEW_S,
    Gateway,
    NoGatewayError,
    PortMapping,
)
from unchained.node.transport.upnp import UpnpGateway

HERE = "192.168.1.7"
EVERYWHERE = Address("ip4", "0.0.0.0", 4031)


class Lines:
    """Takes the place of a log."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []
        self.came = trio.Event()

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))
        self.came.set()

    warning = info


class MemoryGateway:
    """Maps ports in memory, or raises what it is told to."""

    def __init__(self) -> None:
        self.fails = ""
        self.mapped: dict[int, str] = {}
        self.renewed = 0

    def find(self) -> str:
        if self.fails:
            raise NoGatewayError(self.fails)
        return HERE

    def map(self, ip: str, port: int) -> None:
        self.mapped[port] = ip
        self.renewed += 1

    def unmap(self, port: int) -> None:
        if self.fails:
            raise NoGatewayError(self.fails)
        del self.mapped[port]


class Places:
    def __init__(self, *places: Address) -> None:
        self.places = places

    def listening(self) -> Sequence[Address]:
        return self.places


@pytest.fixture
def _in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call what blocks in place: a virtual clock would jump while a thread works."""

    async def run_sync(call: Any, *arguments: Any, **_: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return call(*arguments)

    monkeypatch.setattr(port_mapping.trio.to_thread, "run_sync", run_sync)


@asynccontextmanager
async def mapping(gateway: Gateway, *places: Address) -> AsyncIterator[Lines]:
    log = Lines()
    mapped = PortMapping(gateway, Places(*places), log)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: mapped.run(task_status=task_status))
        yield log
        nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("_in_place")
async def test_ports_are_mapped_renewed_and_removed_at_the_end() -> None:
    gateway = MemoryGateway()
    places = (
        EVERYWHERE,
        Address("ip4", HERE, 4032),
        Address("ip4", "10.0.0.1", 4033),
        Address("ip4", LOOPBACK, 4034),
        Address("ip6", "::", 4035),
    )
    async with mapping(gateway, *places) as log:
        await trio.sleep(1)
        assert gateway.mapped == {4031: HERE, 4032: HERE}
        await trio.sleep(3 * RENEW_S)
        assert gateway.renewed == 8
    assert gateway.mapped == {}
    assert log.lines == [
        ("net.port_mapped", {"port": 4031, "leads_to": HERE}),
        ("net.port_mapped", {"port": 4032, "leads_to": HERE}),
    ]


@pytest.mark.usefixtures("_in_place")
async def test_what_is_amiss_is_said_once_and_tried_again() -> None:
    gateway = MemoryGateway()
    gateway.fails = "no device answers by UPnP"
    async with mapping(gateway, EVERYWHERE) as log:
        await trio.sleep(3 * RENEW_S)
        assert log.lines == [("net.port_not_mapped", {"why": gateway.fails})]
        gateway.fails = ""
        await trio.sleep(RENEW_S)
        assert gateway.mapped == {4031: HERE}
        gateway.fails = "it is gone"
    # A gateway that is gone does not keep the node from stopping.
    assert [event for event, _ in log.lines] == [
        "net.port_not_mapped", "net.port_mapped", "net.port_not_mapped"
    ]  # fmt: skip


async def test_a_node_that_listens_on_loopback_alone_asks_no_gateway() -> None:
    gateway = MemoryGateway()
    gateway.fails = "asked"
    async with mapping(gateway, Address("ip4", LOOPBACK, 4001), Address("ip6", "::", 1)) as log:
        await trio.sleep(1)
    assert log.lines == [
        ("net.port_not_mapped", {"why": "nothing listens but on this machine alone"})
    ]


@pytest.mark.real_time
async def test_a_gateway_that_hangs_holds_neither_the_loop_nor_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(port_mapping, "GATEWAY_TIMEOUT_S", 0.1)
    go_on = threading.Event()

    class Hanging(MemoryGateway):
        def find(self) -> str:
            go_on.wait()
            return HERE

    try:
        async with mapping(Hanging(), EVERYWHERE) as log:
            with trio.fail_after(GATEWAY_TIMEOUT_S):
                await log.came.wait()
        ((event, said),) = log.lines
        assert event == "net.port_not_mapped"
        assert "has not answered in" in said["why"]
    finally:
        go_on.set()


@pytest.fixture
def _multicast() -> None:
    """Skip where this machine lets no search by multicast reach itself."""
    try:
        with upnp_gateway(FakeGateway()):
            pass
    except OSError as error:
        pytest.skip(f"no multicast on loopback here: {error}")


@pytest.mark.real_time
@pytest.mark.usefixtures("_multicast")
class TestByMiniupnpc:
    async def test_a_gateway_is_found_and_maps(self) -> None:
        place = Address("ip4", "0.0.0.0", _free_port())
        with upnp_gateway(FakeGateway()) as gateway:
            async with mapping(UpnpGateway(LOOPBACK), place) as log:
                with trio.fail_after(GATEWAY_TIMEOUT_S):
                    await log.came.wait()
                assert gateway.mapped == {place.port: (LOOPBACK, place.port)}
            assert gateway.mapped == {}
        assert log.lines == [("net.port_mapped", {"port": place.port, "leads_to": LOOPBACK})]
        assert gateway.calls[-2:] == ["AddPortMapping", "DeletePortMapping"]

    async def test_a_port_that_is_anothers_is_said_in_one_line(self) -> None:
        with upnp_gateway(FakeGateway(refuses=CONFLICT)) as gateway:
            async with mapping(UpnpGateway(LOOPBACK), EVERYWHERE) as log:
                with trio.fail_after(GATEWAY_TIMEOUT_S):
                    await log.came.wait()
        assert log.lines == [("net.port_not_mapped", {"why": "by UPnP: ConflictInMappingEntry"})]
        assert gateway.mapped == {}

    async def test_a_gateway_that_keeps_mappings_for_ever_is_asked_for_that(self) -> None:
        gateway = FakeGateway(only_forever=True)
        with upnp_gateway(gateway):
            async with mapping(UpnpGateway(LOOPBACK), EVERYWHERE) as log:
                with trio.fail_after(GATEWAY_TIMEOUT_S):
                    await log.came.wait()
                assert set(gateway.mapped) == {EVERYWHERE.port}
        assert gateway.mapped == {}

    def test_nobody_there_is_said(self) -> None:
        with alone_on_loopback(), pytest.raises(NoGatewayError, match="no device answers by UPnP"):
            UpnpGateway(LOOPBACK).find()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
