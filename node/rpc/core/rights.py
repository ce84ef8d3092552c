"""What a caller may do: the one place that every way in asks, be it a method, a batch, a stream of
events or a page.

A caller has an `Access` to the node. Besides, a token may give rights to one wallet: then methods
that touch no other wallet, and nothing but what their scope names, are open to him; and he learns
of no other wallet, not even whether there is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Protocol

import trio

from unchained.node.rpc.core.errors import ForbiddenError, UnauthorizedError
from unchained.node.rpc.core.registry import Access, Method, Scope
from unchained.node.wallet.errors import WalletError
from unchained.node.wallet.spending import Allowance, limited_by

WALLET_PARAMETER: Final = "wallet"
"""How every method calls the parameter that names a wallet."""


class Standing(Protocol):
    """Whether rights are still given that can be taken back: those of a token until it is revoked
    or its wallet is another one, those of a browser's session until it ends."""

    def stands(self) -> bool:
        """Return whether they are."""

    async def wait_revoked(self) -> None:
        """Return once they are not."""


@dataclass(frozen=True, slots=True)
class WalletRights:
    """What a token gives: scopes of one wallet. `allowance` is what it may spend, `standing` says
    whether it is still there."""

    wallet: str
    scopes: frozenset[Scope]
    allowance: Allowance
    standing: Standing


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as far as it matters: what he may do. `rights` None where no token was shown,
    `session` where he is not a browser's, and else what he is let in by; `is_known`: he has shown
    something."""

    access: Access
    rights: WalletRights | None = None
    session: Standing | None = None
    is_known: bool = True

    @property
    def trust(self) -> int:
        """How much he is trusted, for what is scarce: 0 for who has shown nothing."""
        return 0 if not self.is_known else 1 + self.access

    def _standings(self) -> list[Standing]:
        rights = [] if self.rights is None else [self.rights.standing]
        return rights if self.session is None else [*rights, self.session]

    def stands(self) -> bool:
        """Return whether what he may do is still given to him."""
        return all(standing.stands() for standing in self._standings())

    async def wait_revoked(self) -> None:
        """Return once it is not; without a token and a session that is never."""
        async with trio.open_nursery() as nursery:

            async def end(standing: Standing) -> None:
                await standing.wait_revoked()
                nursery.cancel_scope.cancel()

            for standing in self._standings():
                nursery.start_soon(end, standing)
            nursery.start_soon(trio.sleep_forever)

    def reader(self) -> Caller:
        """Return who may read what the node knows of the chain, and no wallet's, for as long as
        what this caller may do is given to him."""
        return Caller(Access.READ, session=self, is_known=self.is_known)

    def check_access(self, access: Access, what: str = "this page") -> None:
        """Raise `UnauthorizedError` where the caller has not that much access to the node."""
        if access > self.access:
            raise UnauthorizedError(f"{what} {_missing(access, self.access)}")

    def check_wallet(self, wallet: object, scope: Scope, what: str = "this page") -> None:
        """Raise `ForbiddenError` where the caller has not that scope of a wallet, and
        `UnauthorizedError` where he has shown nothing that would give one."""
        if self.access >= Access.FULL:
            return
        if self.rights is None:
            raise UnauthorizedError(f"{what} {_missing(Access.FULL, self.access)}")
        self._check_scope(scope, what)
        if wallet != self.rights.wallet:
            # The same answer whether there is such a wallet or not.
            raise ForbiddenError(
                f"the token is for the wallet {self.rights.wallet!r} alone", error="OTHER_WALLET"
            )

    def may_see(self, wallet: str) -> bool:
        """Return whether the caller may know that there is such a wallet."""
        if self.access >= Access.FULL:
            return True
        return self.rights is not None and self.rights.wallet == wallet

    def authorize(
        self, method: Method, params: Mapping[str, Any] | list[Any]
    ) -> Mapping[str, Any] | list[Any]:
        """Return the parameters that the call may be made with: a token's own wallet is named
        where none is. Raises `UnauthorizedError`, `ForbiddenError`, `InvalidParamsError`."""
        if method.access <= self.access:
            return params
        rights = self.rights
        if rights is None:
            raise UnauthorizedError(f"this method {_missing(method.access, self.access)}")
        if method.scope is None:
            raise ForbiddenError(
                f"{method.name} is not for tokens of a wallet: it {_needs(method.access)}",
                error="MISSING_SCOPE",
            )
        self._check_scope(method.scope, method.name)
        if all(parameter.name != WALLET_PARAMETER for parameter in method.parameters):
            return params
        named = dict(method.by_name(params))
        self.check_wallet(
            named.setdefault(WALLET_PARAMETER, rights.wallet), method.scope, method.name
        )
        if method.shows_holdings(named):
            self._check_scope(Scope.READ, method.name + _with(method.reads))
        return named

    @property
    def may_read(self) -> bool:
        """Whether the caller may know what the wallet has that he asks of."""
        return self.rights is None or Scope.READ in self.rights.scopes

    def _check_scope(self, scope: Scope, what: str) -> None:
        assert self.rights is not None, "asked of callers with a token"
        if scope not in self.rights.scopes:
            raise ForbiddenError(
                f"{what} needs a token with the scope {scope}; this one has "
                f"{', '.join(sorted(self.rights.scopes))}",
                error="MISSING_SCOPE",
                scope=str(scope),
            )

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Let what is called inside know its caller, and count what it signs against his limit.

        What a wallet refuses does not tell what it has to whom may not know."""
        token = _CALLER.set(self)
        try:
            limited = None if self.rights is None else self.rights.allowance
            with limited_by(limited):
                yield
        except WalletError as error:
            if self.may_read:
                raise
            raise error.without_amounts() from None
        finally:
            _CALLER.reset(token)


NODE_OWNER: Final = Caller(Access.FULL)
"""Who may do everything."""

STRANGER: Final = Caller(Access.PUBLIC, is_known=False)
"""Who has shown nothing."""

_CALLER: Final[ContextVar[Caller]] = ContextVar("caller", default=STRANGER)


def current_caller() -> Caller:
    """Return who has made the call that is being answered; nobody outside of one."""
    return _CALLER.get()


def _with(reads: bool | tuple[str, ...]) -> str:
    return "" if isinstance(reads, bool) else f" with {' or '.join(reads)}"


def _needs(access: Access) -> str:
    if access is Access.READ:
        return "needs the read-only token, the cookie, or user and password"
    if access is Access.MINE:
        return "needs the miners' token, the cookie, or user and password"
    return "needs the cookie, or user and password"


def _missing(wanted: Access, given: Access) -> str:
    if wanted is Access.FULL and given is Access.READ:
        return "needs full access: the read-only token is not enough"
    if wanted is Access.FULL and given is Access.MINE:
        return "needs full access: the miners' token is not enough"
    return _needs(wanted)
