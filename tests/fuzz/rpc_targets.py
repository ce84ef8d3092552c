"""What a client sends to a node's RPC server, as targets: JSON-RPC from its bytes to the methods of
a whole node, HTTP on a connection, and the fields of queries and forms."""

from __future__ import annotations

import re
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
import trio
from starlette.types import Message, Scope

from tests.framework.answering_node import Process, answering
from tests.framework.programs.network import nodes_of
from tests.framework.simulation.seeded_randomness import SeededRandomness
from tests.framework.simulation.simnet import SimNet
from tests.fuzz.link_targets import in_virtual_time, no_error_logged
from tests.fuzz.programs import written
from tests.fuzz.target import FuzzTarget
from unchained.node.consensus.params import REG
from unchained.node.rpc.core.dispatcher import Answer, Dispatcher, read_json
from unchained.node.rpc.core.errors import RpcError
from unchained.node.rpc.core.registry import Registry
from unchained.node.rpc.core.rights import NODE_OWNER, STRANGER, Caller
from unchained.node.rpc.http.rpc_settings import RpcSettings
from unchained.node.rpc.http.server import Server
from unchained.node.rpc.node_server import TRANSLATIONS
from unchained.node.rpc.web.forms import query_of, read_form

REQUESTS_MAX: Final = 48
"""Requests of one input, which a zero byte parts."""

NOT_CALLED: Final = frozenset(
    {
        "db.backup",
        "debug.memory",
        "debug.trace",
        "mine.benchmark",
        "mine.generate",
        "wallet.backup",
        "wallet.create",
    }
)
"""Methods that write files where a caller says, or take as long as he says: they are unknown."""

WALLET: Final = "default"


class _Reachable(Registry):
    """A node's methods but for some."""

    def __init__(self, registry: Registry) -> None:
        super().__init__()
        self._methods = {name: one for name, one in registry.items() if name not in NOT_CALLED}


@cache
def _rows() -> dict[bytes, bytes]:
    """Return the store of a node on a chain with payments."""
    node, _ = nodes_of(written()["connected"])
    return dict(node.core.store.items())


@asynccontextmanager
async def _node(settings: RpcSettings | None, folder: Path) -> AsyncIterator[Server]:
    """Run a node that knows a chain, and has a wallet."""
    async with SimNet(1, params=REG).running() as net:
        node = net.node()
        node.disk.values.update(_rows())
        await node.start()
        server = await answering(
            net, node, folder, Process(), settings=settings, randomness=SeededRandomness("rpc")
        )
        made = await server.dispatcher.answer(
            _request("wallet.create", {"passphrase": "pass"}), NODE_OWNER
        )
        assert b'"result"' in made.body, made.body
        yield server


def _request(method: str, params: object, **fields: object) -> bytes:
    return msgspec.json.encode(
        {"jsonrpc": "2.0", "id": 1, "method": method, "params": params, **fields}
    )


# JSON-RPC


def _call(raw: bytes) -> list[str]:
    """Return what each request was answered with, by a stranger and by the node's owner: `result`,
    or the error's word. An answer has the form of one, and no method fails inside the node."""

    async def main() -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            async with _node(None, Path(folder)) as server:
                dispatcher = Dispatcher(
                    _Reachable(server.dispatcher.registry),
                    limits=RpcSettings(Path(folder)).calls,
                    log=structlog.get_logger(),
                    translations=TRANSLATIONS,
                )
                said = []
                for body in raw.split(b"\0")[:REQUESTS_MAX]:
                    for caller in (STRANGER, NODE_OWNER):
                        said += await _answer(dispatcher, body, caller)
                return said

    with no_error_logged():
        return in_virtual_time(main)


async def _answer(dispatcher: Dispatcher, body: bytes, caller: Caller) -> list[str]:
    answer = await dispatcher.answer(body, caller)
    try:
        asked = read_json(body, 32)
    except RpcError:
        asked = None
    return words_of(asked, answer)


def words_of(asked: object, answer: Answer) -> list[str]:
    """Return what an answer says to each request: `result`, or the error's word. Fails where it is
    not in the form of JSON-RPC."""
    if not answer.body:
        assert answer.status == 204, f"nothing, with the status {answer.status}"
        return []
    given: Any = msgspec.json.decode(answer.body)
    is_batch = isinstance(given, list)
    replies = given if is_batch else [given]
    requests = asked if isinstance(asked, list) else [asked]
    assert not is_batch or isinstance(asked, list), "a batch nobody asked for"
    assert len(replies) <= max(1, len(requests)), "more answers than requests"
    ids = [one.get("id") for one in requests if isinstance(one, dict)]
    return [_word(reply, ids) for reply in replies]


def _word(reply: Any, ids: list[object]) -> str:
    is_earlier = "jsonrpc" not in reply
    assert is_earlier or reply["jsonrpc"] == "2.0", reply
    assert reply["id"] is None or reply["id"] in ids, reply
    error = reply.get("error")
    if error is None:
        assert reply.keys() == ({"result", "error", "id"} if is_earlier else _GOOD), reply
        return "result"
    assert reply.keys() == ({"result", "error", "id"} if is_earlier else _BAD), reply
    assert error.keys() == {"code", "message", "data"}, reply
    assert isinstance(error["code"], int), reply
    text, word = error["message"], error["data"]["error"]
    assert len(text.splitlines()) == 1, reply
    assert word.isupper(), reply
    assert word != "INTERNAL_ERROR", reply
    return str(word)


_GOOD: Final = {"jsonrpc", "result", "id"}
_BAD: Final = {"jsonrpc", "error", "id"}


def _requests() -> Iterator[bytes]:
    """Yield requests: alone, in batches, as Bitcoin's clients send them, and those that are none;
    then every method, without parameters and with some."""
    call = _request("chain.tip", {})
    yield b"\0".join((call, _request("chain.anchor", [1]), _request("chain.anchor", {"anchor": 2})))
    yield b"[" + b",".join((call, b"1", b"{}", call.replace(b'"id":1,', b""))) + b"]"
    yield b'{"method":"getblockcount","id":"a"}\0{"jsonrpc":"1.1","method":"chain.tip","id":null}'
    yield b'{"jsonrpc":"2.0","method":"chain.tip"}\0[]\0[[]]\0"a"\0{"a":1,"a":2}\0\xff\0nul'
    yield _request("wallet.unlock", {"passphrase": "pass"}) + b"\0" + _request("wallet.coins", {})
    yield _request("wallet.pay", {"to": "x", "amount": "1"}) + b"\0" + _request("wallet.list", 1)
    names = sorted(_names())
    for at in range(0, len(names), REQUESTS_MAX):
        some = names[at : at + REQUESTS_MAX]
        yield b"\0".join(_request(name, {}) for name in some)
        yield b"\0".join(_request(name, ["00" * 32, 1, "x"]) for name in some)


@cache
def _names() -> frozenset[str]:
    async def main() -> frozenset[str]:
        with tempfile.TemporaryDirectory() as folder:
            async with _node(None, Path(folder)) as server:
                return frozenset(server.dispatcher.registry) - NOT_CALLED

    return in_virtual_time(main)


# HTTP

ANSWERED_S: Final = 600.0
"""Virtual seconds after which whoever sent something is gone."""

_STATUS: Final = re.compile(rb"HTTP/1\.1 ([0-9]{3})")


def _send(raw: bytes) -> list[str]:
    """Return the status of each answer to what comes on a connection to the owner's socket; nothing
    fails inside the node, and afterwards another connection is still answered."""

    async def main() -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            socket = Path(folder, "s")
            settings = RpcSettings(Path(folder), socket=socket, wallet_page=True)
            async with _node(settings, Path(folder)) as server, trio.open_nursery() as nursery:
                await nursery.start(lambda task_status: server.serve(task_status=task_status))
                said = await _exchange(socket, raw)
                alive = await _exchange(socket, _http("GET /healthz"))
                assert alive.startswith(b"HTTP/1.1 200"), alive[:100]
                nursery.cancel_scope.cancel()
                return [status.decode() for status in _STATUS.findall(said)]

    with no_error_logged():
        return in_virtual_time(main)


async def _exchange(socket: Path, raw: bytes) -> bytes:
    said = b""
    async with await trio.open_unix_socket(socket) as stream:
        with trio.move_on_after(ANSWERED_S):
            try:
                await stream.send_all(raw)
                async for piece in stream:
                    said += piece
            except trio.BrokenResourceError:
                # Ended before all of it was read.
                pass
    return said


def _http(head: str, *lines: str, body: bytes = b"") -> bytes:
    rest = ("host: localhost", *lines, *([f"content-length: {len(body)}"] if body else ()))
    return "\r\n".join((f"{head} HTTP/1.1", *rest, "", "")).encode() + body


def _connections() -> Iterator[bytes]:
    call = _request("chain.tip", {})
    form = "content-type: application/x-www-form-urlencoded"
    yield _http("POST /rpc", body=call) + _http("GET /readyz") + _http("GET /nowhere")
    yield _http("POST /", "authorization: Bearer " + "0" * 64, body=call)
    yield _http("POST /rpc", "authorization: Basic X19jb29raWVfXzow", body=call)
    yield _http("POST /rpc", "transfer-encoding: chunked") + b"3\r\n{}\n\r\n0\r\n\r\n"
    yield _http("GET /events?since=1", "last-event-id: 3", "accept: text/event-stream")
    yield _http("GET /", "cookie: unchained_session=" + "0" * 64) + _http("GET /search?q=1")
    yield _http("GET /anchor/1") + _http("GET /tree?from=1&to=2") + _http("GET /mempool.json")
    yield _http("GET /compare?a=1&b=2") + _http("HEAD /charts") + _http("GET /replay?from=1")
    yield _http("POST /receipt", form, "origin: http://localhost", body=b"receipt=00&csrf=x")
    yield _http("POST /login", form, "origin: http://localhost", body=b"token=" + b"0" * 64)
    yield _http("POST /wallet/pay", form, "sec-fetch-site: same-origin", body=b"to=x&amount=1")
    yield b"GET / HTTP/1.0\r\n\r\n" + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


# Queries and forms


def _query(raw: bytes) -> dict[str, str]:
    return query_of({"type": "http", "query_string": raw})


def _form(raw: bytes) -> dict[str, str]:
    """Return the fields of a form whose body comes in pieces of the size that the first byte says,
    the last of them empty."""
    size, body = 1 + (raw[0] if raw else 0), raw[1:]
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    scope: Scope = {
        "type": "http",
        "headers": [
            (b"origin", b"http://localhost"),
            (b"content-type", b"application/x-www-form-urlencoded; charset=UTF-8"),
        ],
    }

    async def receive() -> Message:
        await trio.lowlevel.checkpoint()
        if pieces:
            return {"type": "http.request", "body": pieces.pop(0), "more_body": True}
        return {"type": "http.request", "body": b""}

    async def main() -> dict[str, str]:
        return await read_form(scope, receive)

    return in_virtual_time(main)


def rpc_targets() -> Iterator[FuzzTarget]:
    """Yield the targets."""
    yield FuzzTarget("json-rpc", _call, (), _requests, draws=4)
    yield FuzzTarget("http", _send, (), _connections, draws=6)
    fields = b"amount=1.5&to=%E2%82%AC+x&memo="
    yield FuzzTarget("query", _query, (RpcError,), lambda: (fields, b"a=1&a=2", b"a=%ff", b"&;="))
    yield FuzzTarget(
        "form", _form, (RpcError,), lambda: (b"\xff" + fields, b"\0" + fields, b"\0a=1&b=2&a=%zz")
    )
