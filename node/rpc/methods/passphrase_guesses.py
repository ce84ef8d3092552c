"""How often the bearers of tokens may try passphrases: each try takes a core and hundreds of
megabytes for a second, and the owner's own stands in line behind it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from unchained.node.rpc.core.errors import BusyError
from unchained.node.rpc.core.rights import current_caller
from unchained.node.wallet.errors import WrongPassphraseError

WAIT_FIRST_S: Final = 1.0
WAIT_LAST_S: Final = 600.0
"""Seconds until the tokens of a wallet may try again after a wrong passphrase, doubling."""


class PassphraseGuesses:
    """Lets one token try at a time, and none soon after it was wrong. The owner tries at will."""

    def __init__(self) -> None:
        self._wrong: dict[str, tuple[int, float]] = {}
        self._is_trying = False

    @contextmanager
    def attempt(self, wallet: str) -> Iterator[None]:
        """Try a wallet's passphrase inside, on behalf of the current caller. Raises `BusyError`
        where it is too soon."""
        if current_caller().rights is None:
            yield
            self._wrong.pop(wallet, None)
            return
        times, until = self._wrong.get(wallet, (0, 0.0))
        left = until - trio.current_time()
        if left > 0:
            raise BusyError(
                "the last passphrase by a token was wrong: the next is tried later",
                retry_after=int(left) + 1,
            )
        if self._is_trying:
            raise BusyError("another token's passphrase is being tried")
        self._is_trying = True
        try:
            yield
        except WrongPassphraseError:
            wait_s = min(WAIT_FIRST_S * 2 ** min(times, 30), WAIT_LAST_S)
            self._wrong[wallet] = times + 1, trio.current_time() + wait_s
            raise
        finally:
            self._is_trying = False
        self._wrong.pop(wallet, None)
