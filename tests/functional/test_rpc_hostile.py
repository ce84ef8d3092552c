"""A hostile client on raw sockets: each trick is answered clearly or closed, and the server
answers an honest call afterwards."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import trio_test

from tests.framework.rpc_raw import PATIENCE, RawClient, call, raw, until
from tests.framework.rpc_server import RunningServer, running
from unchained.node.rpc.core.call_places import CallLimits
from unchained.node.rpc.core.registry import Access
from unchained.node.rpc.http.listener import HttpLimits
from unchained.node.rpc.http.rpc_settings import RpcSettings

HONEST = call("test.echo", ["honest"])


@asynccontextmanager
async def attacked(directory: Path, **limits: float) -> AsyncIterator[RunningServer]:
    """Run a server, and see that it is unharmed after what the test did to it."""

    def change(settings: RpcSettings) -> RpcSettings:
        return replace(settings, http=replace(HttpLimits(), **limits))

    async with running(directory, change=change) as node:
        yield node
        assert await node.client.call("test.echo", ["honest"]) == "honest"
        assert not [entry for entry in node.log if entry["level"] == "error"]


def owner(directory: Path) -> dict[str, str]:
    """Return the credentials of the node's owner."""
    cookie = (directory / "rpc.cookie").read_bytes()
    return {"authorization": "Basic " + base64.b64encode(cookie).decode()}


def long_calls(node: RunningServer) -> int:
    """Return how many calls of `test.long` there were."""
    found = node.server.statistics().methods.get("test.long")
    return 0 if found is None else found.calls


@asynccontextmanager
async def attack(directory: Path, **limits: float) -> AsyncIterator[RawClient]:
    async with attacked(directory, **limits) as node, raw(node.bound.port) as client:
        yield client


BAD_JSON = {
    "nothing": b"",
    "words": b"hello",
    "cut short": b'{"jsonrpc": "2.0", "id": 1, "method": "test.echo"',
    "trailing": HONEST + b"x",
    "two values": HONEST + HONEST,
    "NaN": b'{"jsonrpc": "2.0", "id": 1, "method": "test.echo", "params": [NaN]}',
    "infinity": b'{"jsonrpc": "2.0", "id": 1, "method": "test.echo", "params": [-Infinity]}',
    "huge exponent": b'{"jsonrpc": "2.0", "id": 1, "method": "test.echo", "params": [1e999]}',
    "huge integer": b'{"jsonrpc": "2.0", "id": 1, "method": "test.echo", "params": [%s]}'
    % (b"9" * 100_000),
    "not UTF-8": b'{"jsonrpc": "2.0", "id": 1, "method": "test.echo", "params": ["\xff\xfe"]}',
    "UTF-16": HONEST.decode().encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf" + HONEST,
    "half a surrogate": b'{"jsonrpc": "2.0", "id": 1, "method": "test.echo", '
    b'"params": ["\\ud800"]}',
    "deep arrays": b"[" * 200_000,
    "deep objects": b'{"a":' * 100_000,
    "deep and closed": b"[" * 100_000 + b"]" * 100_000,
    "only closing": b"]" * 200_000,
    "deep params": b'{"jsonrpc": "2.0", "id": 1, "method": "test.echo", "params": %s}'
    % (b"[" * 40 + b"]" * 40),
    "duplicate method": b'{"jsonrpc": "2.0", "id": 1, "method": "test.echo", "method": "test.bug"}',
    "duplicate in params": b'{"jsonrpc": "2.0", "id": 1, "method": "test.echo", '
    b'"params": {"value": 1, "value": 2}}',
    "duplicate by escape": b'{"jsonrpc": "2.0", "id": 1, "method": "test.echo", '
    b'"params": {"value": 1, "valu\\u0065": 2}}',
}


@pytest.mark.parametrize("name", BAD_JSON)
@trio_test
async def test_what_is_no_json_is_refused(tmp_path: Path, name: str) -> None:
    async with attack(tmp_path) as client:
        answer = await client.ask(BAD_JSON[name])
        assert answer.status == 400
        assert answer.error() == (-32700, "PARSE_ERROR")
        assert answer.json()["id"] is None
        assert (await client.ask(HONEST)).status == 200


BAD_REQUESTS = {
    "text": b'"test.echo"',
    "null": b"null",
    "number": b"1.5",
    "empty batch": b"[]",
    "unknown version": b'{"jsonrpc": "3.0", "id": 1, "method": "test.echo"}',
    "no method": b'{"jsonrpc": "2.0", "id": 1}',
    "method of a number": b'{"jsonrpc": "2.0", "id": 1, "method": 5}',
    "id of a list": b'{"jsonrpc": "2.0", "id": [1], "method": "test.echo"}',
    "id of truth": b'{"jsonrpc": "2.0", "id": true, "method": "test.echo"}',
    "id of a fraction": b'{"jsonrpc": "2.0", "id": 1.5, "method": "test.echo"}',
    "long id": b'{"jsonrpc": "2.0", "id": "%s", "method": "test.echo"}' % (b"x" * 257),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
@trio_test
async def test_what_is_no_request_is_refused(tmp_path: Path, name: str) -> None:
    async with attack(tmp_path) as client:
        answer = await client.ask(BAD_REQUESTS[name])
        assert answer.status == 400
        assert answer.error() == (-32600, "INVALID_REQUEST")


@trio_test
async def test_a_batch_has_a_limit(tmp_path: Path) -> None:
    async with attack(tmp_path) as client:
        answer = await client.ask(b"[" + b",".join([HONEST] * 10_000) + b"]")
        assert answer.status == 413
        assert answer.error() == (-32008, "TOO_LARGE")
        answer = await client.ask(b"[" + b",".join([HONEST] * 100) + b"]")
        assert len(answer.json()) == 100


@trio_test
async def test_rubbish_in_a_batch_spoils_nothing_else(tmp_path: Path) -> None:
    async with attack(tmp_path) as client:
        answer = await client.ask(b"[1, [], null, " + HONEST + b"]")
        assert [reply.get("result") for reply in answer.json()] == [None, None, None, "honest"]
        assert [reply["id"] for reply in answer.json()] == [None, None, None, 1]


@pytest.mark.parametrize("verb", ["GET", "OPTIONS", "PUT", "DELETE", "TRACE", "BREW"])
@trio_test
async def test_rpc_takes_post_alone(tmp_path: Path, verb: str) -> None:
    async with attack(tmp_path) as client:
        answer = await client.ask(verb=verb)
        assert answer.status == 405
        assert answer.headers["allow"] == "POST"
        assert "access-control-allow-origin" not in answer.headers


@trio_test
async def test_head_on_rpc_has_no_body(tmp_path: Path) -> None:
    async with attack(tmp_path) as client:
        assert (await client.ask(verb="HEAD")).status == 405
        assert await client.closed() == b""


PATHS = [
    "/rpc/",
    "//rpc",
    "/./rpc",
    "/../rpc",
    "/rpc/../rpc",
    "/%72pc",
    "/rpc%00",
    "/rpc;a=b",
    "/..%2f..%2fetc/passwd",
    "/../../rpc.cookie",
    "/rpc.cookie",
    "http://127.0.0.1/rpc",
    "http://evil.example/rpc",
    "*",
    "rpc",
    "/" + "a" * 8000,
]


@pytest.mark.parametrize("path", PATHS)
@trio_test
async def test_only_the_plain_path_leads_to_rpc(tmp_path: Path, path: str) -> None:
    async with attack(tmp_path) as client:
        answer = await client.ask(HONEST, path=path)
        assert answer.status in (400, 404)
        assert b"honest" not in answer.body
        assert b"__cookie__" not in answer.body


HOSTS = [
    "evil.example",
    "evil.example:9332",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "127.0.0.1@evil.example",
    "evil.example@127.0.0.1",
    "192.168.1.7",
    "[2001:db8::1]",
    "0x7f000001",
    "2130706433",
    "127.1",
    "",
    "localhost localhost",
    "localhost:port",
]


@pytest.mark.parametrize("host", HOSTS)
@trio_test
async def test_another_host_is_refused(tmp_path: Path, host: str) -> None:
    async with attack(tmp_path) as client:
        answer = await client.ask(HONEST, headers={"host": host})
        assert answer.status == 403
        assert answer.error() == (-32006, "BAD_HOST")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.9.9.9:80", "[::1]"])
@trio_test
async def test_this_machine_is_an_allowed_host(tmp_path: Path, host: str) -> None:
    async with attack(tmp_path) as client:
        assert (await client.ask(HONEST, headers={"host": host})).status == 200


@trio_test
async def test_a_host_is_named_once(tmp_path: Path) -> None:
    async with attacked(tmp_path) as node:
        async with raw(node.bound.port) as client:
            await client.send(b"POST /rpc HTTP/1.0\r\ncontent-length: 0\r\n\r\n")
            assert (await client.answer()).error() == (-32006, "BAD_HOST")
        async with raw(node.bound.port) as client:
            await client.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nhost: evil\r\n\r\n")
            assert (await client.answer()).status == 400
        async with raw(node.bound.port) as client:
            await client.send(b"GET /healthz HTTP/1.1\r\n\r\n")
            assert (await client.answer()).status == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
@trio_test
async def test_web_pages_of_other_origins_are_refused(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    async with attack(tmp_path) as client:
        answer = await client.ask(HONEST, headers=headers)
        assert answer.status == 403
        assert answer.error() == (-32006, "BAD_ORIGIN")
        assert "access-control-allow-origin" not in answer.headers


@trio_test
async def test_the_own_origin_is_served(tmp_path: Path) -> None:
    async with attack(tmp_path) as client:
        own = {"origin": f"http://{client.host}", "sec-fetch-site": "same-origin"}
        assert (await client.ask(HONEST, headers=own)).status == 200


def basic(pair: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


@pytest.mark.parametrize(
    "headers",
    [
        basic("__cookie__:" + "0" * 64),
        basic("__cookie__"),
        basic(""),
        basic(":"),
        basic("admin:admin"),
        {"authorization": "Basic ???"},
        {"authorization": "Basic /w=="},
        {"authorization": "Bearer 0000"},
        {"authorization": "Bearer"},
        {"authorization": ""},
        {"authorization": "Digest username=admin"},
        {"authorization": "Basic " + "A" * 8000},
    ],
)
@trio_test
async def test_wrong_credentials_are_refused_even_for_public_methods(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    async with attack(tmp_path) as client:
        answer = await client.ask(HONEST, headers=headers)
        assert answer.status == 401
        assert answer.error() == (-32005, "UNAUTHORIZED")
        assert answer.headers["www-authenticate"].startswith("Basic ")


@trio_test
async def test_without_credentials_there_is_no_wallet(tmp_path: Path) -> None:
    pay = call("test.pay", ["00" * 32, "1.5"])
    async with attack(tmp_path) as client:
        answer = await client.ask(pay)
        assert (answer.status, *answer.error()) == (401, -32005, "UNAUTHORIZED")
        answer = await client.ask(b"[" + HONEST + b"," + pay + b"]")
        assert [("error" in reply) for reply in answer.json()] == [False, True]
        assert (await client.ask(verb="GET", path="/events")).status == 401


@trio_test
async def test_an_announced_oversize_is_refused_unread(tmp_path: Path) -> None:
    async with attack(tmp_path) as client:
        limit = CallLimits().body_bytes
        await client.send(client.request(headers={"content-length": str(limit + 1)}))
        answer = await client.answer()
        assert (answer.status, *answer.error()) == (413, -32008, "TOO_LARGE")
        assert await client.closed() == b""


@trio_test
async def test_an_oversize_in_chunks_is_refused(tmp_path: Path) -> None:
    async with attack(tmp_path) as client:
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        await client.send(client.request(headers={"transfer-encoding": "chunked"}))
        await client.send(chunk * 40)
        answer = await client.answer()
        assert (answer.status, *answer.error()) == (413, -32008, "TOO_LARGE")


@trio_test
async def test_an_oversize_sent_whole_is_answered_before_the_close(tmp_path: Path) -> None:
    async with attack(tmp_path) as client:
        body = b" " * (CallLimits().body_bytes + 500_000)
        await client.send(client.request(body))
        answer = await client.answer()
        assert answer.status == 413
        assert answer.headers["connection"] == "close"


@trio_test
async def test_a_slow_header_is_closed(tmp_path: Path) -> None:
    async with attacked(tmp_path, header_seconds=0.2) as node, raw(node.bound.port) as client:
        dribbled = 0
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:

                async def dribble() -> None:
                    nonlocal dribbled
                    for byte in client.request(HONEST):
                        await client.send(bytes([byte]))
                        dribbled += 1
                        await trio.sleep(0.02)

                nursery.start_soon(dribble)
                assert await client.closed() == b""
                nursery.cancel_scope.cancel()
        assert dribbled < len(client.request(HONEST))


@trio_test
async def test_a_slow_body_is_answered_and_closed(tmp_path: Path) -> None:
    async with attack(tmp_path, body_seconds=0.2) as client:
        await client.send(client.request(headers={"content-length": "100"}) + b"{")
        answer = await client.answer()
        assert (answer.status, *answer.error()) == (408, -32007, "TIMED_OUT")
        assert await client.closed() == b""


@trio_test
async def test_a_client_that_does_not_read_is_dropped(tmp_path: Path) -> None:
    async with attacked(tmp_path, write_seconds=0.2) as node, raw(node.bound.port) as client:
        asking = client.request(call("test.long", [8_000_000]), headers=owner(tmp_path))
        await client.send(asking)
        await until(lambda: any(entry["event"] == "rpc.slow_client" for entry in node.log))
        assert len(await client.closed()) < 8_000_000


@trio_test
async def test_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    async with attack(tmp_path) as client:
        await client.send(
            b"".join(client.request(call("test.echo", [n], identity=n)) for n in range(50))
        )
        for n in range(50):
            assert (await client.answer()).json()["id"] == n


@trio_test
async def test_no_second_request_hides_behind_a_refused_one(tmp_path: Path) -> None:
    async with attack(tmp_path) as client:
        smuggled = client.request(call("test.echo", ["smuggled"]))
        await client.send(client.request(smuggled, headers={"host": "evil.example"}))
        assert (await client.answer()).status == 403
        assert await client.closed() == b""


@pytest.mark.parametrize(
    "data",
    [
        b"\x00" * 100,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 600,
        b"GET / HTTP/1.1\r\nhost: localhost\r\n bad folding\r\n\r\n\x00\xff",
        b"POST /rpc HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        b"POST /rpc HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST /rpc HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: gzip\r\n\r\n",
        b"POST /rpc HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzzz\r\n",
        b"POST /rpc HTTP/9.9\r\nhost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00" * 32,
        b"GET /healthz HTTP/1.1\r\n" + b"x: y\r\n" * 5000 + b"\r\n",
        b"GET /" + b"a" * 40_000,
        b"A" * 40_000,
    ],
)
@trio_test
async def test_what_is_no_http_is_closed(tmp_path: Path, data: bytes) -> None:
    async with attack(tmp_path, header_seconds=0.5) as client:
        await client.send(data)
        answer = await client.closed()
        assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5"))


@trio_test
async def test_there_is_no_way_out_of_http_1(tmp_path: Path) -> None:
    async with attack(tmp_path) as client:
        upgrades = [
            {"connection": "Upgrade", "upgrade": "h2c", "http2-settings": "AAMAAABkAARAAAAA"},
            {
                "connection": "Upgrade",
                "upgrade": "websocket",
                "sec-websocket-version": "13",
                "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
            },
        ]
        for headers in upgrades:
            answer = await client.ask(verb="GET", path="/healthz", headers=headers)
            assert answer.status == 200


@trio_test
async def test_compressed_bodies_are_not_read(tmp_path: Path) -> None:
    async with attack(tmp_path) as client:
        answer = await client.ask(HONEST, headers={"content-encoding": "gzip"})
        assert answer.status == 415


@trio_test
async def test_many_idle_connections_do_not_lock_others_out(tmp_path: Path) -> None:
    async with (
        attacked(tmp_path, connections=8) as node,
        trio.open_nursery() as nursery,
    ):

        async def squat(task_status: trio.TaskStatus[None]) -> None:
            async with raw(node.bound.port) as client:
                await client.send(b"POST /rpc HTTP/1.1\r\n")
                task_status.started()
                await client.closed()

        for _ in range(30):
            await nursery.start(squat)
            assert await node.client.call("test.echo", [1]) == 1
        statistics = node.server.statistics().connections
        assert statistics.connections <= 8
        assert statistics.evicted > 0
        assert statistics.turned_away == 0
        nursery.cancel_scope.cancel()


@trio_test
async def test_clients_that_send_slowly_do_not_lock_others_out(tmp_path: Path) -> None:
    async with attacked(tmp_path, connections=8) as node, AsyncExitStack() as stack:
        for _ in range(8):
            slow = await stack.enter_async_context(raw(node.bound.port))
            await slow.send(slow.request(call("test.echo", [1]))[:-1])
        await until(lambda: node.server.statistics().connections.connections == 8)
        for _ in range(20):
            assert await node.client.call("test.echo", [1]) == 1
        statistics = node.server.statistics().connections
        assert statistics.evicted > 0
        assert statistics.turned_away == 0


@trio_test
async def test_clients_that_do_not_read_do_not_lock_others_out(tmp_path: Path) -> None:
    async with attacked(tmp_path, connections=8) as node, AsyncExitStack() as stack:
        for number in range(8):
            slow = await stack.enter_async_context(raw(node.bound.port))
            # The first has credentials: it goes last.
            credentials = owner(tmp_path) if number == 0 else {}
            size = 8_000_000 if number == 0 else 1_000_000
            asking = slow.request(call("test.long", [size]), headers=credentials)
            await slow.send(asking * 20)
            if number == 0:
                known = slow
        await until(lambda: node.server.statistics().connections.connections == 8)
        await until(lambda: long_calls(node) >= 8)
        for _ in range(20):
            assert await node.client.call("test.echo", [1]) == 1
        statistics = node.server.statistics().connections
        assert statistics.evicted > 0
        assert statistics.turned_away == 0
        assert len((await known.answer()).json()["result"]) == 8_000_000


@trio_test
async def test_answers_that_nobody_takes_have_one_budget(tmp_path: Path) -> None:
    async with (
        attacked(tmp_path, unsent_bytes=40_000_000) as node,
        AsyncExitStack() as stack,
    ):
        for _ in range(12):
            slow = await stack.enter_async_context(raw(node.bound.port))
            await slow.send(slow.request(call("test.long", [8_000_000]), headers=owner(tmp_path)))
        await until(lambda: node.server.statistics().connections.evicted > 0)
        await until(lambda: long_calls(node) == 12)
        assert node.server.statistics().connections.unsent_bytes <= 40_000_000
        assert await node.client.call("test.echo", [1]) == 1


@trio_test
async def test_the_owners_socket_has_places_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "own"

    def change(settings: RpcSettings) -> RpcSettings:
        return replace(settings, socket=path, http=replace(HttpLimits(), connections=2))

    async with (
        running(tmp_path, change=change) as node,
        raw(node.bound.port) as first,
        raw(node.bound.port) as second,
    ):
        for client in (first, second):
            await client.send(client.request(call("test.wait")))
        await until(lambda: node.room.waiting == 2)
        async with raw(node.bound.port) as third:
            assert (await third.answer()).status == 503
        for _ in range(3):
            async with await trio.open_unix_socket(str(path)) as stream:
                client = RawClient(stream, "localhost")
                assert (await client.ask(HONEST)).json()["result"] == "honest"
        node.room.gate.set()


@trio_test
async def test_beyond_busy_connections_others_are_asked_to_come_back(tmp_path: Path) -> None:
    async with (
        attacked(tmp_path, connections=2) as node,
        raw(node.bound.port) as first,
        raw(node.bound.port) as second,
    ):
        for client in (first, second):
            await client.send(client.request(call("test.wait")))
        await until(lambda: node.room.waiting == 2)
        async with raw(node.bound.port) as third:
            answer = await third.answer()
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        node.room.gate.set()
        for client in (first, second):
            assert (await client.answer()).json()["result"] is True
        assert node.server.statistics().connections.turned_away == 1


@trio_test
async def test_a_queue_of_calls_has_an_end(tmp_path: Path) -> None:
    def change(settings: RpcSettings) -> RpcSettings:
        return replace(settings, calls=replace(settings.calls, calls=1, queued=1))

    async with running(tmp_path, change=change) as node, trio.open_nursery() as nursery:
        results: list[bool] = []

        async def wait() -> None:
            results.append(await node.client.call("test.wait"))

        nursery.start_soon(wait)
        await until(lambda: node.room.waiting == 1)
        async with raw(node.bound.port) as queued, raw(node.bound.port) as refused:
            await queued.send(queued.request(HONEST, headers=owner(tmp_path)))
            await trio.testing.wait_all_tasks_blocked(0.05)
            answer = await refused.ask(HONEST, headers=owner(tmp_path))
            assert (answer.status, *answer.error()) == (429, -32004, "BUSY")
            assert answer.headers["retry-after"] == "1"
            assert answer.json()["error"]["data"]["retry_after"] == 1
            node.room.gate.set()
            assert (await queued.answer()).status == 200
        assert (await node.client.call("test.echo", [1])) == 1
    assert results == [True]


@trio_test
async def test_a_long_poll_ends_with_its_caller(tmp_path: Path) -> None:
    async with attacked(tmp_path) as node:
        async with raw(node.bound.port) as client:
            await client.send(client.request(call("test.poll")))
            await until(lambda: node.room.waiting == 1)
        await until(lambda: node.room.waiting == 0)


@trio_test
async def test_a_connection_cut_anywhere_harms_nothing(tmp_path: Path) -> None:
    async with attacked(tmp_path) as node:
        request = RawClient(None, "127.0.0.1").request(HONEST)  # type: ignore[arg-type]
        for cut in range(0, len(request), 7):
            async with raw(node.bound.port) as client:
                await client.send(request[:cut])
        async with raw(node.bound.port) as client:
            await client.send(request)
            await client.stream.send_eof()
            assert (await client.answer()).json()["result"] == "honest"


@trio_test
async def test_rejections_are_counted_and_logged_without_what_was_sent(tmp_path: Path) -> None:
    async with attacked(tmp_path) as node, raw(node.bound.port) as client:
        await client.ask(HONEST, headers=basic("__cookie__:sesame-open"))
        assert node.server.statistics().rejected == {"UNAUTHORIZED": 1}
        rejected = [entry for entry in node.log if entry["event"] == "rpc.rejected"]
        assert rejected == [
            {
                "level": "info",
                "event": "rpc.rejected",
                "error": "UNAUTHORIZED",
                "client": "127.0.0.1",
            }
        ]


def test_access_levels_are_ordered() -> None:
    assert Access.PUBLIC < Access.READ < Access.MINE < Access.FULL
