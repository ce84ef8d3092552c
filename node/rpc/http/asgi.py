"""Small ASGI pieces that the pages of the server share."""

from __future__ import annotations

from typing import Final

from starlette.types import Receive, Scope, Send

from unchained.node.rpc.core.dispatcher import Answer, refusal
from unchained.node.rpc.core.errors import RpcError
from unchained.node.rpc.core.rights import Caller

CALLER: Final = "unchained.caller"
"""Under which name a request's state says who asks."""

SESSION: Final = "unchained.session"
"""Under which name it holds the session's request that it is (`SessionRequest`), None if none."""

_PLAIN: Final = [
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
]


def header(scope: Scope, name: bytes) -> bytes | None:
    """Return the first header called `name` (lower case), or None."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


def headers(scope: Scope, name: bytes) -> list[bytes]:
    """Return every header called `name` (lower case)."""
    return [bytes(value) for key, value in scope["headers"] if key == name]


def caller_of(scope: Scope) -> Caller:
    """Return who asks."""
    caller: Caller = scope["state"][CALLER]
    return caller


async def disconnected(receive: Receive) -> None:
    """Return once the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_bytes(
    send: Send, status: int, body: bytes, extra: list[tuple[bytes, bytes]] | None = None
) -> None:
    """Answer with a body of JSON."""
    length = [] if status == 204 else [(b"content-length", str(len(body)).encode())]
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [*_PLAIN, *length, *(extra or ())],
        }
    )
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def send_answer(
    send: Send, answer: Answer, *, close: bool = False, allow: bytes | None = None
) -> None:
    """Answer a JSON-RPC request. close: end the connection after it, its body being unread.
    allow: the HTTP methods that would have been answered."""
    extra = []
    if allow is not None:
        extra.append((b"allow", allow))
    if answer.retry_after is not None:
        extra.append((b"retry-after", str(answer.retry_after).encode()))
    if answer.status == 401:
        extra.append((b"www-authenticate", b'Basic realm="unchained", charset="UTF-8"'))
    if close:
        extra.append((b"connection", b"close"))
    await send_bytes(send, answer.status, answer.body, extra)


async def send_error(
    send: Send,
    error: RpcError,
    *,
    status: int | None = None,
    close: bool = False,
    allow: bytes | None = None,
) -> None:
    """Answer with an error and its HTTP status, or another one."""
    answer = refusal(error)
    if status is not None:
        answer = Answer(status, answer.body, answer.retry_after)
    await send_answer(send, answer, close=close, allow=allow)
