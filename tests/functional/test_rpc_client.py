"""Both clients against a real server, against none, and against something else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import trio_test

from tests.framework.rpc_raw import until
from tests.framework.rpc_server import Paid, running
from unchained.node.rpc.client.client import (
    Client,
    ClientError,
    Endpoint,
    EventParser,
    LogEvent,
    NodeNotRunningError,
    NodeTimedOutError,
    UnreachableError,
)
from unchained.node.rpc.client.trio_client import TrioClient
from unchained.node.rpc.core.errors import (
    InvalidParamsError,
    MethodNotFoundError,
    NotFoundError,
    ProtocolRuleError,
    RpcError,
    TooLargeError,
    UnauthorizedError,
    from_wire,
)
from unchained.node.rpc.core.values import Amount, Hash, Hex, Secret

DOWN = r"the node is not running \(start it with `unchained-node start`\)"
PAID = Paid(Hash(b"\xab" * 32), Amount(150_000_000), Hex(b"\x01\x02"))

Ask = Callable[..., Any]


def asking(kind: str, endpoint: Endpoint, timeout: float = 20) -> tuple[Ask, Ask]:
    """Return `call` and `batch` of either client, as async functions."""
    if kind == "trio":
        client = TrioClient(endpoint, timeout=timeout)
        return client.call, client.batch
    blocking = Client(endpoint, timeout=timeout)

    async def call(*args: Any, **named: Any) -> Any:
        return await trio.to_thread.run_sync(partial(blocking.call, *args, **named))

    async def batch(*args: Any) -> Any:
        return await trio.to_thread.run_sync(blocking.batch, *args)

    return call, batch


BOTH = pytest.mark.parametrize("kind", ["sync", "trio"])


@BOTH
@trio_test
async def test_typed_values_go_and_come(tmp_path: Path, kind: str) -> None:
    async with running(tmp_path):
        call, _ = asking(kind, Endpoint.of(tmp_path))
        params = {"txid": PAID.txid, "value": PAID.value, "note": PAID.note}
        assert await call("test.pay", params, into=Paid) == PAID
        assert await call("test.height", [4]) == 5
        assert await call("test.height", [4], into=int, seconds=10) == 5
        with pytest.raises(UnreachableError, match=r"test\.height gave another result"):
            await call("test.height", [4], into=str)


@BOTH
@trio_test
async def test_errors_come_back_as_their_classes(tmp_path: Path, kind: str) -> None:
    async with running(tmp_path):
        call, _ = asking(kind, Endpoint.of(tmp_path))
        with pytest.raises(ProtocolRuleError) as caught:
            await call("test.rule")
        assert caught.value.error == "NON_CANONICAL"
        assert caught.value.data["expected"] == 198
        with pytest.raises(MethodNotFoundError, match="did you mean"):
            await call("test.rul")
        with pytest.raises(InvalidParamsError):
            await call("test.height", {"height": "x"})
        with pytest.raises(NotFoundError):
            await call("test.height", [5000])
        with pytest.raises(TooLargeError):
            await call("test.echo", ["x" * 3_000_000])


@BOTH
@trio_test
async def test_batches_keep_their_order(tmp_path: Path, kind: str) -> None:
    async with running(tmp_path):
        _, batch = asking(kind, Endpoint.of(tmp_path))
        first, second, third = await batch(
            [("test.echo", [1]), ("test.bug", []), ("test.echo", {"value": 3})]
        )
        assert (first, third) == (1, 3)
        assert isinstance(second, RpcError)
        with pytest.raises(TooLargeError):
            await batch([("test.echo", [1])] * 101)


@BOTH
@trio_test
async def test_credentials(tmp_path: Path, kind: str) -> None:
    async with running(tmp_path) as node:
        token = (tmp_path / "rpc.token").read_text()
        call, _ = asking(kind, Endpoint.at(node.bound.url, token=token))
        assert await call("test.height", [4]) == 5
        with pytest.raises(UnauthorizedError):
            await call("test.unlock", [Secret("sesame")])
        call, _ = asking(kind, Endpoint.at(node.bound.url))
        assert await call("test.echo", [1]) == 1
        with pytest.raises(UnauthorizedError):
            await call("test.height", [4])


@BOTH
@trio_test
async def test_a_node_that_is_down(tmp_path: Path, kind: str) -> None:
    with pytest.raises(NodeNotRunningError, match=DOWN):
        Endpoint.of(tmp_path)
    async with running(tmp_path):
        endpoint = Endpoint.of(tmp_path)
    call, _ = asking(kind, endpoint)
    with pytest.raises(NodeNotRunningError, match=DOWN):
        await call("test.echo", [1])
    with pytest.raises(NodeNotRunningError, match=DOWN):
        await call("test.echo", [1], seconds=5)


@BOTH
@trio_test
async def test_a_node_that_is_slow(tmp_path: Path, kind: str) -> None:
    async with running(tmp_path) as node:
        call, _ = asking(kind, Endpoint.of(tmp_path), timeout=0.1)
        with pytest.raises(NodeTimedOutError, match=r"within 0\.1 s"):
            await call("test.wait")
        node.room.gate.set()


@asynccontextmanager
async def impostor(answer: bytes) -> AsyncIterator[str]:
    """Listen, answer every request with `answer`, and close."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(answer)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


def http(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body)


@BOTH
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        http(b"<html>"),
        http(b"{}"),
        http(b"[]"),
        http(b"null"),
        http(b'{"jsonrpc": "2.0", "id": 99, "result": 1}'),
        http(b'{"jsonrpc": "2.0", "id": 1, "error": {"code": "x"}}'),
        http(b"\xff"),
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{",
    ],
)
@trio_test
async def test_something_else_at_the_other_end(kind: str, answer: bytes) -> None:
    async with impostor(answer) as url:
        call, batch = asking(kind, Endpoint.at(url))
        with pytest.raises(ClientError):
            await call("test.echo", [1])
        with pytest.raises(ClientError):
            await batch([("test.echo", [1])])
        with pytest.raises(ClientError):
            async with TrioClient(Endpoint.at(url)).events():
                pass


@trio_test
async def test_events_for_both(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        node.events.append("chain.connected", {"value": Amount(1)})
        expected = LogEvent(1, "chain.connected", {"value": "0.00000001"})
        async with node.client.events(since=0) as entries:
            assert await anext(entries) == expected

        def blocking() -> LogEvent:
            with Client(Endpoint.of(tmp_path)).events(since=0) as events:
                return next(events)

        assert await trio.to_thread.run_sync(blocking) == expected
        await until(lambda: node.events.readers == 0)
        node.events.oldest = 50
        with pytest.raises(NotFoundError, match="begins at 50"):
            async with node.client.events(since=0):
                pass
        with pytest.raises(NotFoundError, match="begins at 50"):
            await trio.to_thread.run_sync(blocking)


@trio_test
async def test_a_stream_ends_with_its_node(tmp_path: Path) -> None:
    async with running(tmp_path) as node, node.client.events() as entries:
        await until(lambda: node.events.readers == 1)
        node.stop()
        with pytest.raises((StopAsyncIteration, UnreachableError)):
            await anext(entries)


def test_events_are_read_in_any_pieces() -> None:
    data = b": beat\n\nid: 1\nevent: a\ndata: 1\n\nid: 2\nevent: b.c\ndata: {}\n\n"
    expected = [LogEvent(1, "a", 1), LogEvent(2, "b.c", {})]
    for size in range(1, len(data)):
        parser = EventParser()
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        assert [event for piece in pieces for event in parser.feed(piece)] == expected


@pytest.mark.parametrize(
    "data", [b"event: a\n\n", b"id: x\nevent: a\ndata: 1\n\n", b"id: 1\nevent: a\ndata: {\n\n"]
)
def test_events_of_rubbish_are_refused(data: bytes) -> None:
    with pytest.raises(UnreachableError):
        EventParser().feed(data)


def test_an_event_has_a_limit() -> None:
    with pytest.raises(UnreachableError, match="above"):
        EventParser().feed(b"x" * 2_000_000)


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:1", "ftp://127.0.0.1", "http://", "http://a/rpc", "http://u:sesame@a:1"]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="a node's URL") as caught:
        Endpoint.at(url)
    assert "sesame" not in str(caught.value)


def test_an_endpoint_does_not_show_its_credentials(tmp_path: Path) -> None:
    (tmp_path / "cookie").write_text("__cookie__:sesame")
    endpoint = Endpoint.at("https://[::1]", cookie=tmp_path / "cookie")
    assert repr(endpoint) == "Endpoint('::1', 443)"
    assert endpoint.netloc == "[::1]:443"
    assert endpoint.secure


def test_a_cookie_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "cookie").mkdir()
    with pytest.raises(UnreachableError, match="cannot read"):
        Endpoint.at("http://127.0.0.1:1", cookie=tmp_path / "cookie")


def test_an_unlisted_code_is_a_bare_error() -> None:
    error = from_wire(-1, "odd", [1])
    assert type(error) is RpcError
    assert error.message == "odd"
