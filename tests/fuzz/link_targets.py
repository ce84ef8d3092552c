"""What a peer says on a link, as targets: TLS records, multistream, Yamux frames, and sequences of
requests and gossip to a whole node."""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, Final, TypeVar

import structlog
import trio
from libp2p.io.exceptions import IOException
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamError

from tests.framework.async_tests import quiet_seeds, run_virtual
from tests.framework.p2p_wire import MemoryWire, wires
from tests.framework.simulation.simnet import SimNet
from tests.framework.wire_document import EXCHANGES, Chain, examples
from tests.fuzz.target import FuzzTarget
from unchained.node.base.clock import TrioClock
from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.params import REG
from unchained.node.primitives.codec import encode
from unchained.node.transport.contract import RequestError, TopicLimits, TransportError, Verdict
from unchained.node.transport.identity import Identity
from unchained.node.transport.libp2p.budget import NodeBudget
from unchained.node.transport.libp2p.pace import Pace
from unchained.node.transport.libp2p.secured import FloodError, NotSecuredError
from unchained.node.transport.libp2p.streams import (
    MULTISTREAM,
    ProtocolNotServedError,
    StreamFaultError,
    agree,
    varint,
)
from unchained.node.transport.libp2p.tls import TLS_PROTOCOL, Tls
from unchained.node.transport.libp2p.tls_records import TlsRecords
from unchained.node.transport.libp2p.yamux import (
    YAMUX_PROTOCOL,
    FrameFaultError,
    Yamux,
    YamuxGuard,
    apply_mends,
)
from unchained.node.wire import limits
from unchained.node.wire.limits import name_of

T = TypeVar("T")

HEARD_S: Final = 90.0
"""Virtual seconds that a link is listened to."""


def in_virtual_time(main: Callable[[], Awaitable[T]]) -> T:
    """Return what comes of it; an exception of a group of one is raised by itself."""
    with quiet_seeds():
        try:
            return run_virtual(main)
        except BaseExceptionGroup as group:
            if len(group.exceptions) == 1:
                raise group.exceptions[0] from None
            raise


@contextmanager
def no_error_logged() -> Iterator[None]:
    """Fail in the end if somebody has logged an error."""
    failed: list[Any] = []

    def note(_logger: object, level: str, event: Any) -> Any:
        if level in ("error", "critical") or event.get("exc_info"):
            failed.append(event)
        raise structlog.DropEvent

    structlog.configure(processors=[note], wrapper_class=structlog.make_filtering_bound_logger(40))
    try:
        yield
    finally:
        structlog.reset_defaults()
    assert not failed, failed


async def _said(raw: bytes) -> MemoryWire:
    """Return an end at which a peer has said some bytes and nothing more."""
    mine, theirs = wires()
    await theirs.write(raw)
    await theirs.close()
    return mine


# TLS


def _count_records(raw: bytes) -> list[int]:
    """Return where the records that are given at once end; however they are cut, it is there that
    a plain reading of the heads says."""
    step, raw = 1 + int.from_bytes(raw[:2], "big"), raw[2:]

    async def main() -> list[int]:
        records, at, ends = TlsRecords(Pace(None), trio.current_time()), 0, []
        while at < len(raw):
            taken = records.take(raw[at : at + step])
            assert 0 < taken <= step, "bytes are taken until so many records are whole"
            at += taken
            if taken < step:
                ends.append(at)
                while records.is_unread:
                    records.note_data()
                await records.spend(trio.current_time())
        return ends

    whole, at = {0}, 0
    while at + 5 <= len(raw):
        at += 5 + int.from_bytes(raw[at + 3 : at + 5], "big")
        whole.add(at)
    ends = in_virtual_time(main)
    assert whole.issuperset(ends[:-1]), "it ends where no record ends"
    return ends


@cache
def _end(number: int) -> Tls:
    return Tls(Identity.from_seed(bytes([number]) * 32), TrioClock(0), YAMUX_PROTOCOL)


def _answer_handshake(raw: bytes) -> object:
    async def main() -> object:
        wire: Any = await _said(raw)
        end = _end(1)
        return await end.finish(end.start(wire, Pace(None), is_initiator=False), None)

    return in_virtual_time(main)


def _hello() -> bytes:
    async def main() -> bytes:
        wire: Any = await _said(b"")
        return _end(2).start(wire, Pace(None), is_initiator=True).hello()

    return in_virtual_time(main)


# Multistream


def _line(text: bytes) -> bytes:
    return varint(len(text) + 1) + text + b"\n"


def _agree(raw: bytes) -> str:
    async def main() -> str:
        return await agree(await _said(raw), (TLS_PROTOCOL,))

    return in_virtual_time(main)


# Yamux


class _Frames:
    """A session, and the socket below it, on which a peer has sent its frames."""

    is_initiator = False
    unsent = 0

    def __init__(self, wire: MemoryWire, size: int) -> None:
        self._wire = wire
        self.received = size

    async def read(self, n: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        return await self._wire.read(n)

    async def write(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()

    async def room(self) -> None:
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        await self._wire.close()

    def abort(self) -> None:
        self._wire._is_closed = True


def _carry_frames(raw: bytes) -> FrameFaultError | None:
    """Return the fault that ends a link, if one does; streams that are opened are read."""
    apply_mends()

    async def main() -> FrameFaultError | None:
        frames: Any = _Frames(await _said(raw), len(raw))
        budget = NodeBudget()
        guard = YamuxGuard(frames, frames, budget, Pace(budget.work))
        muxer = Yamux(guard, ID(b"peer"))

        async def read() -> None:
            with suppress(MuxedConnUnavailable):
                while True:
                    stream = await muxer.accept_stream()
                    with suppress(MuxedStreamError):
                        await stream.read(64)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(budget.work.run)
            nursery.start_soon(muxer.start)
            nursery.start_soon(read)
            await trio.sleep(HEARD_S)
            held = sum(map(len, muxer.stream_buffers.values()))
            assert held <= len(raw), "more is held than came"
            await guard.close()
            nursery.cancel_scope.cancel()
        return guard.fault

    return in_virtual_time(main)


def _frame(kind: int, flags: int, stream: int, length: int, body: bytes = b"") -> bytes:
    return struct.pack("!BBHII", 0, kind, flags, stream, length) + body


# Sequences of messages

_PLACES: Final = (*(one.name for one in limits.EXCHANGES), *(one.name for one in limits.TOPICS))
MESSAGES_MAX: Final = 24
_HEAD: Final = 4


def _message(place: str, data: bytes) -> bytes:
    return bytes([_PLACES.index(place), 0]) + len(data).to_bytes(2, "big") + data


def _messages(raw: bytes) -> Iterator[tuple[str, int, bytes]]:
    """Yield where each message goes, after how many tenths of a second, and its bytes."""
    for _ in range(MESSAGES_MAX):
        if len(raw) < _HEAD:
            return
        end = _HEAD + int.from_bytes(raw[2:_HEAD], "big")
        yield _PLACES[raw[0] % len(_PLACES)], raw[1], raw[_HEAD:end]
        raw = raw[end:]


def _talk(raw: bytes) -> list[str]:
    """Return what a whole node said to each message of a peer; in the end it still answers another
    peer, and nothing of its own has failed."""

    async def main() -> list[str]:
        said = []
        async with SimNet(1, params=REG).running() as net:
            node = net.node()
            await node.start()
            genesis = genesis_of(REG).id

            async def hear(_peer: object, _data: bytes) -> Verdict:
                return Verdict.IGNORE

            peer = net.transport("peer", "66.6.0.6")
            for topic in limits.TOPICS:
                peer.subscribe(name_of(genesis, topic.name), hear, TopicLimits(max_size=1 << 20))
            await net.run_transport(peer)
            await peer.connect(node.transport.address)
            await trio.sleep(2)
            for place, wait, data in _messages(raw):
                await trio.sleep(wait / 10)
                try:
                    if place in EXCHANGES:
                        answer = await peer.request(
                            node.transport.id, name_of(genesis, place), data,
                            max_response=1 << 24, timeout=20.0,
                        )  # fmt: skip
                        said.append(f"{place}: {answer[:1].hex()}")
                    else:
                        await peer.publish(name_of(genesis, place), data)
                        said.append(place)
                except (RequestError, TransportError) as error:
                    said.append(type(error).__name__)
            await trio.sleep(5)
            other = net.transport("other", "67.6.0.6")
            await net.run_transport(other)
            await other.connect(node.transport.address)
            answer = await other.request(
                node.transport.id, name_of(genesis, "status"), _status(),
                max_response=1 << 16, timeout=20.0,
            )  # fmt: skip
            assert answer[:1] == b"\0", f"another peer's status is answered by {answer[:8].hex()}"
        return said

    with no_error_logged():
        return in_virtual_time(main)


@cache
def _status() -> bytes:
    request, _ = examples(Chain())["status"]
    return encode(request)


def _conversations() -> Iterator[bytes]:
    chain = Chain()
    requests = [(name, encode(request)) for name, (request, _) in examples(chain).items()]
    yield b"".join(_message(name, data) for name, data in requests)
    coin = bytes(chain.coin.raw)
    yield b"".join(_message(topic.name, coin) for topic in limits.TOPICS)
    yield _message("coin", coin[:-1]) + b"".join(_message(*one) for one in requests[:2])


def link_targets() -> Iterator[FuzzTarget]:
    """Yield the targets."""
    record = b"\x17\x03\x03\x00\x04data"
    yield FuzzTarget(
        "tls-records", _count_records, (FloodError,),
        lambda: (b"\0\7" + record * 3, b"\xff\xff" + record * 70, b"\0\0" + b"\x16\x03\1\0\0" * 9),
        draws=20,
    )  # fmt: skip
    yield FuzzTarget(
        "tls-handshake", _answer_handshake, (NotSecuredError, IOException),
        lambda: (_hello(), _hello()[:100], record), draws=10,
    )  # fmt: skip
    greeting = _line(MULTISTREAM.encode())
    yield FuzzTarget(
        "multistream", _agree, (StreamFaultError, ProtocolNotServedError, IOException),
        lambda: (
            greeting + _line(TLS_PROTOCOL.encode()),
            greeting + _line(b"/noise") + _line(TLS_PROTOCOL.encode()),
            greeting + _line(b"ls"),
        ),
        draws=20,
    )  # fmt: skip
    yield FuzzTarget(
        "yamux", _carry_frames, (),
        lambda: (
            _frame(1, 1, 1, 0) + _frame(0, 0, 1, 5, b"hello") + _frame(0, 4, 1, 0),
            _frame(0, 1, 1, 3, b"abc") + _frame(1, 8, 1, 0) + _frame(2, 1, 0, 7),
            _frame(1, 1, 2, 0), _frame(0, 0, 3, 1, b"x"), _frame(3, 0, 0, 0),
        ),
        draws=15,
    )  # fmt: skip
    yield FuzzTarget("conversation", _talk, (), _conversations, draws=3)
