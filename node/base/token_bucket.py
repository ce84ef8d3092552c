"""Debt in milliseconds of verification, and rates of requests: buckets that refill with time."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

MAX_KEYS: Final = 8_192
"""Debtors remembered; the one that paid back first is forgotten first."""

BUDGET_MS: Final = 2_000.0
"""Debt at which a peer is disconnected and banned."""

REFILL_MS_PER_S: Final = 20.0
"""Debt forgiven per second: 2 % of one core."""


class Debts:
    """What peers owe, by the group that a ban covers. Times in seconds, debts in ms."""

    def __init__(
        self, budget_ms: float = BUDGET_MS, refill_ms_per_s: float = REFILL_MS_PER_S
    ) -> None:
        self._budget_ms = budget_ms
        self._refill = refill_ms_per_s
        self._owed: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def owed(self, group: str, now: float) -> float:
        """Return what a group owes at a time."""
        amount, since = self._owed.get(group, (0.0, now))
        return max(0.0, amount - (now - since) * self._refill)

    def charge(self, group: str, ms: float, now: float) -> bool:
        """Add to a group's debt; tell whether it exceeds the budget, which clears it."""
        amount = self.owed(group, now) + ms
        self._owed.pop(group, None)
        if amount > self._budget_ms:
            return True
        self._owed[group] = (amount, now)
        if len(self._owed) > MAX_KEYS:
            self._owed.popitem(last=False)
        return False

    def __len__(self) -> int:
        return len(self._owed)


class RateLimit:
    """A bucket of `burst` that refills by `per_second`, for each key."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, now: float) -> bool:
        """Take one from the key's bucket, if there is one."""
        level, since = self._levels.pop(key, (self._burst, now))
        level = min(self._burst, level + (now - since) * self._per_second)
        allowed = level >= 1.0
        self._levels[key] = (level - 1.0 if allowed else level, now)
        if len(self._levels) > MAX_KEYS:
            self._levels.popitem(last=False)
        return allowed

    def reserve(self, key: str, now: float) -> float:
        """Take one from the key's bucket in any case; return the seconds until it is there."""
        level, since = self._levels.pop(key, (self._burst, now))
        level = min(self._burst, level + (now - since) * self._per_second) - 1.0
        self._levels[key] = (level, now)
        if len(self._levels) > MAX_KEYS:
            self._levels.popitem(last=False)
        return max(0.0, -level / self._per_second)
