"""What a page is sent: the fields of a query and of a form, bounded."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl

import trio
from starlette.types import Receive, Scope

from unchained.node.rpc.core.errors import (
    ForbiddenError,
    InvalidParamsError,
    InvalidRequestError,
    TimedOutError,
    TooLargeError,
)
from unchained.node.rpc.http.asgi import header
from unchained.node.rpc.http.sessions import FORM_TYPE

QUERY_BYTES_MAX: Final = 1024
QUERY_FIELDS_MAX: Final = 8
FORM_BYTES_MAX: Final = 256 * 1024
FORM_SECONDS: Final = 20.0


def query_of(scope: Scope) -> dict[str, str]:
    """Return the fields of an address. Raises TooLargeError, InvalidParamsError."""
    return _fields_of(bytes(scope["query_string"]), QUERY_BYTES_MAX)


def _fields_of(raw: bytes, most: int) -> dict[str, str]:
    """Return the fields of a query or a form. Raises TooLargeError, InvalidParamsError."""
    if len(raw) > most:
        raise TooLargeError(f"at most {most} bytes are read here", limit=most)
    try:
        pairs = parse_qsl(
            raw.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=QUERY_FIELDS_MAX,
        )
    except ValueError:
        raise InvalidParamsError("the fields are not encoded as a form's are") from None
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise InvalidParamsError("a field is given once at most")
    return fields


async def read_form(scope: Scope, receive: Receive) -> dict[str, str]:
    """Return the fields of a form that a page of this site has sent. Raises an RpcError."""
    if header(scope, b"sec-fetch-site") is None and header(scope, b"origin") is None:
        raise ForbiddenError("a form says where it comes from", error="BAD_ORIGIN")
    kind = (header(scope, b"content-type") or b"").partition(b";")[0].strip().lower()
    if kind != FORM_TYPE:
        raise InvalidRequestError(f"a form is sent as {FORM_TYPE.decode()}")
    body = bytearray()
    with trio.move_on_after(FORM_SECONDS) as reading:
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise InvalidRequestError("the form was not sent whole")
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > FORM_BYTES_MAX:
                raise TooLargeError(f"a form has at most {FORM_BYTES_MAX} bytes")
    if reading.cancelled_caught:
        raise TimedOutError(f"the form did not arrive within {FORM_SECONDS:g} s")
    return _fields_of(bytes(body), FORM_BYTES_MAX)
