"""What a store must hold."""

from __future__ import annotations

from typing import TypeVar

from unchained.storage.errors import StoreCorruptError

V = TypeVar("V")


def there(value: V | None, what: str) -> V:
    """Return what the store must hold. Raises `StoreCorruptError` if it does not."""
    if value is None:
        raise StoreCorruptError(
            f"the store lacks {what}: restore a backup, or run `unchained-node db check --repair`"
        )
    return value
