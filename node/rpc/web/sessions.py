"""Sessions of browsers that have shown a token: kept in memory, gone with the node."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

from unchained.node.base.clock import Clock
from unchained.node.base.randomness import SYSTEM

SESSION_NAME: Final = "unchained-page"
"""Name of the cookie."""

SESSION_HOURS: Final = 12
SESSIONS_MAX: Final = 64
"""Sessions at a time; the one begun longest ago goes first."""

_TOKEN_BYTES: Final = 32
_TOKEN_DIGITS: Final = 2 * _TOKEN_BYTES


class PageSessions:
    """Who has logged in; knows no more of a session than the digest of its secret."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: OrderedDict[bytes, int] = OrderedDict()

    def begin(self) -> str:
        """Return the secret of a fresh session."""
        secret = SYSTEM.token_bytes(_TOKEN_BYTES).hex()
        self._until[_digest(secret)] = self._clock.now_ms() + SESSION_HOURS * 3_600_000
        while len(self._until) > SESSIONS_MAX:
            self._until.popitem(last=False)
        return secret

    def is_open(self, secret: str | None) -> bool:
        """Return whether a secret is that of a session which has not ended."""
        if secret is None or len(secret) != _TOKEN_DIGITS:
            return False
        key = _digest(secret)
        until = self._until.get(key)
        if until is None:
            return False
        if until <= self._clock.now_ms():
            del self._until[key]
            return False
        return True

    def end(self, secret: str | None) -> None:
        """End a session, if there is such a one."""
        if secret is not None:
            self._until.pop(_digest(secret), None)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="replace")).digest()
