"""A client that speaks to a port in raw bytes, as hostile as a test wants it to be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import trio
import trio.testing

PATIENCE = 20.0
"""Seconds after which a test gives up; no test depends on it."""


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An HTTP answer as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body, read as JSON."""
        return msgspec.json.decode(self.body)

    def error(self) -> tuple[int, str]:
        """Return code and word of the JSON-RPC error in the body."""
        error = self.json()["error"]
        return error["code"], error["data"]["error"]


class RawClient:
    """One connection."""

    def __init__(self, stream: trio.SocketStream, host: str) -> None:
        self.stream = stream
        self.host = host
        self._rest = b""

    def request(
        self,
        body: bytes | None = None,
        *,
        verb: str = "POST",
        path: str = "/rpc",
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Return the bytes of a well-formed request; `headers` replace the usual ones."""
        wanted = {"host": self.host}
        if body is not None:
            wanted["content-length"] = str(len(body))
        wanted |= dict(headers or {})
        lines = [f"{verb} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in wanted.items())]
        return "\r\n".join((*lines, "", "")).encode("latin-1") + (body or b"")

    async def send(self, data: bytes) -> None:
        """Send bytes, whether or not the server still listens."""
        try:
            await self.stream.send_all(data)
        except trio.BrokenResourceError:
            return

    async def ask(self, body: bytes | None = None, **request: Any) -> RawAnswer:
        """Send a request and return its answer."""
        await self.send(self.request(body, **request))
        return await self.answer(head=request.get("verb") == "HEAD")

    async def answer(self, *, head: bool = False) -> RawAnswer:
        """Return the next answer. Fails if the server closes first."""
        while b"\r\n\r\n" not in self._rest:
            await self._more()
        top, _, self._rest = self._rest.partition(b"\r\n\r\n")
        status, *lines = top.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        length = 0 if head else int(headers.get("content-length", 0))
        while len(self._rest) < length:
            await self._more()
        body, self._rest = self._rest[:length], self._rest[length:]
        return RawAnswer(int(status.split()[1]), headers, body)

    async def closed(self) -> bytes:
        """Return what comes until the server closes the connection."""
        data = self._rest
        with trio.fail_after(PATIENCE):
            try:
                while more := await self.stream.receive_some(65536):
                    data += more
            except trio.BrokenResourceError:
                pass
        return data

    async def until(self, mark: bytes) -> bytes:
        """Return what comes up to and with `mark`."""
        while mark not in self._rest:
            await self._more()
        found, _, self._rest = self._rest.partition(mark)
        return found + mark

    async def _more(self) -> None:
        with trio.fail_after(PATIENCE):
            data = await self.stream.receive_some(65536)
        if not data:
            raise AssertionError(f"closed by the server after {self._rest!r}")
        self._rest += data


@asynccontextmanager
async def raw(port: int) -> AsyncIterator[RawClient]:
    """Connect to a port of this machine."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        yield RawClient(stream, f"127.0.0.1:{port}")


async def until(condition: Callable[[], object]) -> None:
    """Return once `condition` holds; fail where it does not come to hold."""
    with trio.fail_after(PATIENCE):
        while not condition():
            await trio.testing.wait_all_tasks_blocked(0.01)


def call(name: str, params: Any = (), identity: Any = 1) -> bytes:
    """Return the body of a JSON-RPC request."""
    return msgspec.json.encode({"jsonrpc": "2.0", "id": identity, "method": name, "params": params})
