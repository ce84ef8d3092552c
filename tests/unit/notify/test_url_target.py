"""A URL that is called for notices: what it is sent, and how often."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from functools import partial

import pytest
import trio

from tests.framework.wallet_node import CapturedLog
from unchained.node.base.clock import TrioClock
from unchained.node.notify.notice import Notice
from unchained.node.notify.url_target import (
    GIVE_UP_S,
    HttpPoster,
    UnreachableUrlError,
    UrlTarget,
)

LOG = "0123456789abcdef"
NOTICE = Notice(
    "reg", "invoice", "shop", 7, "invoice.paid", "ab" * 8, None, {"status": "paid"}, LOG
)
URL = "http://shop.example/hook"


class Posts:
    """Answers as it is told to, the last answer for ever, and keeps what it was sent."""

    def __init__(self, *answers: int | str) -> None:
        self._answers = list(answers)
        self.sent: list[tuple[float, Mapping[str, str], bytes]] = []

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        assert url == URL
        self.sent.append((trio.current_time(), headers, body))
        answer = self._answers[0] if len(self._answers) == 1 else self._answers.pop(0)
        if isinstance(answer, str):
            raise UnreachableUrlError(answer)
        return answer


def target(posts: Posts, secret: bytes | None = b"s" * 32) -> UrlTarget:
    log = CapturedLog().logger()
    return UrlTarget(URL, secret=secret, poster=posts, clock=TrioClock(5_000), log=log)


async def test_sends_json_that_is_signed() -> None:
    posts = Posts(204)
    assert await target(posts).deliver(NOTICE)
    ((_, headers, body),) = posts.sent
    assert json.loads(body) == {
        "id": "reg.0123456789abcdef.7",
        "event": "invoice.paid",
        "network": "reg",
        "wallet": "shop",
        "sequence": 7,
        "data": {"status": "paid"},
    }
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.digest(b"s" * 32, signed, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert headers["webhook-id"] == "reg.0123456789abcdef.7"
    posts = Posts(200)
    assert await target(posts, None).deliver(NOTICE)
    assert "webhook-signature" not in posts.sent[0][1]


async def test_calls_again_later_and_later_with_a_fresh_signature() -> None:
    posts = Posts("no answer", 500, 429, 200)
    told = target(posts)
    began = trio.current_time()
    assert await told.deliver(NOTICE)
    assert [at - began for at, _, _ in posts.sent] == [0, 1, 3, 7]
    assert len({headers["webhook-signature"] for _, headers, _ in posts.sent}) == 4
    assert len({headers["webhook-id"] for _, headers, _ in posts.sent}) == 1
    assert (told.statistics().delivered, told.statistics().failures) == (1, 3)


@pytest.mark.parametrize("status", [400, 404, 410])
async def test_what_is_refused_is_given_up(status: int) -> None:
    posts = Posts(status)
    told = target(posts)
    assert not await told.deliver(NOTICE)
    assert (len(posts.sent), told.statistics().given_up) == (1, 1)


async def test_gives_up_after_a_day() -> None:
    told = target(Posts("no answer"))
    began = trio.current_time()
    assert not await told.deliver(NOTICE)
    assert GIVE_UP_S - 301 < trio.current_time() - began <= GIVE_UP_S


@pytest.mark.real_time
async def test_over_real_http() -> None:
    seen: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            received = b""
            while b"\r\n\r\n{}" not in received:
                received += await stream.receive_some(4096)
            seen.append(received)
            await stream.send_all(answers.pop(0))

    answers = [
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"",
    ]
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        url = f"http://127.0.0.1:{port}/hook?to=me"
        assert await HttpPoster().post(url, {"webhook-id": "x"}, b"{}") == 302
        assert seen[0].startswith(b"POST /hook?to=me HTTP/1.1\r\n")
        assert f"Host: 127.0.0.1:{port}".encode().lower() in seen[0].lower()
        for _ in range(2):
            with pytest.raises(UnreachableUrlError):
                await HttpPoster().post(url, {}, b"{}")
        nursery.cancel_scope.cancel()
    with pytest.raises(UnreachableUrlError, match="cannot be reached"):
        await HttpPoster().post(url, {}, b"{}")
