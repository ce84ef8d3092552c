"""wallet.page: a link that opens the wallet's page in a browser."""

from __future__ import annotations

from typing import Annotated, Protocol

import msgspec

from unchained.node.base.user_text import user_text
from unchained.node.rpc.core.errors import UnavailableError
from unchained.node.rpc.core.registry import Access, method
from unchained.node.rpc.core.rights import Caller, current_caller
from unchained.node.rpc.http.sessions import LINK_SECONDS
from unchained.node.rpc.methods.wallet_shapes import WalletName


@user_text(
    """A path at this node that logs one browser in to the wallet's page, once and within so many
    seconds."""
)
class PageLink(msgspec.Struct, frozen=True):
    path: str
    seconds: int


class LinkMaker(Protocol):
    """Who makes links."""

    def link_path(self, caller: Caller, wallet: str | None = None) -> str | None:
        """Return the path of a fresh link with the rights of a caller to the page of a wallet, None
        where there is no such page. Raises `BusyError`."""


class WalletPageRoom:
    """The method that lets a browser in."""

    def __init__(self, site: LinkMaker | None) -> None:
        self._site = site

    @method("wallet.page", Access.FULL, errors=(UnavailableError,))
    @user_text(
        """Return a link that opens the wallet's page in a browser, once and within a minute.

        There is such a page where the node was started with the setting rpc.wallet_page.
        """
    )
    async def page(
        self,
        wallet: Annotated[
            WalletName, msgspec.Meta(description="which wallet it shows first; left out: default")
        ]
        | None = None,
    ) -> PageLink:
        path = None if self._site is None else self._site.link_path(current_caller(), wallet)
        if path is None:
            raise UnavailableError(
                "this node has no wallet page: start it with rpc.wallet_page = true"
            )
        return PageLink(path, int(LINK_SECONDS))
