"""A real RPC server on a free loopback port, with a room of sample methods, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
import structlog
import trio

from unchained.node.base.runner import InlineRunner, ThreadRunner
from unchained.node.primitives.errors import NonCanonicalError
from unchained.node.rpc.client.client import Endpoint
from unchained.node.rpc.client.trio_client import TrioClient
from unchained.node.rpc.core.dispatcher import Translation
from unchained.node.rpc.core.errors import NotFoundError, WalletRefusedError
from unchained.node.rpc.core.openrpc import registry
from unchained.node.rpc.core.registry import Access, method
from unchained.node.rpc.core.values import Amount, Hash, Hex, Secret
from unchained.node.rpc.http.criterion import Readiness
from unchained.node.rpc.http.event_streams import Entries, EventsGoneError, LogEntry
from unchained.node.rpc.http.rpc_settings import RpcSettings
from unchained.node.rpc.http.server import Bound, Server
from unchained.node.rpc.http.sessions import Sessions
from unchained.node.rpc.http.web_site import WebPage

Height = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1, description="anchors since genesis")]


NO_NOTE = Hex()


class Paid(msgspec.Struct, frozen=True):
    """What was paid."""

    txid: Hash
    value: Amount
    note: Hex


class Reports:
    """Gives the last of some reports of readiness."""

    def __init__(self) -> None:
        self.given = [Readiness(True, {"synced": "ok"})]

    def check(self) -> Readiness:
        return self.given[-1]


class SampleRoom:
    """Methods that show what a method can do."""

    def __init__(self) -> None:
        self.gate = trio.Event()
        """`test.wait` waits for it."""
        self.waiting = 0
        """How many calls of `test.wait` and `test.poll` are under way."""
        self.on_stop: Callable[[], None] = lambda: None
        """What `test.stop` calls."""

    @method("test.echo", Access.PUBLIC)
    async def echo(self, value: Any) -> Any:
        """Return what was given."""
        return value

    @method("test.height", Access.READ, errors=(NotFoundError,))
    async def height(self, height: Height, *, step: int = 1) -> int:
        """Return the height after `height`.

        A second paragraph says more.
        """
        if height > 1000:
            raise NotFoundError(f"no anchor at height {height}")
        return height + step

    @method("test.pay", Access.FULL, errors=(WalletRefusedError,))
    async def pay(self, txid: Hash, value: Amount, note: Hex = NO_NOTE) -> Paid:
        """Pay a value to no one."""
        return Paid(txid, value, note)

    @method("test.unlock", Access.FULL)
    async def unlock(self, passphrase: Secret, seconds: int | None = None) -> bool:
        """Unlock nothing; fails with the passphrase in the exception's text."""
        raise RuntimeError(f"cannot unlock with {passphrase.reveal()} for {seconds}")

    @method("test.rule", Access.PUBLIC)
    async def rule(self) -> None:
        """Break a rule of the protocol."""
        raise NonCanonicalError(expected=198, actual=b"\x01\x02")

    @method("test.grouped_rule", Access.PUBLIC)
    async def grouped_rule(self) -> None:
        """Break a rule of the protocol inside a nursery."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.rule)

    @method("test.bug", Access.PUBLIC)
    async def bug(self) -> None:
        """Fail as only a bug does."""
        raise ZeroDivisionError("a detail for the log alone")

    @method("test.other", Access.PUBLIC)
    async def other(self) -> None:
        """Fail with an error of another room."""
        raise LookupError("no such wallet")

    @method("test.unsayable", Access.PUBLIC)
    async def unsayable(self) -> Any:
        """Return what JSON cannot say."""
        return object()

    @method("test.long", Access.PUBLIC)
    async def long(self, size: int) -> str:
        """Return a long text."""
        return "x" * size

    @method("test.wait", Access.PUBLIC)
    async def wait(self) -> bool:
        """Wait for the gate."""
        return await self._wait()

    @method("test.stop", Access.FULL)
    async def stop(self) -> bool:
        """Stop the server, and be answered all the same."""
        self.on_stop()
        return True

    @method("test.slow", Access.PUBLIC, timeout=0.05)
    async def slow(self) -> bool:
        """Wait longer than the method may."""
        return await self._wait()

    @method("test.poll", Access.PUBLIC, timeout=60, long_poll=True)
    async def poll(self) -> bool:
        """Wait for the gate, for as long as the caller does."""
        return await self._wait()

    async def _wait(self) -> bool:
        self.waiting += 1
        try:
            await self.gate.wait()
        finally:
            self.waiting -= 1
        return True


class SampleLog:
    """A gapless log that tests write to."""

    def __init__(self, oldest: int = 1) -> None:
        self.oldest = oldest
        self.entries: list[LogEntry] = []
        self.readers = 0
        self._grown = trio.Event()

    def append(self, kind: str, data: Any) -> None:
        """Add an entry and wake the readers."""
        self.entries.append(LogEntry(self.oldest + len(self.entries), kind, data))
        self._grown.set()
        self._grown = trio.Event()

    @asynccontextmanager
    async def open(self, since: int | None) -> AsyncIterator[Entries]:
        """Follow the log."""
        if since is not None and since < self.oldest - 1:
            raise EventsGoneError(self.oldest, self.oldest + len(self.entries) - 1)
        index = len(self.entries) if since is None else since + 1 - self.oldest
        self.readers += 1
        reader = self._read(index)
        try:
            yield reader
        finally:
            self.readers -= 1
            await reader.aclose()

    async def _read(self, index: int) -> Any:
        while True:
            while part := self.entries[index:]:
                yield part
                index += len(part)
            await self._grown.wait()


@dataclass(slots=True)
class RunningServer:
    """A server that listens, and what it runs on."""

    server: Server
    bound: Bound
    directory: Path
    room: SampleRoom
    events: SampleLog
    log: list[dict[str, Any]]
    client: TrioClient
    stop: Callable[[], None]
    readiness: list[Readiness] = field(default_factory=list)


def captured() -> tuple[list[dict[str, Any]], Any]:
    """Return a list, and a logger whose events end up in it."""
    entries: list[dict[str, Any]] = []

    def keep(_logger: Any, level: str, event: MutableMapping[str, Any]) -> str:
        entries.append({"level": level, **event})
        raise structlog.DropEvent

    return entries, structlog.wrap_logger(None, processors=[keep])


@asynccontextmanager
async def running(
    directory: Path,
    *,
    change: Callable[[RpcSettings], RpcSettings] = lambda settings: settings,
    pages: Iterable[WebPage] = (),
    translations: Iterable[Translation] = (),
    sessions: Sessions | None = None,
) -> AsyncIterator[RunningServer]:
    """Run a server on a free port for as long as the context lasts.

    change: turns the default settings into those that the test wants.
    """
    room, events = SampleRoom(), SampleLog()
    entries, log = captured()
    readiness = Reports()
    server = Server(
        registry(room, version="0.1.0", runner=InlineRunner()),
        settings=change(RpcSettings(directory)),
        runner=ThreadRunner(2),
        log=log,
        readiness=readiness,
        events=events,
        pages=pages,
        translations=translations,
        sessions=sessions,
    )
    async with trio.open_nursery() as nursery:

        async def serve(task_status: trio.TaskStatus[Bound]) -> None:
            await server.serve(task_status=task_status)

        bound = await nursery.start(serve)
        room.on_stop = nursery.cancel_scope.cancel
        client = TrioClient(Endpoint.of(directory), timeout=20)
        yield RunningServer(
            server,
            bound,
            directory,
            room,
            events,
            entries,
            client,
            nursery.cancel_scope.cancel,
            readiness.given,
        )
        nursery.cancel_scope.cancel()
