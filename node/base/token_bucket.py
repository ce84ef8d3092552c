"""Token buckets: what may happen so many times at once, and then so often per second.

The owner of a bucket says what time it is, in seconds of any clock that does not go back.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

BUCKETS_MAX: Final = 8_192
"""Keys whose buckets are kept; the one that was used longest ago goes first."""


class TokenBucket:
    """Holds `capacity` tokens, full at first, and refills by `per_second`."""

    __slots__ = ("_capacity", "_level", "_per_second", "_since")

    def __init__(self, capacity: float, per_second: float, now: float) -> None:
        self._capacity = capacity
        self._per_second = per_second
        self._level = float(capacity)
        self._since = now

    def level(self, now: float) -> float:
        """Return how many tokens there are; negative while more were spent than there were."""
        return min(self._capacity, self._level + (now - self._since) * self._per_second)

    def delay(self, now: float, tokens: float = 1.0) -> float:
        """Return the seconds until there are so many tokens, without taking any."""
        return max(0.0, (tokens - self.level(now)) / self._per_second)

    def take(self, now: float, tokens: float = 1.0) -> bool:
        """Take tokens if there are as many, else none; return whether there were."""
        level = self.level(now)
        enough = level >= tokens
        self._level = level - tokens if enough else level
        self._since = now
        return enough

    def spend(self, now: float, tokens: float = 1.0) -> float:
        """Take tokens in any case; return the seconds until they are there."""
        self._level = self.level(now) - tokens
        self._since = now
        return max(0.0, -self._level / self._per_second)


class KeyedTokenBuckets:
    """A bucket for each key, of at most `BUCKETS_MAX` keys."""

    def __init__(self, capacity: float, per_second: float) -> None:
        self._capacity = capacity
        self._per_second = per_second
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def level(self, key: str, now: float) -> float:
        """Return how many tokens a key's bucket has."""
        bucket = self._buckets.get(key)
        return self._capacity if bucket is None else bucket.level(now)

    def delay(self, key: str, now: float, tokens: float = 1.0) -> float:
        """Return the seconds until a key's bucket has so many tokens, without taking any."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = TokenBucket(self._capacity, self._per_second, now)
        return bucket.delay(now, tokens)

    def take(self, key: str, now: float, tokens: float = 1.0) -> bool:
        """Take tokens of a key's bucket if there are as many, else none; return whether there
        were."""
        return self._use(key, now).take(now, tokens)

    def spend(self, key: str, now: float, tokens: float = 1.0) -> float:
        """Take tokens of a key's bucket in any case; return the seconds until they are there."""
        return self._use(key, now).spend(now, tokens)

    def forget(self, key: str) -> None:
        """Let a key begin anew, with a full bucket."""
        self._buckets.pop(key, None)

    def _use(self, key: str, now: float) -> TokenBucket:
        bucket = self._buckets.pop(key, None)
        if bucket is None:
            bucket = TokenBucket(self._capacity, self._per_second, now)
        self._buckets[key] = bucket
        if len(self._buckets) > BUCKETS_MAX:
            self._buckets.popitem(last=False)
        return bucket
