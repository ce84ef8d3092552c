"""Transfers that jobs list: their bytes live as long as one of those jobs can be solved.

An anchor may be found on an older template (Protocol §5.5), whatever has become of its transfers
since. A template holds its transfers here by reference; when one of them leaves the mempool and
the store, its bytes go on living with the templates that list it, shared by all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from weakref import WeakValueDictionary

from unchained.node.primitives.types import Wid

LEFT_BYTES_MAX: Final = 64 << 20
"""Bytes of transfers that have left and are kept for jobs; what was listed first goes first."""


class ListedTransfer:
    """A transfer that jobs list. `raw` is its encoding once nothing else has that."""

    __slots__ = ("__weakref__", "raw")

    def __init__(self) -> None:
        self.raw: bytes | None = None


class JobTransfers:
    """The transfers that templates list which are still of use to somebody."""

    def __init__(self, *, most_bytes: int = LEFT_BYTES_MAX) -> None:
        self._listed: WeakValueDictionary[Wid, ListedTransfer] = WeakValueDictionary()
        self._most_bytes = most_bytes
        self._left_at_most = 0
        """Bytes kept, with those that have gone with their jobs since they were last counted."""

    def hold(self, wids: Iterable[Wid]) -> tuple[ListedTransfer, ...]:
        """Return what keeps the bytes of transfers alive as long as it is kept itself."""
        found = []
        for wid in wids:
            listed = self._listed.get(wid)
            if listed is None:
                listed = self._listed[wid] = ListedTransfer()
            found.append(listed)
        return tuple(found)

    def is_listed(self, wid: Wid) -> bool:
        """Return whether a job lists a transfer."""
        return wid in self._listed

    def keep(self, wid: Wid, raw: bytes) -> None:
        """Keep the bytes of a listed transfer that leaves, where there is room."""
        listed = self._listed.get(wid)
        if listed is None:
            return
        listed.raw = raw
        self._left_at_most += len(raw)
        if self._left_at_most <= self._most_bytes:
            return
        left = [one for one in self._listed.values() if one.raw is not None]
        size = sum(len(one.raw or b"") for one in left)
        for one in left:
            if size <= self._most_bytes:
                break
            size -= len(one.raw or b"")
            one.raw = None
        self._left_at_most = size

    def get(self, wid: Wid) -> bytes | None:
        """Return the bytes of a transfer that has left and that a job lists."""
        listed = self._listed.get(wid)
        return None if listed is None else listed.raw
