"""Calls a URL of the operator's for every notice, signed, and again until it answers.

The body is JSON, the headers are those of Standard Webhooks (standardwebhooks.com): `webhook-id`,
`webhook-timestamp` (seconds since the Unix epoch) and `webhook-signature`, `v1,` and base64 of
HMAC-SHA256 over id, timestamp and body, joined by points.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ssl
from collections.abc import Mapping, Sequence
from typing import Final, Protocol
from urllib.parse import urlsplit

import h11
import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.base.clock import Clock
from unchained.node.notify.notice import Notice, TargetStatistics

ANSWER_S: Final = 15.0
"""Seconds within which the URL has to answer."""

RETRY_S_MIN: Final = 1.0
RETRY_S_MAX: Final = 300.0
"""Seconds before another attempt: the double each time."""

GIVE_UP_S: Final = 86_400.0
"""Seconds after which a notice is given up that the URL does not take."""

READ_BYTES_MAX: Final = 1 << 16
"""Bytes of an answer that are read; what it says does not matter."""

_AGAIN: Final = frozenset({408, 425, 429})
"""Answers of the family 4xx that mean: later."""


class UnreachableUrlError(Exception):
    """A URL did not answer; the message is one line without what the URL holds."""


class Poster(Protocol):
    """Makes one HTTP request."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """Send a body and return the status of the answer. Raises `UnreachableUrlError`."""


class UrlStatistics(TargetStatistics, frozen=True):
    """Notices so far: taken by the URL, given up; and attempts that failed."""

    delivered: int
    given_up: int
    failures: int


class UrlTarget:
    """Delivers notices to a URL. `secret` signs them; none: they are not signed."""

    name = "url"

    def __init__(
        self,
        url: str,
        *,
        secret: bytes | None,
        poster: Poster,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self._url = url
        self._secret = secret
        self._poster = poster
        self._clock = clock
        self._log = log
        self._delivered = self._given_up = self._failures = 0

    async def run(self) -> None:
        """Wait until cancelled: each delivery is made where it is asked for."""
        await trio.sleep_forever()

    async def deliver(self, notice: Notice) -> bool:
        """Call the URL until it takes the notice, refuses it for good, or a day is over."""
        body = msgspec.json.encode(body_of(notice))
        ends_at = trio.current_time() + GIVE_UP_S
        pause_s = RETRY_S_MIN
        while True:
            why = await self._attempt(notice, body)
            if why is None:
                self._delivered += 1
                return True
            self._failures += 1
            is_final = why.startswith("status 4") and int(why[7:]) not in _AGAIN
            if is_final or trio.current_time() + pause_s > ends_at:
                self._given_up += 1
                self._log.error(
                    "notify.url_refused", event_name=notice.event, notice=notice.id, why=why
                )
                return False
            if pause_s == RETRY_S_MIN:
                self._log.warning(
                    "notify.url_failed", event_name=notice.event, notice=notice.id, why=why
                )
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_S_MAX)

    def statistics(self) -> UrlStatistics:
        """Return a snapshot."""
        return UrlStatistics(self._delivered, self._given_up, self._failures)

    async def _attempt(self, notice: Notice, body: bytes) -> str | None:
        """Call the URL once; return what went wrong, None for nothing."""
        headers = headers_for(notice.id, self._clock.now_ms() // 1000, body, self._secret)
        try:
            status = await self._poster.post(self._url, headers, body)
        except UnreachableUrlError as error:
            return str(error)
        return None if 200 <= status < 300 else f"status {status}"


def body_of(notice: Notice) -> Mapping[str, object]:
    """Return what is sent for a notice."""
    return {
        "id": notice.id,
        "event": notice.event,
        "network": notice.network,
        "wallet": notice.wallet or None,
        "sequence": notice.sequence,
        "data": notice.data,
    }


def headers_for(
    notice_id: str, timestamp: int, body: bytes, secret: bytes | None
) -> Mapping[str, str]:
    """Return the headers of a request, with its signature if there is a secret."""
    headers = {
        "content-type": "application/json",
        "webhook-id": notice_id,
        "webhook-timestamp": str(timestamp),
    }
    if secret is not None:
        signed = b".".join((notice_id.encode(), str(timestamp).encode(), body))
        digest = hmac.digest(secret, signed, hashlib.sha256)
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


class HttpPoster:
    """Makes requests over HTTP/1.1, each on a connection of its own; redirects are not followed."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """Send a body and return the status of the answer. Raises `UnreachableUrlError`."""
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        host, port = parts.hostname or "", parts.port or (443 if secure else 80)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        fields = {"host": parts.netloc.rpartition("@")[2], "connection": "close", **headers}
        try:
            with trio.fail_after(ANSWER_S):
                stream = await self._connect(host, port, secure)
                async with stream:
                    request = h11.Request(
                        method="POST",
                        target=path,
                        headers=[*fields.items(), ("content-length", str(len(body)))],
                    )
                    return await _exchange(stream, (request, h11.Data(data=body)))
        except trio.TooSlowError:
            raise UnreachableUrlError(f"no answer within {ANSWER_S:g} s") from None
        except (OSError, trio.BrokenResourceError, ssl.SSLError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise UnreachableUrlError(f"cannot be reached: {reason}") from None
        except h11.ProtocolError:
            raise UnreachableUrlError("does not answer as HTTP/1.1 has it") from None

    async def _connect(self, host: str, port: int, secure: bool) -> trio.abc.Stream:
        if secure:
            context = ssl.create_default_context()
            return await trio.open_ssl_over_tcp_stream(host, port, ssl_context=context)
        return await trio.open_tcp_stream(host, port)


async def _exchange(stream: trio.abc.Stream, request: Sequence[h11.Request | h11.Data]) -> int:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=READ_BYTES_MAX)
    for part in (*request, h11.EndOfMessage()):
        await stream.send_all(connection.send(part) or b"")
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some(READ_BYTES_MAX)))
        elif isinstance(event, h11.Response):
            return event.status_code
        elif isinstance(event, h11.ConnectionClosed):
            raise h11.RemoteProtocolError("closed")
