"""The host between real processes, and faults of correctness of libp2p 0.8.1, gone in ours."""

from __future__ import annotations

import itertools
import signal
import socket

import pytest
import trio

from tests.framework.p2p_node import ECHO, LARGE, STALL
from tests.framework.p2p_process import Process, node, started
from unchained.node.transport.address import Address
from unchained.node.transport.libp2p.streams import TcpStream, agree

pytestmark = pytest.mark.real_time


async def pair_connects(one: Process, other: Process) -> None:
    await one.ok("connect", other.address, 10)
    await one.state(lambda state: other.id in state["mesh"])
    await other.state(lambda state: one.id in state["mesh"])


async def test_requests_between_processes() -> None:
    async with node(1) as one, node(2) as other:
        await pair_connects(one, other)
        await other.event("connected", one.id, "127.0.0.1", "inbound")
        await one.event("connected", other.id, "127.0.0.1", "outbound")

        async def ask(protocol: str, text: str, most: int = 100, patience: float = 10) -> str:
            answer = await one.outcome("request", other.id, protocol, text, most, patience)
            return str(answer[0] if answer[0] != "ok" else answer[1])

        assert await ask(ECHO, "hello") == "hello"
        assert await ask(ECHO, "x" * 1_000_000, most=1_000_000) == "1000000"
        assert await ask(ECHO, "x" * 1_100_000) == "RequestTooLargeError"
        assert await ask(LARGE, "101") == "ResponseTooLargeError"
        assert await ask("/t/fail/1", "") == "RequestFailedError"
        assert await ask("/t/none/1", "") == "ProtocolUnsupportedError"
        assert await ask(STALL, "", patience=0.5) == "RequestTimeoutError"
        # Who gives up is noticed: the handler is cancelled, its place is free.
        await other.state(lambda state: state["stalled"] == 0)
        refused = []

        async def one_of_three(patience: float) -> None:
            refused.append(await ask(STALL, "", patience=patience))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(one_of_three, 2.0)
        assert sorted(refused) == [
            "RequestRefusedError",
            "RequestTimeoutError",
            "RequestTimeoutError",
        ]
        kinds = [event[3] for event in other.events if event[0] == "misbehaved"]
        assert kinds == ["oversized_request"]
        await one.ok("disconnect", other.id)
        await one.event("disconnected", other.id, "local")
        await other.event("disconnected", one.id, "remote")
        assert await ask(ECHO, "hello") == "PeerGoneError"


async def test_gossip_goes_through_a_line_of_processes() -> None:
    async with node(1) as one, node(2) as middle, node(3) as last:
        await pair_connects(one, middle)
        await pair_connects(last, middle)
        await one.ok("publish many", 20, 200_000, 0)
        await one.ok("publish", "reject this")
        await one.ok("publish", "coin")
        state = await last.state(lambda state: len(state["heard"]) == 21)
        assert b"coin".hex() in state["heard"]
        await middle.event("misbehaved", "127.0.0.1", one.id, "rejected_gossip")


async def heard(process: Process, count: int) -> None:
    await process.state(lambda state: len(state["heard"]) >= count)


async def flow(publisher: Process, middle: Process) -> None:
    """Let large messages go by without end."""
    for number in itertools.count():
        await publisher.ok("publish many", 2, 200_000, 2 * number)
        if publisher.module == "p2p_node":
            await heard(middle, 2 * number + 2)


async def test_stock_kills_a_late_joiner_while_large_messages_flow() -> None:
    """Fault 3: two tasks write one stream, and their frames mix."""

    async with node(1, module="p2p_stock") as one, node(2, module="p2p_stock") as middle:
        await one.ok("connect", middle.address)
        await one.state(lambda state: state["mesh"])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flow, one, middle)
            for seed in range(3, 9):
                async with node(seed, module="p2p_stock") as joiner:
                    try:
                        await joiner.outcome("connect", middle.address)
                    except AssertionError:
                        # It may die of the fault before it answers; anything else is a failure.
                        if not joiner.ended.is_set():
                            raise
                    with trio.move_on_after(5):
                        await joiner.ended.wait()
                    if "DecodeError" in joiner.stderr():
                        break
            else:
                pytest.fail("six joiners lived")
            nursery.cancel_scope.cancel()


async def test_a_late_joiner_lives_while_large_messages_flow() -> None:
    async with node(1) as one, node(2) as middle:
        await pair_connects(one, middle)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flow, one, middle)
            for seed in (3, 4):
                async with node(seed) as joiner:
                    await pair_connects(joiner, middle)
                    await joiner.state(lambda state: len(state["heard"]) > 10)
                    assert (await joiner.ok("state"))["statistics"]["misbehaviours"] == 0
            nursery.cancel_scope.cancel()
        assert (await middle.ok("state"))["statistics"]["misbehaviours"] == 0


async def test_stock_cannot_read_a_large_answer() -> None:
    """Fault 10: at most 101 reads."""

    async with (
        node(1, module="p2p_stock") as one,
        node(2, module="p2p_stock") as stock,
        node(3, takes_any=True) as ours,
        node(4) as other,
    ):
        await one.ok("connect", stock.address)
        assert (await one.outcome("large", stock.id, 8_000_000))[0] == "IncompleteReadError"
        await ours.ok("connect", other.address, 10)
        answer = await ours.outcome("request", other.id, LARGE, "8000000", 8_000_000, 20)
        assert answer == ["ok", 8_000_000]
        # Stock's requests are served by ours: the wire is libp2p's.
        await one.ok("connect", ours.address)
        assert await one.ok("large", ours.id, 100_000) == 100_000


async def test_a_node_that_listens_nowhere_dials_others() -> None:
    async with node(1) as one, started("p2p_node", "2") as silent:
        await silent.until(lambda: silent.listening)
        assert silent.addresses == []
        assert await silent.ok("connect", one.address, 10) == one.id
        assert await silent.ok("request", one.id, ECHO, "hello", 100, 10) == "hello"


async def test_a_port_in_use_is_one_clear_line() -> None:
    """Fault 12: stock starts without any address."""

    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        address = f"/ip4/127.0.0.1/tcp/{holder.getsockname()[1]}"
        async with started("p2p_stock", "1", address) as stock:
            # It says that it listens, and has nothing to say where.
            await stock.until(lambda: stock.listening or stock.ended.is_set())
            assert stock.addresses == []
        async with started("p2p_node", "1", "/ip4/127.0.0.1/tcp/0", address) as ours:
            await ours.ended.wait()
            error = f"cannot listen on {address}: the port is in use"
            assert ours.events == [["failed", "PortInUseError", error]]
            assert ours.stderr() == ""


async def test_a_ban() -> None:
    """Fault 13: stock keeps the connection of who is blacklisted."""

    async with (
        node(1, module="p2p_stock") as stock,
        node(2, module="p2p_stock") as banned,
        node(3) as ours,
        node(4) as other,
    ):
        await banned.ok("connect", stock.address)
        await stock.state(lambda state: state["pubsub peers"])
        await stock.ok("blacklist", banned.id)
        assert (await stock.ok("state"))["peers"] == [banned.id]
        await other.ok("connect", ours.address, 10)
        await ours.ok("gate", other.id)
        await ours.ok("disconnect", other.id)
        await other.event("disconnected", ours.id, "remote")
        assert (await other.outcome("connect", ours.address, 10))[0] == "DialUnreachableError"
        assert (await ours.outcome("connect", other.address, 10))[0] == "DialRefusedError"
        await ours.ok("gate", "127.0.0.1")
        assert (await other.outcome("connect", ours.address, 10))[0] == "DialUnreachableError"
        await ours.ok("gate")
        await other.ok("connect", ours.address, 10)


async def test_a_failed_dial_can_be_repeated() -> None:
    """Fault 15: stock refuses to dial a peer for 60 s after a failure."""

    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
    listen = f"/ip4/127.0.0.1/tcp/{port}"
    async with node(1, module="p2p_stock") as stock, node(2) as ours:
        async with node(3) as target:
            address = f"{listen}/p2p/{target.id}"
        assert (await stock.outcome("connect", address))[0] != "ok"
        assert (await ours.outcome("connect", address, 10))[0] == "DialUnreachableError"
        async with node(3, listen) as target:
            assert (await stock.outcome("connect", target.address))[0] != "ok"
            await ours.ok("connect", target.address, 10)


async def test_simultaneous_dials_make_one_connection() -> None:
    async with node(1) as one, node(2) as other:
        for _ in range(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.ok, "connect", other.address, 10)
                nursery.start_soon(one.ok, "connect", other.address, 10)
                nursery.start_soon(other.ok, "connect", one.address, 10)
            for here, there in ((one, other), (other, one)):
                await here.state(
                    lambda state, there=there: (
                        state["peers"] == [there.id] and there.id in state["mesh"]
                    )
                )
            answer = await one.outcome("request", other.id, ECHO, "hello", 100, 10)
            assert answer == ["ok", "hello"]
            await one.ok("disconnect", other.id)
            await other.state(lambda state: not state["peers"])


async def deliveries_after_restart(module: str, listener: Process) -> int:
    """Return how many of 20 messages are heard of a publisher that was restarted."""
    ours = module == "p2p_node"

    async def publish(messages: range, enough: int, patience: float) -> set[str]:
        async with node(2, module=module) as publisher:
            await publisher.ok("connect", listener.address, *([10] if ours else []))
            await publisher.state(lambda state: state["mesh"])
            await listener.state(lambda state: state["mesh"])
            for number in messages:
                await publisher.ok("publish", str(number))
            with trio.move_on_after(patience):
                await heard(listener, enough)
            return set((await listener.ok("state"))["heard"])

    before = await publish(range(60), 60, 3)
    after = await publish(range(60, 80), 80, 3)
    return len(after - before)


@pytest.mark.slow
async def test_messages_after_a_restart_are_delivered() -> None:
    """Stock's sequence numbers start at the time in seconds, and may have been used before."""

    async with node(1, module="p2p_stock") as stock, node(1) as ours:
        assert await deliveries_after_restart("p2p_stock", stock) < 10
        assert await deliveries_after_restart("p2p_node", ours) == 20


@pytest.mark.slow
async def test_dead_peers_are_noticed() -> None:
    """A stopped peer within 25 s, which stock never notices; a killed one at once."""

    async with (
        node(1, module="p2p_stock") as stock,
        node(2, module="p2p_stock") as stopped_stock,
        node(3) as ours,
        node(4) as stopped,
        node(5) as killed,
    ):
        await stock.ok("connect", stopped_stock.address)
        await pair_connects(ours, stopped)
        await pair_connects(ours, killed)
        stopped_stock.signal(signal.SIGSTOP)
        stopped.signal(signal.SIGSTOP)
        killed.signal(signal.SIGKILL)
        await ours.event("disconnected", killed.id, "remote")
        await ours.event("disconnected", stopped.id, "dead", patience=25)
        assert (await stock.ok("state"))["peers"] == [stopped_stock.id]
        stopped.signal(signal.SIGCONT)
        # It was the one that slept: it learns of its loss from us, not by its own clock.
        await stopped.event("disconnected", ours.id, "remote")


async def test_addresses_of_every_kind() -> None:
    async with node(1, "/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0") as one, node(2) as other:
        four, six = (Address.parse(address) for address in one.addresses)
        for place, ip in (
            (str(four), "127.0.0.1"),
            (str(six), "::1"),
            (f"/dns4/localhost/tcp/{four.port}/p2p/{one.id}", "127.0.0.1"),
            (f"/dns/localhost/tcp/{four.port}/p2p/{one.id}", "127.0.0.1"),
        ):
            other.events.clear()
            assert await other.ok("connect", place, 10) == one.id
            await other.event("connected", one.id, ip, "outbound")
            await other.ok("disconnect", one.id)
            await one.state(lambda state: not state["peers"])
        errors = {
            f"/dns4/nowhere.invalid/tcp/1/p2p/{one.id}": "DialUnreachableError",
            f"/ip4/127.0.0.1/tcp/{four.port}/p2p/{'1' * 44}": "DialWrongPeerError",
            f"/ip4/127.0.0.1/tcp/{four.port}/p2p/{other.id[:-1]}1": "DialWrongPeerError",
            f"/ip4/127.0.0.1/tcp/{four.port}": "DialRefusedError",
            other.address: "DialRefusedError",
            "/ip4/127.0.0.1/udp/1/quic-v1": "BadAddressError",
        }
        for place, error in errors.items():
            assert (await other.outcome("connect", place, 10))[0] == error, place


async def test_a_dial_to_silence_times_out() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with node(1) as one, node(2) as other:
        address = f"/ip4/127.0.0.1/tcp/{port}/p2p/{other.id}"
        assert (await one.outcome("connect", address, 0.5))[0] == "DialTimeoutError"

        async def only_multistream(stream: trio.SocketStream) -> None:
            tcp = TcpStream(stream)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tcp.flush)
                await agree(tcp, ("/tls/1.0.0",))
                await tcp.write(b"\0\3abc")
                await trio.sleep(0.5)
                nursery.cancel_scope.cancel()
            tcp.abort()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, only_multistream, listeners)
            error = await one.outcome("connect", address, 10)
            assert error[0] == "DialSecurityError"
            assert error[1].startswith(f"cannot connect to {address}: TLS: ")
            nursery.cancel_scope.cancel()
