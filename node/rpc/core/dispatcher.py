"""JSON-RPC 2.0 without HTTP: the bytes of a request in, the bytes of an answer out."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.base.counted import ChannelStatistics
from unchained.node.base.latency import Latency, LatencyStatistics
from unchained.node.primitives.errors import ProtocolError
from unchained.node.rpc.core.call_places import CallLimits, CallPlaces
from unchained.node.rpc.core.errors import (
    InternalError,
    InvalidParamsError,
    InvalidRequestError,
    ParseError,
    RpcError,
    TimedOutError,
    TooLargeError,
    from_protocol,
    short,
)
from unchained.node.rpc.core.registry import Access, Method, Registry
from unchained.node.rpc.core.rights import Caller
from unchained.node.rpc.core.values import encode

_VERSION: Final = "2.0"
_EARLIER: Final = ("1.0", "1.1")
"""What requests of Bitcoin-style clients may name as their version; most name none."""
_BRACKETS_ONLY: Final = bytes(sorted(set(range(256)) - set(b"[]{}")))
_LONGEST_ID: Final = 256
"""Longest id, in characters, that an answer repeats."""

Gone = Callable[[], Awaitable[None]]
"""Returns once the caller has gone away."""

Translation = tuple[type[Exception], Callable[[Any], RpcError]]
"""An exception of another room, and how to answer for it."""


class CallStatistics(msgspec.Struct, frozen=True):
    """What one method has seen. `seconds` is the sum over its calls, waiting included; `words` say
    how calls that failed did, and how often each."""

    calls: int
    errors: int
    seconds: float
    words: Mapping[str, int] = msgspec.field(default_factory=dict)


class DispatcherStatistics(msgspec.Struct, frozen=True):
    """Calls by method, how long they took, and how many of the owner's wait for their turn."""

    methods: Mapping[str, CallStatistics]
    latency: LatencyStatistics
    queue: ChannelStatistics


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of a request: an HTTP status and a body, empty for notifications."""

    status: int
    body: bytes
    retry_after: int | None = None


@dataclass(slots=True)
class _Tally:
    calls: int = 0
    seconds: float = 0.0
    words: Counter[str] = field(default_factory=Counter)


class Dispatcher:
    """Reads requests, runs methods, writes answers. One per server."""

    def __init__(
        self,
        registry: Registry,
        *,
        limits: CallLimits,
        log: FilteringBoundLogger,
        translations: Iterable[Translation] = (),
    ) -> None:
        self._registry = registry
        self._limits = limits
        self._log = log
        self._translations: tuple[Translation, ...] = (
            *translations,
            (ProtocolError, from_protocol),
        )
        self._places = CallPlaces(limits)
        self._tallies: dict[str, _Tally] = {}
        self.latency = Latency()
        """How long calls take, those that wait for something to happen left out."""

    @property
    def registry(self) -> Registry:
        """The methods that are called."""
        return self._registry

    def statistics(self) -> DispatcherStatistics:
        """Return a snapshot of what each method that was called has seen, and who waits."""
        methods = {
            name: CallStatistics(tally.calls, tally.words.total(), tally.seconds, dict(tally.words))
            for name, tally in self._tallies.items()
        }
        return DispatcherStatistics(methods, self.latency.statistics(), self._places.queue())

    async def answer(self, body: bytes, caller: Caller, gone: Gone = trio.sleep_forever) -> Answer:
        """Return the answer to a request's body from a caller.

        Never raises for what the caller or a method did. Cancelling it cancels the call that
        is running; those before it in a batch have happened.
        """
        try:
            request = read_json(body, self._limits.depth)
            if not isinstance(request, list):
                return await self._single(request, caller, gone)
            return await self._batch(request, caller, gone)
        except RpcError as error:
            return refusal(error)

    async def result(self, name: str, params: dict[str, Any], caller: Caller) -> bytes:
        """Return the result of one call, as JSON, to a caller, under the same limits as others.

        Raises an RpcError. Cancelling it cancels the call.
        """
        return await self._call(self._registry.find(name), params, caller, trio.sleep_forever)

    async def _single(self, request: Any, caller: Caller, gone: Gone) -> Answer:
        reply, error = await self._handle(request, caller, gone)
        if reply is None:
            return Answer(204, b"")
        limit = self._answer_bytes(caller)
        if len(reply) > limit:
            error = _too_long(limit)
            reply = _failure(error, request)
        if error is None:
            return Answer(200, reply)
        return Answer(error.status, reply, _retry_after(error))

    async def _batch(self, requests: list[Any], caller: Caller, gone: Gone) -> Answer:
        limit = self._limits.batch
        if not requests:
            raise InvalidRequestError("a batch holds at least one request")
        if len(requests) > limit:
            raise TooLargeError(
                f"a batch holds at most {limit} requests, not {len(requests)}", limit=limit
            )
        replies: list[bytes] = []
        size = 0
        most = self._answer_bytes(caller)
        for request in requests:
            if size > most:
                reply: bytes | None = _failure(_too_long(most), request)
            else:
                reply, _ = await self._handle(request, caller, gone)
            if reply is None:
                continue
            if size + len(reply) > most:
                size = most + 1
                reply = _failure(_too_long(most), request)
            else:
                size += len(reply)
            replies.append(reply)
        if not replies:
            return Answer(204, b"")
        return Answer(200, b"[" + b",".join(replies) + b"]")

    async def _handle(
        self, request: Any, caller: Caller, gone: Gone
    ) -> tuple[bytes | None, RpcError | None]:
        """Return the reply (none to a notification) and the error that it reports, if any."""
        silent = False
        try:
            name, params, silent = _read_request(request)
            result = await self._call(self._registry.find(name), params, caller, gone)
        except RpcError as error:
            return (None if silent else _failure(error, request)), error
        if silent:
            return None, None
        return _success(msgspec.Raw(result), request), None

    async def _call(
        self, method: Method, given: dict[str, Any] | list[Any], caller: Caller, gone: Gone
    ) -> bytes:
        """Return the method's result as JSON, or raise an RpcError."""
        params = caller.authorize(method, given)
        tally = self._tallies.setdefault(method.name, _Tally())
        began = trio.current_time()
        tally.calls += 1
        try:
            async with self._places.place(caller, is_long_poll=method.long_poll):
                limit = method.timeout or self._limits.call_seconds
                with trio.move_on_after(limit) as scope, caller.acting():
                    if method.long_poll:
                        result = await _unless_gone(method, params, gone)
                    else:
                        result = await method.call(params)
                    return msgspec.json.encode(result, enc_hook=encode)
            if scope.cancelled_caught:
                raise TimedOutError(f"{method.name} took longer than {limit:g} s", limit=limit)
            raise InternalError(f"{method.name} was given up")
        except Exception as error:  # noqa: BLE001 - answered for below
            cause = _sole(error)
            known = isinstance(cause, RpcError)
            answer = cause if isinstance(cause, RpcError) else self._explain(method, cause)
            tally.words[answer.error] += 1
            raise answer from None if known else cause
        finally:
            took = trio.current_time() - began
            tally.seconds += took
            if not method.long_poll:
                self.latency.note(took)

    def _answer_bytes(self, caller: Caller) -> int:
        is_public = caller.rights is None and caller.access is Access.PUBLIC
        return self._limits.public_answer_bytes if is_public else self._limits.answer_bytes

    def _explain(self, method: Method, error: Exception) -> RpcError:
        for kind, translate in self._translations:
            if isinstance(error, kind):
                return translate(error)
        self._log.error(
            "rpc.failed",
            method=method.name,
            error=type(error).__name__,
            text=None if method.secret else short(str(error)),
            where=frames(error),
        )
        return InternalError(
            f"{method.name} failed inside the node: look for rpc.failed in its log"
        )


def refusal(error: RpcError) -> Answer:
    """Return the answer to a request that fails as a whole."""
    return Answer(error.status, _failure(error, {"jsonrpc": _VERSION}), _retry_after(error))


def _too_long(limit: int) -> TooLargeError:
    return TooLargeError(f"the answer is above {limit} bytes: ask for less", limit=limit)


def frames(error: BaseException) -> str:
    """Return where `error` came from, innermost last: no source, no locals, no message."""
    return " > ".join(
        f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)[-6:]
    )


def read_json(body: bytes, depth: int) -> Any:
    """Return the JSON value of `body`.

    Raises ParseError for anything but one JSON value in UTF-8, for NaN and numbers out of range,
    for brackets more than `depth` deep, and for an object that names a key twice, which two
    readers could read differently.
    """
    pairs = _bound(body, depth)
    try:
        value = msgspec.json.decode(body)
    except UnicodeDecodeError:
        raise ParseError("the body is not UTF-8") from None
    except RecursionError:
        raise _too_deep(depth) from None
    except msgspec.MsgspecError as error:
        raise ParseError(f"the body is not JSON: {short(str(error))}") from None
    if pairs and _count_pairs(value) != pairs:
        raise ParseError("an object names a key twice")
    return value


def _bound(body: bytes, depth: int) -> int:
    """Return how many key-value pairs the text of `body` holds; all in C, before it is parsed.

    Outside of strings each colon makes a pair. Brackets are bounded by taking away the innermost
    pairs `depth` times: what is left then is too deep (or unbalanced, and no JSON).
    """
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside = b"".join(bare.split(b'"')[::2])
    brackets = outside.translate(None, _BRACKETS_ONLY)
    for _ in range(depth):
        if not brackets:
            break
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    if brackets:
        raise _too_deep(depth)
    return outside.count(b":")


def _too_deep(depth: int) -> ParseError:
    return ParseError(
        f"the brackets do not match, or are nested deeper than {depth} levels", limit=depth
    )


def _count_pairs(value: Any) -> int:
    count = 0
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            count += len(item)
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
    return count


def _identity(request: Any) -> str | int | None:
    """Return the id that an answer to `request` repeats: none where it has no usable one."""
    identity = request.get("id") if isinstance(request, dict) else None
    if isinstance(identity, bool) or not isinstance(identity, str | int):
        return None
    return identity if isinstance(identity, int) or len(identity) <= _LONGEST_ID else None


def _read_request(request: Any) -> tuple[str, dict[str, Any] | list[Any], bool]:
    """Return method, params, and whether it is a notification (no id: no reply)."""
    if not isinstance(request, dict):
        raise InvalidRequestError(f"a request is an object, not {_kind(request)}")
    if not _is_earlier(request) and request["jsonrpc"] != _VERSION:
        raise InvalidRequestError('a request has "jsonrpc": "2.0"')
    if request.get("id") != _identity(request):
        raise InvalidRequestError(
            f"an id is an integer, null or a string of at most {_LONGEST_ID} characters"
        )
    name = request.get("method")
    if not isinstance(name, str):
        raise InvalidRequestError("a request names its method in a string")
    params = request.get("params", {})
    if params is None and _is_earlier(request):
        params = []
    if not isinstance(params, dict | list):
        raise InvalidParamsError(f"params are an object or an array, not {_kind(params)}")
    return name, params, "id" not in request and not _is_earlier(request)


def _is_earlier(request: Any) -> bool:
    """Return whether a request is one of JSON-RPC 1.0, as Bitcoin-style clients send it: its answer
    has a result and an error, of which one is null, and there is always one."""
    return isinstance(request, dict) and request.get("jsonrpc", _EARLIER[0]) in _EARLIER


def _kind(value: object) -> str:
    kinds = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        int: "an integer",
        float: "a number with a fraction",
    }
    return kinds.get(type(value), "null")


def _success(result: object, request: Any) -> bytes:
    """Return the reply to a request that was carried out."""
    if _is_earlier(request):
        reply = {"result": result, "error": None, "id": _identity(request)}
    else:
        reply = {"jsonrpc": _VERSION, "result": result, "id": _identity(request)}
    return msgspec.json.encode(reply)


def _failure(error: RpcError, request: Any) -> bytes:
    """Return the reply to a request that failed."""
    told = {"code": error.code, "message": error.message, "data": error.data}
    if _is_earlier(request):
        reply = {"result": None, "error": told, "id": _identity(request)}
    else:
        reply = {"jsonrpc": _VERSION, "error": told, "id": _identity(request)}
    return msgspec.json.encode(reply, enc_hook=encode)


def _sole(error: Exception) -> Exception:
    """Return the one exception in a group of one, as a method's nursery raises it."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _retry_after(error: RpcError) -> int | None:
    after = error.data.get("retry_after")
    return after if isinstance(after, int) else None


async def _unless_gone(method: Method, params: Mapping[str, Any] | list[Any], gone: Gone) -> Any:
    """Run a method that waits, and cancel it when its caller goes away."""
    outcome: list[Any] = []
    failure: list[Exception] = []
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            try:
                outcome.append(await method.call(params))
            except Exception as error:  # noqa: BLE001 - handed to the caller below
                failure.append(error)
            nursery.cancel_scope.cancel()

        nursery.start_soon(run)
        await gone()
        nursery.cancel_scope.cancel()
    if failure:
        raise failure[0]
    if not outcome:
        raise TimedOutError(f"{method.name}: the caller went away")
    return outcome[0]
