"""Request and response over one stream each.

A request is its length (u32) and its bytes; an answer is a status byte (`ResponseStatus`), a length
(u32) and its bytes. The asking side may end its half once the request is sent; a reset of the
stream means that nobody waits for the answer any more.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import trio

from unchained.node.transport.contract import (
    BadResponseError,
    Misbehaviour,
    PeerGoneError,
    ProtocolUnsupportedError,
    RequestFailedError,
    RequestRefusedError,
    RequestTooLargeError,
    ResponseTooLargeError,
)
from unchained.node.transport.libp2p.budget import NodeBudget
from unchained.node.transport.libp2p.connection import WHOLE_READ_S, Connection
from unchained.node.transport.libp2p.pace import PRICE_OF_REFUSAL, WORK_PER_REFUSAL
from unchained.node.transport.libp2p.streams import (
    CHUNK_BYTES,
    MuxedStream,
    ProtocolNotServedError,
    StreamBrokenError,
    StreamFaultError,
)
from unchained.node.transport.served import Place
from unchained.node.transport.switchboard import ResponseStatus, Switchboard

REQUEST_AT_ONCE_BYTES: Final = 128 << 10
"""Bytes of a request that are sent along with the protocol's name, without waiting."""


async def ask(connection: Connection, protocol: str, payload: bytes, max_response: int) -> bytes:
    """Send a request and return the answer; raises `RequestError` but for the timeout."""
    peer = connection.info.peer
    bad = Misbehaviour.BAD_RESPONSE
    data = len(payload).to_bytes(4, "big") + payload
    at_once = len(data) <= REQUEST_AT_ONCE_BYTES
    try:
        stream = await connection.open(protocol, data if at_once else b"")
    except ProtocolNotServedError:
        raise ProtocolUnsupportedError(peer, protocol, "not served") from None
    except StreamBrokenError as error:
        raise PeerGoneError(peer, protocol, str(error) or "the connection broke") from None
    except StreamFaultError as error:
        connection.accuse(bad, str(error), protocol)
        raise BadResponseError(peer, protocol, str(error)) from None
    try:
        head = await stream.read(5) if at_once else await _send(stream, data)
        status, length = head[0], int.from_bytes(head[1:], "big")
        if status == ResponseStatus.REFUSED:
            raise RequestRefusedError(peer, protocol, "refused")
        if status == ResponseStatus.TOO_LARGE:
            raise RequestTooLargeError(peer, protocol, f"{len(payload)} bytes are too many")
        if status == ResponseStatus.FAILED:
            raise RequestFailedError(peer, protocol, "the handler failed")
        if status != ResponseStatus.OK:
            connection.accuse(bad, f"status {status}", protocol)
            raise BadResponseError(peer, protocol, f"status {status}")
        if length > max_response:
            connection.accuse(bad, f"{length} bytes, at most {max_response}", protocol)
            raise ResponseTooLargeError(peer, protocol, f"{length} bytes, at most {max_response}")
        response = await stream.read(length)
        await stream.close()
    except StreamBrokenError as error:
        raise PeerGoneError(peer, protocol, str(error) or "the stream broke") from None
    finally:
        await stream.reset()
    return response


async def _send(stream: MuxedStream, data: bytes) -> bytes:
    """Send a request and return its answer's head, which may come before all is sent."""
    head: bytes | StreamBrokenError
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_write, stream, data)
        try:
            head = await stream.read(5)
        except StreamBrokenError as error:
            head = error
        nursery.cancel_scope.cancel()
    if isinstance(head, StreamBrokenError):
        raise head
    return head


async def _write(stream: MuxedStream, data: bytes) -> None:
    with suppress(StreamBrokenError):
        await stream.write(data)


async def answer(
    switchboard: Switchboard, connection: Connection, protocol: str, stream: MuxedStream
) -> None:
    """Serve the one request of a stream; its place is kept until the answer is taken."""
    budget = connection.budget
    if budget.upload.is_busy:
        # That is nothing that the peer did.
        await _refuse(connection, stream, WORK_PER_REFUSAL)
        return
    place = switchboard.enter(connection.info.peer, protocol)
    if place is None:
        await _refuse(connection, stream, PRICE_OF_REFUSAL)
        return
    try:
        with place.scope:
            if budget.answers.has_room(place):
                await _serve(switchboard, connection, protocol, stream, place)
            else:
                switchboard.counters.requests_refused += 1
                await _refuse(connection, stream, PRICE_OF_REFUSAL)
    finally:
        budget.answers.leave(place)
        switchboard.leave(place, protocol)


async def _refuse(connection: Connection, stream: MuxedStream, price: int) -> None:
    """Answer none of a request. Whoever asks pays for it, whatever there is no room for."""
    await connection.pace.spend(WORK_PER_REFUSAL, price=price)
    with trio.move_on_after(WHOLE_READ_S):
        await _reply(stream, ResponseStatus.REFUSED, b"")


async def _serve(
    switchboard: Switchboard,
    connection: Connection,
    protocol: str,
    stream: MuxedStream,
    place: Place,
) -> None:
    limits = switchboard.served[protocol].limits
    with trio.move_on_after(WHOLE_READ_S) as reading:
        length = int.from_bytes(await stream.read(4), "big")
        if length > limits.max_request:
            detail = f"{length} bytes, at most {limits.max_request}"
            connection.accuse(Misbehaviour.OVERSIZED_REQUEST, detail, protocol)
            await _reply(stream, ResponseStatus.TOO_LARGE, b"")
            return
        payload = await stream.read(length)
    if reading.cancelled_caught:
        detail = f"no whole request in {WHOLE_READ_S} s"
        connection.accuse(Misbehaviour.BAD_REQUEST, detail, protocol)
        return
    answered: tuple[ResponseStatus, bytes] | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_when_abandoned, stream, nursery.cancel_scope)
        answered = await switchboard.handle(connection.info.peer, protocol, payload)
        nursery.cancel_scope.cancel()
    if answered is not None:
        await _give(switchboard, connection, stream, place, *answered)


async def _give(
    switchboard: Switchboard,
    connection: Connection,
    stream: MuxedStream,
    place: Place,
    status: ResponseStatus,
    response: bytes,
) -> None:
    if not connection.budget.answers.hold(place, len(response)):
        switchboard.counters.requests_refused += 1
        await _refuse(connection, stream, PRICE_OF_REFUSAL)
        return
    with trio.move_on_after(WHOLE_READ_S):
        await _reply(stream, status, response, connection.budget, place)


async def _reply(
    stream: MuxedStream,
    status: ResponseStatus,
    response: bytes,
    budget: NodeBudget | None = None,
    place: Place | None = None,
) -> None:
    """Send an answer, some of it at a time, and wait until it is taken."""
    head = bytes((status,)) + len(response).to_bytes(4, "big")
    for at in range(0, max(1, len(response)), CHUNK_BYTES):
        part = response[at : at + CHUNK_BYTES]
        if budget is not None and place is not None:
            await budget.upload.turn(len(part))
            budget.answers.progressed(place)
        await stream.write(part if at else head + part)
    await stream.close()
    await stream.ended()


async def _cancel_when_abandoned(stream: MuxedStream, scope: trio.CancelScope) -> None:
    await stream.abandoned()
    scope.cancel()
