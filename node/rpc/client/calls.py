"""What a call looks like on its way to a node and back, whatever carries it: requests as bytes,
answers as results, and the log as events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from unchained.node.rpc.client.endpoint import UnreachableError
from unchained.node.rpc.core.errors import RpcError, from_wire, short
from unchained.node.rpc.core.values import decode, encode

Params = Mapping[str, object] | Sequence[object]

ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
EVENT_BYTES_MAX: Final = 1024 * 1024
PIECE_BYTES: Final = 64 * 1024
"""Bytes read at once."""


class LogEvent(msgspec.Struct, frozen=True, gc=False):
    """One event of the node's log, `data` as plain JSON."""

    sequence: int
    kind: str
    data: Any


class EventParser:
    """Server-sent events from the bytes of a stream, in whatever pieces they come."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[LogEvent]:
        """Return the events that `data` completes. Raises UnreachableError for what is none."""
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        if len(self._rest) > EVENT_BYTES_MAX:
            raise UnreachableError(f"an event is above {EVENT_BYTES_MAX} bytes")
        return [event for block in blocks if (event := self._read(block)) is not None]

    @staticmethod
    def _read(block: bytes) -> LogEvent | None:
        fields = {
            name: value.removeprefix(b" ")
            for name, _, value in (line.partition(b":") for line in block.split(b"\n"))
            if name
        }
        if not fields:
            return None
        try:
            sequence, kind, data = fields[b"id"], fields[b"event"], fields[b"data"]
            return LogEvent(int(sequence), kind.decode(), msgspec.json.decode(data))
        except (KeyError, ValueError):
            raise UnreachableError("the node sent an event that cannot be read") from None


def request_of(
    identity: int, method: str, params: Params, into: Any
) -> tuple[bytes, Callable[[bytes], Any]]:
    """Return the body of a call, and what turns the answer's body into its result."""

    def read(answer: bytes) -> Any:
        reply = _json(answer)
        result = _result(reply)
        if isinstance(result, RpcError):
            raise result
        if reply.get("id") != identity:
            raise UnreachableError("the answer belongs to another call")
        try:
            return msgspec.convert(result, into, dec_hook=decode)
        except msgspec.ValidationError as error:
            raise UnreachableError(short(f"{method} gave another result: {error}")) from None

    return _encode(identity, method, params), read


def batch_of(
    ids: Iterator[int], calls: Iterable[tuple[str, Params]]
) -> tuple[bytes, Callable[[bytes], list[Any]]]:
    """Return the body of a batch, and what turns the answer's body into its results, in order."""
    bodies: dict[int, bytes] = {}
    for method, params in calls:
        identity = next(ids)
        bodies[identity] = _encode(identity, method, params)

    def read(answer: bytes) -> list[Any]:
        replies = _json(answer)
        if not isinstance(replies, list):
            raise refusal_in(answer)
        found = {reply["id"]: _result(reply) for reply in replies}
        if found.keys() != bodies.keys():
            raise UnreachableError("the answer belongs to another batch")
        return [found[identity] for identity in bodies]

    return b"[" + b",".join(bodies.values()) + b"]", read


def _encode(identity: int, method: str, params: Params) -> bytes:
    call = {"jsonrpc": "2.0", "id": identity, "method": method, "params": params}
    return msgspec.json.encode(call, enc_hook=encode)


def _json(answer: bytes) -> Any:
    try:
        return msgspec.json.decode(answer)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise UnreachableError("the answer is no JSON: is this a node's RPC port?") from None


def _result(reply: Any) -> Any:
    """Return the result in a reply, or raise the error that it reports."""
    if isinstance(reply, dict):
        error = reply.get("error")
        if isinstance(error, dict):
            code, message = error.get("code"), error.get("message")
            if isinstance(code, int) and isinstance(message, str):
                return from_wire(code, message, error.get("data"))
        elif "result" in reply and "id" in reply:
            return reply["result"]
    raise UnreachableError("the answer is no JSON-RPC: is this a node's RPC port?")


def refusal_in(answer: bytes) -> Exception:
    """Return the error in an answer that is one."""
    error = _result(_json(answer))
    return error if isinstance(error, RpcError) else UnreachableError("the answer is no error")


def expect_events(content_type: str | None) -> None:
    """Raise UnreachableError where the answer is no stream of events."""
    if content_type != "text/event-stream":
        raise UnreachableError("the answer is no stream of events: is this a node's RPC port?")


def events_path(since: int | None, wallet: str | None = None) -> str:
    """Return where the log after `since` is followed, of the node or of a wallet; None: from now
    on."""
    fields = {"wallet": wallet, "since": since}
    query = urlencode({name: value for name, value in fields.items() if value is not None})
    return f"/events?{query}" if query else "/events"
