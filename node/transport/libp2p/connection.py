"""One connection to a peer, from its first stream to its end."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, cast

import trio
from libp2p.io.exceptions import IOException
from libp2p.network.connection.exceptions import RawConnError
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamError
from libp2p.stream_muxer.yamux.yamux import YamuxStream

from unchained.node.base.token_bucket import TokenBucket
from unchained.node.transport import gossip_wire
from unchained.node.transport.contract import (
    DisconnectReason,
    Misbehaviour,
    PeerIdentified,
    PeerInfo,
)
from unchained.node.transport.gossip_limits import RPC_BYTES_MAX
from unchained.node.transport.gossip_router import Rpc
from unchained.node.transport.libp2p.identify import (
    IDENTIFY_PROTOCOL,
    Identified,
    echoes,
    read_message,
)
from unchained.node.transport.libp2p.pace import work_of
from unchained.node.transport.libp2p.streams import (
    MuxedStream,
    ProtocolNotServedError,
    StreamBrokenError,
    StreamFaultError,
    agree_on_stream,
    propose,
    propose_one_of,
    read_varint,
)
from unchained.node.transport.libp2p.upgrader import Upgraded
from unchained.node.transport.switchboard import Switchboard

NEGOTIATE_S: Final = 10.0
SERVED_STREAMS_MAX: Final = 64
"""Streams of one peer that are served at a time."""
REFUSED_STREAMS_BURST: Final = 1000
REFUSED_STREAMS_PER_S: Final = 10
"""Streams of one peer that are refused, at once and per second, before it is reported and dropped:
who has many requests under way for long is nobody who floods."""
IDENTIFIES_BURST: Final = 4
IDENTIFIES_PER_S: Final = 1 / 60
"""Times that a peer is told who we are: on a link once will do, and some ask every few minutes."""
WHOLE_READ_S: Final = 30.0
"""Seconds in which a request has to come whole, an RPC from its first byte on, and in which an
answer has to be taken."""
OUTBOX_RPCS_MAX: Final = 4096


class Connection:
    """A running connection to a peer."""

    def __init__(
        self,
        upgraded: Upgraded,
        info: PeerInfo,
        switchboard: Switchboard,
    ) -> None:
        self.info = info
        self.reason = DisconnectReason.REMOTE
        self._switchboard = switchboard
        self._upgraded = upgraded
        self._scope = trio.CancelScope()
        self._outbox: deque[Rpc] = deque()
        self._outbox_bytes = 0
        self._to_send = trio.Event()
        self._served = 0
        self._refusals = TokenBucket(
            REFUSED_STREAMS_BURST, REFUSED_STREAMS_PER_S, trio.current_time()
        )
        self._identifies = TokenBucket(IDENTIFIES_BURST, IDENTIFIES_PER_S, trio.current_time())
        self.pings = echoes()
        self._gossip_in: MuxedStream | None = None
        self.budget = upgraded.guard.budget
        """What peers may make the node hold and do, all together."""
        self.pace = upgraded.guard.pace

    def close(self, reason: DisconnectReason) -> None:
        """End the connection; the first reason given stands, and a frame fault before it."""
        if self._scope.cancel_called:
            return
        self._scope.cancel()
        self._upgraded.tcp.abort()
        self._count_outbox()
        self.reason = reason
        fault = self._upgraded.guard.fault
        if fault is not None:
            self.reason = DisconnectReason.MISBEHAVED
            self.accuse(fault.kind, fault.detail)

    def accuse(self, kind: Misbehaviour, detail: str, protocol: str = "") -> None:
        """Report what the peer did wrong."""
        self._switchboard.misbehaved(self.info.ip, self.info.peer, kind, detail, protocol)

    def accuse_and_close(self, kind: Misbehaviour, detail: str) -> None:
        """Report what the peer did, and end the connection for it."""
        if not self._scope.cancel_called:
            self.accuse(kind, detail)
            self.close(DisconnectReason.MISBEHAVED)

    def send(self, rpc: Rpc) -> bool:
        """Queue gossip; False if it was dropped: the queue is full, or the connection ends."""
        size = rpc.size()
        outboxes = self.budget.outbox
        full = not outboxes.fits(self, size) or len(self._outbox) >= OUTBOX_RPCS_MAX
        if full or self._scope.cancel_called:
            return False
        self._outbox.append(rpc)
        self._outbox_bytes += size
        self._count_outbox()
        self._to_send.set()
        return True

    def _count_outbox(self) -> None:
        """Count what waits to be sent; where the connection ends, nothing does, though the task
        that sends may come to take one more batch."""
        self.budget.outbox.set(self, 0 if self._scope.cancel_called else self._outbox_bytes)

    async def listen_to(self, gossip: MuxedStream) -> None:
        """Take a peer's gossip from one stream, the last that it opened for it."""
        before, self._gossip_in = self._gossip_in, gossip
        if before is not None:
            await before.reset()

    async def read_gossip(self, stream: MuxedStream) -> tuple[Rpc, int]:
        """Return a peer's next RPC and the units of work that it makes; raises `BadRpcError`,
        `StreamFaultError`, `StreamBrokenError`."""
        if await stream.ended():
            raise StreamBrokenError("the peer gossips no more")
        with trio.move_on_after(WHOLE_READ_S) as reading:
            data = await stream.read(await read_varint(stream, RPC_BYTES_MAX))
        if reading.cancelled_caught:
            # Half of one would be held for ever.
            raise StreamBrokenError(f"no whole RPC in {WHOLE_READ_S:g} s")
        await self.pace.turn()
        rpc = gossip_wire.decode(data)
        return rpc, work_of(rpc, len(data))

    def may_identify(self) -> bool:
        """Return whether the peer is told once more who we are."""
        return self._identifies.take(trio.current_time())

    async def open(self, protocol: str, first: bytes = b"") -> MuxedStream:
        """Open a stream and send `first` on it.

        Raises `StreamBrokenError`, `ProtocolNotServedError`, `StreamFaultError`.

        `first` must fit a stream's first window."""
        stream = await self._new_stream()
        try:
            await propose(stream, protocol, first)
        except BaseException:
            await stream.reset()
            raise
        return stream

    async def _new_stream(self) -> MuxedStream:
        try:
            return MuxedStream(await self._upgraded.muxer.open_stream())
        except (MuxedStreamError, IOException, RawConnError) as error:
            raise StreamBrokenError(str(error)) from None

    async def run(
        self,
        served: tuple[str, ...],
        serve: Callable[[str, MuxedStream], Awaitable[None]],
    ) -> None:
        """Run until closed by either side; `reason` then says by whom."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._multiplex)
                nursery.start_soon(self._watch)
                nursery.start_soon(self._greet)
                nursery.start_soon(self._accept, nursery, served, serve)
        await self._upgraded.muxer._cleanup_on_error()

    async def _multiplex(self) -> None:
        try:
            await self._upgraded.muxer.start()
        except Exception:  # noqa: BLE001 - whatever a peer can make libp2p raise ends it only
            self._switchboard.fault("net.multiplexer_failed", peer=self.info.peer)
        self.close(DisconnectReason.REMOTE)

    async def _watch(self) -> None:
        await self._upgraded.muxer.is_dead.wait()
        self.close(DisconnectReason.DEAD)

    async def _greet(self) -> None:
        """Ask the peer what it is before anything else, then gossip with it."""
        found = Identified()
        try:
            with trio.move_on_after(NEGOTIATE_S):
                found = await self._identify()
        except ProtocolNotServedError:
            pass
        except StreamBrokenError:
            self.close(DisconnectReason.REMOTE)
            return
        except StreamFaultError as error:
            self.accuse(Misbehaviour.BAD_RESPONSE, str(error), IDENTIFY_PROTOCOL)
        self._switchboard.identified(
            PeerIdentified(
                self.info,
                found.agent,
                found.protocols,
                "" if found.observed is None else found.observed.host,
            )
        )
        await self._gossip()

    async def _identify(self) -> Identified:
        stream = await self.open(IDENTIFY_PROTOCOL)
        try:
            return await read_message(stream)
        finally:
            await stream.reset()

    async def _gossip(self) -> None:
        try:
            with trio.fail_after(NEGOTIATE_S):
                stream = await self._new_stream()
                protocol = await propose_one_of(stream, gossip_wire.GOSSIP_PROTOCOLS)
            while True:
                await self._to_send.wait()
                rpcs = gossip_wire.take_batch(self._outbox)
                self._outbox_bytes -= sum(rpc.size() for rpc in rpcs)
                self._count_outbox()
                if not self._outbox:
                    self._to_send = trio.Event()
                data = gossip_wire.encode(rpcs, protocol)
                self.budget.upload.note_gossip(len(data))
                await stream.write(data)
        except trio.TooSlowError:
            self.close(DisconnectReason.DEAD)
        except (StreamBrokenError, ProtocolNotServedError, StreamFaultError):
            self.close(DisconnectReason.REMOTE)

    async def _accept(
        self,
        nursery: trio.Nursery,
        served: tuple[str, ...],
        serve: Callable[[str, MuxedStream], Awaitable[None]],
    ) -> None:
        while True:
            try:
                accepted = await self._upgraded.muxer.accept_stream()
            except MuxedConnUnavailable:
                return
            stream = MuxedStream(cast(YamuxStream, accepted))
            if self._served < SERVED_STREAMS_MAX:
                self._served += 1
                nursery.start_soon(self._serve, stream, served, serve)
                continue
            if not self._refusals.take(trio.current_time()):
                detail = (
                    f"{REFUSED_STREAMS_BURST} streams, and {REFUSED_STREAMS_PER_S} per second, "
                    f"beyond {SERVED_STREAMS_MAX} at a time"
                )
                self.accuse_and_close(Misbehaviour.STREAM_FLOOD, detail)
            await stream.reset()

    async def _serve(
        self,
        stream: MuxedStream,
        served: tuple[str, ...],
        serve: Callable[[str, MuxedStream], Awaitable[None]],
    ) -> None:
        try:
            with trio.CancelScope(deadline=trio.current_time() + NEGOTIATE_S) as scope:
                protocol = await agree_on_stream(stream, served, self.pace)
                scope.deadline = math.inf
                await serve(protocol, stream)
        except StreamFaultError as error:
            self.accuse(Misbehaviour.BAD_REQUEST, str(error))
        except ProtocolNotServedError:
            # An end lets what was answered be read; a reset alone would not.
            await stream.close()
        except StreamBrokenError:
            pass
        except Exception:  # noqa: BLE001 - faults 1, 2: no stream may end the process
            self._switchboard.fault("net.stream_failed", peer=self.info.peer)
        finally:
            await stream.reset()
            self._served -= 1
