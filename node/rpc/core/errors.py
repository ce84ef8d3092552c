"""What can go wrong with a call: one class per family, one documented code per class.

RpcError
├── ParseError           -32700  the body is not JSON that this server reads
├── InvalidRequestError  -32600  JSON, but no JSON-RPC 2.0 request
├── MethodNotFoundError  -32601
├── InvalidParamsError   -32602
├── InternalError        -32603  a bug of the node; the log says more than the answer
├── ProtocolRuleError    -32000  a rule of docs/protocol.md is broken; `data.error` is its name
├── NotFoundError        -32001
├── WalletRefusedError   -32002  `data.error`: WALLET_LOCKED, INSUFFICIENT_FUNDS…
├── NotReadyError        -32003  the node is starting, syncing or stopping
├── BusyError            -32004  try again after `data.retry_after` seconds
├── UnauthorizedError    -32005  no credentials, wrong ones, or too weak for the method
├── ForbiddenError       -32006  where the request comes from or goes to is not allowed
├── TimedOutError        -32007
├── TooLargeError        -32008  a request, batch or answer above its limit
├── RefusedError         -32009  well-formed, but the node's state or policy is against it
└── UnavailableError     -32010  this node runs without the part that would answer

Every error carries `data.error`, one word in capitals that a program can compare. Messages and
data are one line and free of secrets. The client raises the same classes.
"""

from __future__ import annotations

from typing import ClassVar, Final

from unchained.node.primitives.errors import ProtocolError

MAX_TEXT: Final = 200
"""Longest text, in characters, that an error repeats of what it was given."""

Data = dict[str, object]
"""The members of an error's `data`, ready for JSON."""


class RpcError(Exception):
    """A call failed. `error` is the word for programs, `data` further members for them."""

    family: ClassVar[str] = "RpcError"
    """Its name in docs/rpc.md and `rpc.discover`."""
    code: ClassVar[int] = -32603
    status: ClassVar[int] = 200
    """HTTP status of a request whose only outcome is this error."""
    word: ClassVar[str] = "ERROR"
    summary: ClassVar[str] = "A call failed."

    def __init__(self, message: str, *, error: str | None = None, **data: object) -> None:
        super().__init__(message)
        self.message = message
        self.error = self.word if error is None else error
        self.data: Data = {"error": self.error, **data}


class ParseError(RpcError):
    """The body is not JSON, or JSON that is ambiguous or too deep."""

    family = "ParseError"
    code = -32700
    status = 400
    word = "PARSE_ERROR"
    summary = "The body is not UTF-8 JSON, names a key twice, or is nested too deep."


class InvalidRequestError(RpcError):
    """The body is JSON but no JSON-RPC 2.0 request."""

    family = "InvalidRequest"
    code = -32600
    status = 400
    word = "INVALID_REQUEST"
    summary = "JSON, but not a JSON-RPC 2.0 request object or a batch of them."


class MethodNotFoundError(RpcError):
    """There is no such method."""

    family = "MethodNotFound"
    code = -32601
    word = "METHOD_NOT_FOUND"
    summary = "There is no such method; the nearest known name is in the message."


class InvalidParamsError(RpcError):
    """A parameter is missing, unknown or of the wrong type."""

    family = "InvalidParams"
    code = -32602
    word = "INVALID_PARAMS"
    summary = "A parameter is missing, unknown, of the wrong type or out of range."


class InternalError(RpcError):
    """The node has a bug; the log names it."""

    family = "InternalError"
    code = -32603
    word = "INTERNAL_ERROR"
    summary = "A bug of the node. The log's event `rpc.failed` says where."


class ProtocolRuleError(RpcError):
    """A rule of the protocol is broken; `error` is the rule's name."""

    family = "ProtocolRule"
    code = -32000
    word = "PROTOCOL_ERROR"
    summary = "A rule of docs/protocol.md is broken: `data.error` names it, with expected, actual."


class NotFoundError(RpcError):
    """The node knows no such thing."""

    family = "NotFound"
    code = -32001
    word = "NOT_FOUND"
    summary = "The node does not know what was asked for."


class WalletRefusedError(RpcError):
    """The wallet cannot do it: locked, unknown, short of funds…"""

    family = "WalletRefused"
    code = -32002
    word = "WALLET_REFUSED"
    summary = "The wallet cannot do it; `data.error` says why (WALLET_LOCKED…)."


class NotReadyError(RpcError):
    """The node is starting, syncing or stopping."""

    family = "NotReady"
    code = -32003
    word = "NOT_READY"
    summary = "The node is starting, syncing or stopping; the same call works later."


class BusyError(RpcError):
    """Too many calls at once; `retry_after` is in seconds."""

    family = "Busy"
    code = -32004
    status = 429
    word = "BUSY"
    summary = "Too many calls at once: try again after `data.retry_after` seconds."

    def __init__(
        self,
        message: str = "too many calls at once",
        *,
        error: str | None = None,
        retry_after: object = 1,
        **data: object,
    ) -> None:
        super().__init__(message, error=error, retry_after=retry_after, **data)


class UnauthorizedError(RpcError):
    """No credentials, wrong ones, or too weak for the method."""

    family = "Unauthorized"
    code = -32005
    status = 401
    word = "UNAUTHORIZED"
    summary = "No credentials, wrong ones, or a token where full access is needed."


class ForbiddenError(RpcError):
    """Where the request comes from or goes to is not allowed, or its token gives other rights."""

    family = "Forbidden"
    code = -32006
    status = 403
    word = "FORBIDDEN"
    summary = (
        "The Host header names another machine, the request comes from a web page, or the token "
        "lacks the scope (MISSING_SCOPE) or is another wallet's (OTHER_WALLET)."
    )


class TimedOutError(RpcError):
    """The call or the request took longer than its limit."""

    family = "TimedOut"
    code = -32007
    word = "TIMED_OUT"
    summary = "The call took longer than the method's limit."


class TooLargeError(RpcError):
    """A request, a batch or an answer is above its limit."""

    family = "TooLarge"
    code = -32008
    status = 413
    word = "TOO_LARGE"
    summary = "A request, a batch or an answer is above its limit: `data.limit`."


class RefusedError(RpcError):
    """Well-formed, but the node's state or policy is against it."""

    family = "Refused"
    code = -32009
    word = "REFUSED"
    summary = "Well-formed, but the node's state or policy is against it; `data.error` says why."


class UnavailableError(RpcError):
    """This node runs without the part that would answer."""

    family = "Unavailable"
    code = -32010
    word = "UNAVAILABLE"
    summary = "This node runs without the part that would answer (wallet, miner…)."


FAMILIES: Final[tuple[type[RpcError], ...]] = (
    ParseError,
    InvalidRequestError,
    MethodNotFoundError,
    InvalidParamsError,
    InternalError,
    ProtocolRuleError,
    NotFoundError,
    WalletRefusedError,
    NotReadyError,
    BusyError,
    UnauthorizedError,
    ForbiddenError,
    TimedOutError,
    TooLargeError,
    RefusedError,
    UnavailableError,
)
"""Every family, in the order of the documentation."""

_BY_CODE: Final = {family.code: family for family in FAMILIES}


def from_protocol(error: ProtocolError) -> ProtocolRuleError:
    """Return the answer for a broken rule: its name, what was expected and what came."""
    data = {
        key: plain(value)
        for key, value in (("expected", error.expected), ("actual", error.actual))
        if value is not None
    }
    return ProtocolRuleError(short(error.in_words()), error=error.name, **data)


def from_wire(code: int, message: str, data: object) -> RpcError:
    """Return the error that an answer's `code`, `message` and `data` stand for.

    A code that is not listed gives a bare `RpcError`.
    """
    family = _BY_CODE.get(code, RpcError)
    members = dict(data) if isinstance(data, dict) else {}
    word = members.pop("error", None)
    return family(
        message,
        error=word if isinstance(word, str) else None,
        **{str(key): value for key, value in members.items()},
    )


def plain(value: object) -> object:
    """Return `value` as JSON can show it: integers and truth as they are, bytes in hex, the
    rest as bounded text."""
    if isinstance(value, bool | int):
        return value
    if isinstance(value, bytes):
        return short(value.hex())
    return short(str(value))


def short(text: str) -> str:
    """Return `text` on one line of at most `MAX_TEXT` characters."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 1] + "…"
