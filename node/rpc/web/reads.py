"""What pages read: the results of methods, of none above `read` but for the wallet's own."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import msgspec

from unchained.node.rpc.core.errors import NotFoundError, RefusedError, UnavailableError
from unchained.node.rpc.core.registry import Access
from unchained.node.rpc.core.rights import Caller
from unchained.node.rpc.http.web_site import MethodCaller

PAGE_ACCESS: Final = Access.READ
"""What lets somebody see the page, and what a page may call, whoever looks at it."""


class PageReads:
    """Calls methods for one page; results come as plain JSON values. Above `read` are those alone
    that the page needs and names in `also`: the wallet's, in a session that was begun for them.
    `is_known`: who looks at it has shown something; else his calls take the places of those who
    have not."""

    def __init__(
        self, methods: MethodCaller, also: Collection[str] = (), *, is_known: bool = True
    ) -> None:
        self._methods = methods
        self._also = also
        self._is_known = is_known

    async def get(self, name: str, **params: Any) -> Any:
        """Return a method's result. Raises an RpcError."""
        access = Access.FULL if name in self._also else PAGE_ACCESS
        caller = Caller(access, is_known=self._is_known)
        return msgspec.json.decode(await self._methods.result(name, params, caller))

    async def find(self, name: str, **params: Any) -> Any:
        """Return a method's result, None where the node does not have it."""
        try:
            return await self.get(name, **params)
        except (NotFoundError, RefusedError, UnavailableError):
            return None
