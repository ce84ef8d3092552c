"""What pages of other rooms are to the server, and what it lends them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from unchained.node.rpc.core.registry import Access
from unchained.node.rpc.core.rights import Caller
from unchained.node.rpc.http.sessions import SessionRequest


@dataclass(frozen=True, slots=True)
class WebPage:
    """A page of another room's: `GET path` gives what `endpoint` returns to callers with
    `access`."""

    path: str
    endpoint: Callable[[Request], Awaitable[Response]]
    access: Access = Access.READ


class MethodCaller(Protocol):
    """Calls the server's methods, on behalf of a caller."""

    async def result(self, name: str, params: dict[str, Any], caller: Caller) -> bytes:
        """Return the result of one call as JSON. Raises an RpcError."""


class TokenCheck(Protocol):
    """Knows the tokens of the server."""

    async def caller(self, header: bytes | None) -> Caller:
        """Return what an Authorization header allows. Raises UnauthorizedError."""


class WebSite(Protocol):
    """A site that answers whatever path the server itself does not know."""

    async def serve(
        self, services: SiteServices, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer a request that has passed the gate; it comes from `services.caller`."""


@dataclass(frozen=True, slots=True)
class SiteServices:
    """What the server lends its site for one request. `caller` has the rights of its session, if it
    belongs to one and is proven to."""

    methods: MethodCaller
    tokens: TokenCheck
    events: ASGIApp
    caller: Caller
    session: SessionRequest | None = None
